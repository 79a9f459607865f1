"""Marks that are durable, or lost, when a test says so."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Deque

from ansible_rulebook.ha.state.journal import Mark
from ansible_rulebook.ha.state.seen import Seen


class Writes:
    """What a mark asks its journal, and a gate the store, by hand."""

    def __init__(self) -> None:
        self.durable = 0
        self.is_over = False
        self.is_behind = False
        self.seen = Seen()
        self.lost: set[int] = set()
        self.refused: set[int] = set()
        self._written = 0
        self._waiting: Deque[tuple[int, asyncio.Future[bool]]] = deque()

    def wrote(self) -> Mark:
        self._written += 1
        return self.last_write()

    def last_write(self) -> Mark:
        journal: Any = self
        return Mark(journal, self._written)

    async def reaches(self, number: int) -> bool:
        if self.is_over:
            return False
        answer: asyncio.Future[bool] = asyncio.Future()
        self._waiting.append((number, answer))
        return await answer

    def has_lost(self, number: int) -> bool:
        return number in self.lost

    def is_refused(self, number: int) -> bool:
        return number in self.refused

    def reach(self, number: int) -> None:
        """So many writes are durable now."""
        self.durable = number
        while self._waiting and self._waiting[0][0] <= number:
            self._answer(True)

    def lose(self, *numbers: int, refused: bool = False) -> None:
        """The term ends; of these it is sure that they are not stored."""
        self.is_over = True
        self.lost.update(numbers)
        if refused:
            self.refused.update(numbers)
        while self._waiting:
            self._answer(False)

    def _answer(self, answer: bool) -> None:
        waiting = self._waiting.popleft()[1]
        if not waiting.done():
            waiting.set_result(answer)


async def turns() -> None:
    """Let the other tasks go on."""
    for _ in range(5):
        await asyncio.sleep(0)
