"""Which events have been processed, so that none is processed twice."""

from __future__ import annotations

from itertools import count
from typing import Dict, Iterable

WINDOW = 5  # events of sources, as upstream's own default
MOST = 1000  # events that are remembered for sources with feedback


class Seen:
    """The last events of the cluster that came from sources.

    Events that actions post are not remembered: they cannot come again by
    themselves.

    :param window: an event of a source without feedback is a repeated one if
        it is among so many last events.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self._places: Dict[bytes, int] = {}  # in their order
        self._counter = count()
        self._latest = -1

    def restart(self, events: Iterable[bytes]) -> None:
        """A term begins: remember the stored events, the oldest first."""
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

        :param may_come_again: its source sends it until it gets feedback.
        """
        place = self._places.get(key)
        if place is None:
            return False
        return may_come_again or self._latest - place < self.window
