"""Whose session holds the lock, as the server shows it."""

from __future__ import annotations

from typing import NamedTuple

from .beacon import Beacon
from .names import APPLICATION, PAUSE


class LockHolder(NamedTuple):
    """The session that holds the lock, at the time of a look at it."""

    session: str
    """Its ``application_name``."""
    said: Beacon | None = None
    """What it says of itself; None if that is not known."""
    silent: float | None = None
    """Seconds since its last sign of life; None if that is hidden."""

    @classmethod
    def told(cls, row: object) -> LockHolder | None:
        """From what the statements of :mod:`.sql` return; None if nobody."""
        if not isinstance(row, (list, tuple)) or len(row) != 3:
            return None
        name, text, silent = row
        return cls(
            str(name or ""),
            Beacon.parse(text or ""),
            None if silent is None else max(float(silent), 0.0),
        )

    @property
    def is_worker(self) -> bool:
        """Whether its name is that of a worker's session."""
        return self._kind == APPLICATION

    @property
    def is_pause(self) -> bool:
        """Whether its name is that of a pause."""
        return self._kind == PAUSE

    @property
    def label(self) -> str:
        """For log lines: a worker's id, cut to what fits, else the name."""
        return self._parts[2] if self.is_worker else self.session

    @property
    def worker(self) -> str:
        """The whole id, if it says so; else as far as its name has it."""
        if not (self.is_worker or self.is_pause):
            return self.session
        return (self.said and self.said.worker) or self._parts[2]

    @property
    def _parts(self) -> list[str]:
        return self.session.split(":")

    @property
    def _kind(self) -> str:
        return self._parts[0] if len(self._parts) > 2 else ""
