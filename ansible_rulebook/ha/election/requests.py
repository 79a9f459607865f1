"""A request to the leader to hand over in good order, and its answer.

Both are sent as notifications (``NOTIFY``). PostgreSQL adds the process id of
the sender's session, which cannot be forged. So the leader can find out which
role asks.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from ..redaction import clean
from .reasons import Reason

KINDS = (Reason.SWITCHOVER, Reason.PRIORITY, Reason.PAUSED)


class Request(NamedTuple):
    """A request for a switchover."""

    to: str = ""
    """The worker that is to lead next; empty for any."""
    reason: str = ""
    by: str = ""
    """Who asks, as that person or worker says."""
    pid: int = 0
    """The server process of their session."""
    leader: int = 0
    """The server process of the leader that is asked; 0 for any.

    A leader ignores a request to another one.
    """
    kind: Reason = Reason.SWITCHOVER
    """One of :data:`KINDS`: the reason for which the term ends."""

    @property
    def why(self) -> str:
        """The reason that a term ends with, if this is granted."""
        by = f" by {self.by}" if self.by else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"asked to hand over{by}{reason}"

    def payload(self) -> str:
        """What to send."""
        # NOTIFY takes at most 8,000 bytes.
        words = {
            "to": clean(self.to),
            "reason": clean(self.reason),
            "by": clean(self.by),
            "leader": self.leader,
            "kind": self.kind.value,
        }
        return json.dumps({"ask": "switchover", **words})

    @classmethod
    def parse(cls, payload: str, pid: int) -> Request | None:
        """A request, or None if it is none. Its texts are safe to log."""
        try:
            found = json.loads(payload)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.get("ask") != "switchover":
            return None
        leader, kind = found.get("leader"), Reason.of(found.get("kind"))
        return cls(
            _text(found.get("to")),
            _text(found.get("reason")),
            _text(found.get("by")),
            pid,
            leader if isinstance(leader, int) else 0,
            kind if kind in KINDS else Reason.SWITCHOVER,
        )


class Answer(NamedTuple):
    """What the leader says to a request."""

    pid: int
    """The server process of the session that asked."""
    refusal: str = ""
    """Why it does not hand over; empty if it does."""

    def payload(self) -> str:
        """What to send."""
        return json.dumps({"pid": self.pid, "refusal": self.refusal})

    @classmethod
    def parse(cls, payload: str) -> Answer | None:
        """An answer, or None if it is none."""
        try:
            found = json.loads(payload)
            return cls(int(found["pid"]), clean(found["refusal"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


def _text(found: object) -> str:
    return clean(found) if isinstance(found, str) else ""


def request_channel(key: int) -> str:
    """The channel on which the leader of a lock listens."""
    return f"eda_ha_{key % 2**64:016x}"


def answer_channel(key: int) -> str:
    """The channel on which it answers."""
    return f"{request_channel(key)}_answers"
