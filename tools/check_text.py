#!/usr/bin/env python3
"""Check what linters of Python do not read: a part of ``make lint``.

No text file has a space at the end of a line, or more or less than one
newline at its end. Of each ``.rst`` page docutils has nothing to say, its
lines have 79 columns at most (but for literal blocks, which may show what a
program printed, and URLs), and the files that it links are there.

Exits with 1 if there is something to mend, and says where.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from io import StringIO
from typing import ClassVar
from urllib.parse import urlsplit

from docutils.core import publish_doctree
from docutils.nodes import Node, literal_block, reference
from docutils.parsers.rst import Directive, directives
from docutils.utils import get_source_line
from tree import ROOT, files

COLUMNS = 79
# Made by `make bench`: tables as wide as they come, and drawings.
WIDE = "docs/trust/benchmark_figures.rst"
DRAWINGS = "docs/images/"
URL = re.compile(r" *<https://\S+$")  # cannot be broken


class TableOfPages(Directive):  # type: ignore[misc]
    """``toctree``, which is Sphinx's: ``make docs`` looks at it."""

    has_content = True
    option_spec: ClassVar = {
        "caption": directives.unchanged,
        "glob": directives.flag,
        "hidden": directives.flag,
        "maxdepth": directives.nonnegative_int,
        "titlesonly": directives.flag,
    }

    def run(self) -> list[Node]:
        return []


directives.register_directive("toctree", TableOfPages)


def faults_of_text(name: str, text: str) -> Iterator[str]:
    """What is wrong in any text file."""
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield f"{name}:{number}: space at the end of the line"
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        yield f"{name}: must end with one newline"


def faults_of_page(name: str, text: str) -> Iterator[str]:
    """What is wrong in a page in reStructuredText."""
    said = StringIO()
    page = publish_doctree(
        text,
        source_path=str(ROOT / name),
        settings_overrides={
            "halt_level": 5,
            "report_level": 2,
            "warning_stream": said,
        },
    )
    shown = {
        line.strip()
        for block in page.findall(literal_block)
        for line in block.astext().split("\n")
    }
    for number, line in enumerate(text.split("\n"), 1):
        may_be_wide = name == WIDE or line.strip() in shown
        if len(line) > COLUMNS and not (may_be_wide or URL.match(line)):
            yield f"{name}:{number}: {len(line)} columns"
    yield from said.getvalue().replace(f"{ROOT}/", "").splitlines()
    for node in page.findall(reference):
        link = urlsplit(node.get("refuri", ""))
        source, _ = get_source_line(node)  # another file, if included
        target = os.path.join(os.path.dirname(source or name), link.path)
        if not link.scheme and not (ROOT / target).exists():
            yield f"{name}: links {link.path}, which is not there"


def faults(name: str) -> Iterator[str]:
    """What is wrong in a file, by its path from the root."""
    content = (ROOT / name).read_bytes()
    if b"\0" in content or name.startswith(DRAWINGS):
        return
    text = content.decode("utf-8")
    yield from faults_of_text(name, text)
    if name.endswith(".rst"):
        yield from faults_of_page(name, text)


def main() -> int:
    found = [fault for name in sorted(files()) for fault in faults(name)]
    print("\n".join(found) or "texts: nothing to mend")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
