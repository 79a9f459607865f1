"""The queue of a ruleset's matches on their way to their actions."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque

if TYPE_CHECKING:
    from ..state.journal import Mark


class MatchQueue:
    """In place of upstream's queue: a match leaves it once it is durable.

    Until then it counts as waiting, or a drain would not wait for it. One
    that may be lost never leaves: whoever leads next decides.

    :param last_write: the mark of what was written last, if it matters.
    :param dropped: told of each such match, since a drain waits for it.
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

    def put_nowait(self, match: Any) -> None:
        """Add a match that has just been stored."""
        self._matches.append((match, self._last_write()))
        self._arrived.set()

    async def put(self, match: Any) -> None:
        """The same."""
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
                self._matches.popleft()
                if is_durable:
                    return match
                self._dropped()

    def get_nowait(self) -> Any:
        """Take the next match out, durable or not.

        :raises IndexError: if there is none.
        """
        return self._matches.popleft()[0]

    def qsize(self) -> int:
        """How many matches wait to be taken.

        None that is not durable yet: upstream's reader takes no rest while
        there are more than ten, and would keep others from storing them.
        """
        if not self._matches:
            return 0
        mark = self._matches[0][1]
        is_durable = mark is None or mark.is_known_durable
        return len(self._matches) if is_durable else 0

    def empty(self) -> bool:
        """Whether none waits."""
        return not self._matches
