"""What lets one page be read in the repository and as a part of the site.

A link names a file of the repository (```text <../run/state.rst#tables>`_``),
which is what a page shows that is read there. Here such a link is led to the
page of the site, and its anchor is looked for. A file that is no page is put
beside the site.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Optional
from urllib.parse import urlsplit

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.utils import get_source_line
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)


class NoContents(Directive):
    """``contents``: the theme shows them beside each page."""

    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {
        "local": directives.flag,
        "depth": directives.nonnegative_int,
    }

    def run(self) -> list[nodes.Node]:
        return []


def file_of(node: nodes.reference, page: str, root: Path) -> Optional[str]:
    """The file that is linked, from the repository's root; None: a URL.

    :param page: the file that the node's page is made of.
    """
    link = urlsplit(node.get("refuri", ""))
    if link.scheme or link.netloc or not link.path:
        return None
    source, _ = get_source_line(node)
    folder = os.path.dirname(source or page)
    return os.path.relpath(os.path.join(folder, link.path), root)


class Downloads(SphinxTransform):
    """Links of files that are no pages."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        srcdir = Path(self.app.srcdir)
        page = str(self.env.doc2path(self.env.docname))
        for node in list(self.document.findall(nodes.reference)):
            name = file_of(node, page, srcdir.parent)
            if name is None or docname_of(self.app, name) is not None:
                continue
            if not (srcdir.parent / name).is_file():
                logger.warning("no such file: %s", name, location=node)
                continue
            target = os.path.join(os.pardir, name)
            download = addnodes.download_reference(
                "", "", reftarget="/" + target
            )
            download += node.children
            node.replace_self(download)


def docname_of(app: Sphinx, name: str) -> Optional[str]:
    """The page of the site that is made of a file of the repository."""
    if name in app.config.pages_included:
        return str(app.config.pages_included[name])
    found = app.env.path2doc(str(Path(app.srcdir).parent / name))
    return found if found in app.env.found_docs else None


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Lead the links of pages to pages."""
    page = str(app.env.doc2path(docname))
    for node in doctree.findall(nodes.reference):
        name = file_of(node, page, Path(app.srcdir).parent)
        if name is None:
            continue
        target = docname_of(app, name)
        if target is None:
            continue
        anchor = urlsplit(node["refuri"]).fragment
        if anchor and anchor not in app.env.get_doctree(target).ids:
            logger.warning("%s has no #%s", name, anchor, location=node)
        node["refuri"] = app.builder.get_relative_uri(docname, target) + (
            f"#{anchor}" if anchor else ""
        )
        node["internal"] = True


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("pages_included", {}, "env")
    app.add_directive("contents", NoContents, override=True)
    app.add_transform(Downloads)
    app.connect("doctree-resolved", resolve)
    return {"version": "1", "parallel_read_safe": True}
