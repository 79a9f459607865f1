"""The commands that README and documentation show.

A command is a line of a literal block that begins with ``$``, or with the
name of a program that the project has. A comment before the block, or before
the paragraph that begins it, says what cannot be seen from it::

    .. not-run: needs systemd
    .. run-by: tests/packaging/test_packaging.py
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tree import ROOT, files

BLOCK = re.compile(r"^( *)(?:\.\. code-block:: (\w+)|(?!\.\. ).*::)$")
MARK = re.compile(r"^ *\.\. (not-run|run-by): (.+)$")
OURS = re.compile(
    r"(make|export|pip|python3?|ansible-rulebook(-ha)?|EDA_\w+=\S+"
    r"|\./worker[12]\.sh|\.venv/bin/\S+)( |$)"
)
OPERATORS = {"|", ">", ">>", "&&", ";", "&"}


@dataclass(frozen=True)
class Command:
    """One command.

    :param words: of its first program; pipes and files are cut off.
    :param not_run: why no test runs it, or nothing.
    :param run_by: the test that runs it, or nothing.
    """

    where: str
    line: str
    words: tuple[str, ...]
    not_run: str = ""
    run_by: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.line}"


def pages() -> list[str]:
    """README and documentation, by their paths from the root."""
    return sorted(name for name in files() if name.endswith(".rst"))


def commands_of(name: str, text: str) -> Iterator[Command]:
    """The commands that a page shows."""
    lines = text.split("\n")
    mark: dict[str, str] = {}
    in_paragraph = False
    for number, line in enumerate(lines):
        found = MARK.match(line)
        if found is not None:
            mark = {found[1].replace("-", "_"): found[2]}
            continue
        block = BLOCK.match(line)
        if block is not None and block[2] in (None, "console", "shell"):
            for at, command in _commands(lines, number + 1, block[1]):
                yield Command(f"{name}:{at}", command, _words(command), **mark)
        if block is not None or (in_paragraph and not line.strip()):
            mark = {}  # it was for that
        in_paragraph = bool(line.strip())


def all_commands() -> Iterator[Command]:
    for name in pages():
        yield from commands_of(name, (ROOT / name).read_text("utf-8"))


def _commands(
    lines: list[str], start: int, indent: str
) -> Iterator[tuple[int, str]]:
    block = []
    for number, line in enumerate(lines[start:], start + 1):
        if line.strip() and not line.startswith(f"{indent} "):
            break
        block.append((number, line.strip()))
    has_prompt = any(line.startswith("$ ") for _, line in block)
    at, command = 0, ""
    for number, line in block:
        if command:
            command += f" {line}"
        elif has_prompt and line.startswith("$ "):
            at, command = number, line[2:]
        elif not has_prompt and OURS.match(line):
            at, command = number, line
        if command.endswith("\\"):
            command = command[:-1].rstrip()
            continue
        if command:
            yield at, command
        command = ""


def _words(line: str) -> tuple[str, ...]:
    words = shlex.split(line, comments=True)
    for number, word in enumerate(words):
        if word in OPERATORS:
            return tuple(words[:number])
    return tuple(words)


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")
