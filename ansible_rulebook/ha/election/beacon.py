"""What a worker says of itself to everybody who may see its session.

It is a comment at the head of the statements with which the worker waits for
the lock or renews its lease. So ``pg_stat_activity`` shows it, and no table is
needed.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

FORMAT = 1  # changes when a key's meaning does, not when one is added
MOST = 1000  # bytes of a comment; servers keep 1,024 of a statement
_HEAD = "/* eda-ha "
_TAIL = " */"
# The longest that values may be, as JSON. Together they fit into MOST.
_LONGEST = {
    "version": 40,
    "worker": 240,
    "role": 12,
    "state": 16,
    "host": 160,
    "http": 160,
    "ended": 20,
    "cause": 20,
}
_MOST_NUMBER = 2**53  # the largest that every reader of JSON understands
# Escaped, so that a value cannot end the comment, begin another one, or look
# like a placeholder of psycopg.
_UNSAFE = re.compile(r"[*/%\x7f]")


class Beacon(NamedTuple):
    """What one worker says of itself. Nobody has checked it."""

    version: str = ""
    """Of this distribution."""
    worker: str = ""
    """Its id."""
    role: str = ""
    """``leader`` or ``follower``."""
    state: str = ""
    """The value of :class:`.candidate.Phase`."""
    term: int = 0
    """The term that it leads, 0 if it does not."""
    since: float = 0.0
    """When the role began, in seconds of the epoch; 0 if unknown."""
    host: str = ""
    pid: int = 0
    http: str = ""
    """Where it answers HTTP, ``host:port``; empty if it does not."""
    priority: int = 100
    lease: float = 0.0
    """Its effective duration in seconds; 0 if unknown."""
    reason: str = ""
    """Of a pause: what for. Of a leader that gives the lock up: in whose words
    it does. Cut to what the others leave of the comment."""
    until: float = 0.0
    """Of a pause: when it ends, in seconds of the epoch; 0 if unknown."""
    ended: str = ""
    """Of a leader that gives the lock up: a value of :class:`.Reason`."""
    cause: str = ""
    """Of a leader: why it leads, a value of :class:`.Reason`."""
    replaces: str = ""
    """Of a leader: who led before. Cut as the reason is."""
    gap: float = -1.0
    """Of a leader: seconds that nobody led before; less than 0 if unknown."""

    def text(self) -> str:
        """The comment: one line of ASCII, shorter than :data:`MOST` bytes.

        It can stand before any statement, also one with placeholders. Text
        that is too long is cut.
        """
        values = {"v": FORMAT, **self._asdict()}
        for name, longest in _LONGEST.items():
            values[name] = _cut(str(values[name]), longest)
        for name in ("since", "lease", "until", "gap"):
            values[name] = round(values[name], 3)
        if values["gap"] < 0:
            del values["gap"]
        for name in ("until", "ended", "cause"):
            if not values[name]:
                del values[name]
        for name in ("reason", "replaces"):  # they get the room that is left
            del values[name]
        for name in ("replaces", "reason"):
            text = str(getattr(self, name))
            room = MOST - 1 - len(_comment({**values, name: ""}))
            if text and room > 0:
                values[name] = _cut(text, room)
        return _comment(values)

    @classmethod
    def parse(cls, query: str) -> Beacon | None:
        """What stands at the head of a statement, or None.

        Text is returned as it was written, whatever is in it: whoever shows
        it has to clean it. A value of a wrong type counts as not given.
        """
        if not query.startswith(_HEAD):
            return None
        end = query.find(_TAIL, len(_HEAD), MOST)
        if end < 0:  # cut off by the server, or not ours
            return None
        try:
            found = json.loads(query[len(_HEAD) : end])
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.get("v") != FORMAT:
            return None
        return cls(
            **{
                name: _of_type(found.get(name), default)
                for name, default in cls._field_defaults.items()
            }
        )


def _comment(values: dict[str, Any]) -> str:
    return f"{_HEAD}{_written(values)}{_TAIL}"


def _written(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _cut(text: str, longest: int) -> str:
    """As much of it as is written with so many characters."""
    length = 0
    for place, character in enumerate(text):
        length += len(_written(character)) - len('""')
        if length > longest:
            return text[:place]
    return text


def _of_type(value: object, default: Any) -> Any:
    if isinstance(default, str):
        return value if isinstance(value, str) else default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    if not math.isfinite(value) or abs(value) > _MOST_NUMBER:
        return default
    return type(default)(value)
