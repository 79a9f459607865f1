"""The exit codes of ``ansible-rulebook-ha``, the same for all commands."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """How a command ended."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    DEGRADED = 3
    UNASKED = 4
    TIMED_OUT = 5
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """As it stands in the documentation."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.DONE: "a healthy leader, or done",
    ExitCode.REFUSED: "no leader, or refused",
    ExitCode.USAGE: "wrong usage",
    ExitCode.DEGRADED: "degraded: fewer followers than required, paused, or a "
    "warning of check",
    ExitCode.UNASKED: "the server could not be asked",
    ExitCode.TIMED_OUT: "timed out; the message names who leads now",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
}
