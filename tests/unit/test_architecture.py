"""The walks in the page on the architecture: their files and figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ansible_rulebook.ha

(HOME,) = map(Path, ansible_rulebook.ha.__path__)
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "carry_on" / "architecture.rst"
WALKS = re.findall(
    r"^(From [^\n]*)\n-+\n(.*?)(?=^From |\Z)",
    PAGE.read_text("utf-8"),
    re.MULTILINE | re.DOTALL,
)


def stays(text: str) -> list[str]:
    return re.findall(r"^#\. ``([^`]+)``:", text, re.MULTILINE)


@pytest.mark.parametrize(("name", "text"), WALKS)
def test_a_walk_is_counted(name: str, text: str):
    files = stays(text)
    figures = (len(set(files)), len(files), len(files) - len(set(files)))
    row = re.search(rf"^{name} +(\d+) +(\d+) +(\d+) ", PAGE.read_text(), re.M)
    assert row is not None
    assert tuple(map(int, row.groups())) == figures


@pytest.mark.parametrize(("name", "text"), WALKS)
def test_the_files_of_a_walk_are_there(name: str, text: str):
    missing = [
        file
        for file in stays(text)
        if not (HOME / file).exists() and not (ROOT / file).exists()
    ]
    assert stays(text) and not missing


@pytest.mark.parametrize(("name", "text"), WALKS)
def test_a_walk_goes_somewhere_each_time(name: str, text: str):
    files = stays(text)
    assert not [a for a, b in zip(files, files[1:]) if a == b]


def test_there_are_three_walks():
    assert len(WALKS) == 3
