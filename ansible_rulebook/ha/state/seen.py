"""Which events have been processed, so that none is processed twice."""

from __future__ import annotations

from itertools import count
from typing import Dict, Iterable

WINDOW = 5  # events of a source, as upstream unless its variables say else
MOST = 1000  # events that are remembered for sources that send again


class Seen:
    """The last events of the cluster.

    Only what comes from a source is remembered: an event that an action
    posts cannot come again by itself.

    :param window: how many events of a source without feedback count as
        seen: one that comes again after more than that is a new one.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self._places: Dict[bytes, int] = {}  # in their order
        self._counter = count()
        self._latest = -1

    def restart(self, events: Iterable[bytes]) -> None:
        """A term begins; the journal has these, the oldest first."""
        self._places.clear()
        for key in events:
            self.add(key)

    def add(self, key: bytes) -> None:
        """An event is being processed."""
        self._places.pop(key, None)
        self._latest = self._places[key] = next(self._counter)
        if len(self._places) > max(MOST, self.window):
            del self._places[next(iter(self._places))]

    def has(self, key: bytes, may_come_again: bool) -> bool:
        """Whether an event has been processed before.

        :param may_come_again: its source sends it until it is told of it.
        """
        place = self._places.get(key)
        if place is None:
            return False
        return may_come_again or self._latest - place < self.window
