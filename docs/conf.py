"""Sphinx's configuration: ``make docs`` builds build/docs/index.html."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "ansible-rulebook-ha"
author = "the contributors of ansible-rulebook-ha"
(release,) = re.findall(
    r'^version = "(.+)"$',
    (HERE.parent / "pyproject.toml").read_text("utf-8"),
    re.MULTILINE,
)
version = release

# Our own extension, in _ext.
extensions = ["pages", "sphinx_copybutton"]
exclude_patterns = ["_ext"]
# Flags begin with two hyphens, also where they are no literals.
smartquotes = False
nitpicky = True
highlight_language = "none"

# Pages of the site that include a file from above docs/.
pages_included = {
    "CHANGELOG.rst": "changes",
    "CONTRIBUTING.rst": "carry_on/contributing",
}

html_theme = "furo"
html_title = f"ansible-rulebook-ha {release}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .go"
