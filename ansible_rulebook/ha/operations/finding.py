"""What a check has found, for people who have to do something about it."""

from __future__ import annotations

import enum
from typing import Iterable, NamedTuple

from .exit_codes import ExitCode


class Level(enum.Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "FAULT"


class Finding(NamedTuple):
    """A sentence, and what to do unless all is well."""

    level: Level
    about: str
    """The host, or the part of the installation."""
    words: str
    advice: str = ""


def ok(about: str, words: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, about, words)


def warn(about: str, words: str, advice: str) -> Finding:
    """It works, and something will go wrong one day."""
    return Finding(Level.WARNING, about, words, advice)


def fault(about: str, words: str, advice: str) -> Finding:
    """High availability does not work with that."""
    return Finding(Level.FAULT, about, words, advice)


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """What the worst of them means."""
    levels = {each.level for each in findings}
    if Level.FAULT in levels:
        return ExitCode.REFUSED
    if Level.WARNING in levels:
        return ExitCode.DEGRADED
    return ExitCode.DONE
