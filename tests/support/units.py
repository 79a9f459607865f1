"""Units of systemd, read as far as a test has to act for systemd."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

Unit = dict[str, list[str]]  # values by name, whatever the section
UNIT = (
    Path(__file__).parents[2]
    / "deploy"
    / "systemd"
    / "ansible-rulebook@.service"
)


def read_unit(instance: str, *paths: Path) -> Unit:
    """A template and its drop-ins, for one instance."""
    unit: Unit = defaultdict(list)
    for path in paths:
        text = path.read_text("utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            if line and line[0] not in "#;[":
                name, _, value = line.partition("=")
                unit[name].append(value.replace("%i", instance))
    return unit


def read_environment(text: str) -> dict[str, str]:
    """What an EnvironmentFile= gives."""
    found = {}
    for line in text.splitlines():
        if line and line[0] not in "#;":
            name, _, value = line.partition("=")
            (found[name],) = shlex.split(value) or [""]
    return found


def environment(unit: Unit) -> dict[str, str]:
    """What Environment= gives."""
    words = [word for value in unit["Environment"] for word in value.split()]
    return dict(word.split("=", 1) for word in words)


def command(unit: Unit, variables: Mapping[str, str]) -> list[str]:
    """The words of ExecStart=, with the variables in their places."""
    (line,) = unit["ExecStart"]
    words: list[str] = []
    for word in line.split():
        if word.startswith("$") and not word.startswith("${"):
            words += variables.get(word[1:], "").split()
        else:
            words.append(
                re.sub(
                    r"\$\{(\w+)\}",
                    lambda name: variables.get(name[1], ""),
                    word,
                )
            )
    return words


def seconds(unit: Unit, name: str) -> float:
    """A time, which the unit gives in seconds."""
    return float(unit[name][-1])
