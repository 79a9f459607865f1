"""Values as people read them."""

from __future__ import annotations

from datetime import datetime, timezone

from ..redaction import LONGEST, clean

ABSENT = "-"


def cell(value: object, longest: int = LONGEST) -> str:
    """A value in a table: never empty, so that columns can be counted."""
    if value is None or value == "":
        return ABSENT
    return clean(str(value), longest)


def moment(epoch: float | None) -> str:
    """A time of day, in UTC."""
    if not epoch:
        return ABSENT
    try:
        told = datetime.fromtimestamp(epoch, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return ABSENT
    return told.strftime("%Y-%m-%d %H:%M:%SZ")


def duration(seconds: float | None) -> str:
    """How long something took, in the units that people use."""
    if seconds is None:
        return ABSENT
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 match``, ``2 matches``."""
    return f"{number} {one if number == 1 else many or one + 's'}"
