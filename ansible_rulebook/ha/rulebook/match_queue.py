"""The queue of a ruleset's matches on their way to their actions."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque

if TYPE_CHECKING:
    from ..state.journal import Mark

MOST_WAITING = 10  # matches, as with upstream; then no event is read


class MatchQueue:
    """In place of upstream's queue: a match leaves it once it is durable.

    Until then it counts as waiting, so that a drain waits for it. A match
    that may be lost is dropped: the next leader has it, if it was stored.

    :param last_write: the mark of what was written last, None if no state
        is kept.
    :param dropped: called for each match that is dropped: a drain that waits
        for it has to notice.
    """

    def __init__(
        self,
        last_write: Callable[[], Mark | None],
        dropped: Callable[[], object],
    ) -> None:
        self._last_write = last_write
        self._dropped = dropped
        self._matches: Deque[tuple[Any, Mark | None]] = deque()
        self._arrived = asyncio.Event()
        self._left = asyncio.Event()

    def put_nowait(self, match: Any) -> None:
        """Add a match that has just been stored."""
        self._matches.append((match, self._last_write()))
        self._arrived.set()

    async def put(self, match: Any) -> None:
        """As :meth:`put_nowait`: this queue has room for all."""
        self.put_nowait(match)

    async def get(self) -> Any:
        """The next match. For one reader."""
        while True:
            while not self._matches:
                self._arrived.clear()
                await self._arrived.wait()
            head = match, mark = self._matches[0]
            is_durable = mark is None or await mark.is_durable()
            if self._matches and self._matches[0] is head:
                self.get_nowait()
                if is_durable:
                    return match
                self._dropped()

    def get_nowait(self) -> Any:
        """Take the next match out, durable or not.

        :raises IndexError: if there is none.
        """
        match, _ = self._matches.popleft()
        self._left.set()
        return match

    async def wait_for_room(self) -> None:
        """Wait while too many matches wait for their actions.

        What waits for the journal does not count, since that stores many
        events at once. For one reader.
        """
        while self._is_crowded():
            self._left.clear()
            await self._left.wait()

    def _is_crowded(self) -> bool:
        if len(self._matches) <= MOST_WAITING:
            return False
        mark = self._matches[0][1]
        return mark is None or mark.is_known_durable

    def qsize(self) -> int:
        """Zero: upstream's reader takes a whole core while it is above ten.

        See :meth:`wait_for_room`, which waits without.
        """
        return 0

    def empty(self) -> bool:
        """Whether no match waits, durable or not."""
        return not self._matches
