"""`make lint`, a commit with pre-commit, and `tox -e lint` are the same."""

from __future__ import annotations

import re

import yaml
from tree import ROOT


def in_make() -> list[str]:
    rule = (ROOT / "Makefile").read_text().partition("\nlint:")[2]
    recipe = rule.partition("\n\n")[0]
    return re.findall(r"^\t\$\(BIN\)/(.+)$", recipe, re.MULTILINE)


def in_hooks() -> list[str]:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = config["repos"][0]["hooks"]
    return [hook["entry"].partition(".venv/bin/")[2] for hook in hooks]


def in_tox() -> list[str]:
    section = (ROOT / "tox.ini").read_text().partition("[testenv:lint]")[2]
    lines = section.partition("commands =\n")[2].splitlines()
    return [line.strip() for line in lines]


def test_every_way_to_lint_has_the_same_commands() -> None:
    assert len(in_make()) > 3
    assert in_hooks() == in_make()
    assert in_tox() == in_make()
