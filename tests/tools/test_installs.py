"""Our line in what ``ansible-rulebook --version`` shows."""

from __future__ import annotations

import installs
import pytest

SHOWN = """\
ansible-rulebook [1.3.2]
  Executable location = /x/bin/ansible-rulebook
ansible-rulebook-ha [0.1.0]
"""


def test_our_line_is_found() -> None:
    assert installs.our_line(SHOWN) == "ansible-rulebook-ha [0.1.0]"


@pytest.mark.parametrize(
    "shown",
    [
        "",
        SHOWN.replace("ansible-rulebook-ha [0.1.0]\n", ""),
        SHOWN.replace("ansible-rulebook-ha [", "see ansible-rulebook-ha ["),
        SHOWN.replace("[0.1.0]", "[not installed]"),
        SHOWN + "ansible-rulebook-ha [0.1.0]\n",
    ],
)
def test_anything_else_is_none_of_ours(shown: str) -> None:
    assert installs.our_line(shown) is None
