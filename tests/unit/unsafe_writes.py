"""Marks of writes that are safe, or lost, when a test says so."""

from __future__ import annotations

import asyncio
from typing import Any

from ansible_rulebook.ha.flush import Flush, Mark


class Writes(Flush):
    """The real counting, with a server that answers by hand."""

    def __init__(self) -> None:
        async def connect() -> Any:
            raise AssertionError("no server here")

        super().__init__(connect, 60.0, lambda error: None)

    def reach(self, number: int) -> None:
        """So many writes are safe now."""
        self._asked = number
        self._reached()

    def lose(self) -> None:
        """The term ends."""
        self.end()


def marks(writes: Writes, count: int) -> list[Mark]:
    return [writes.wrote() for _ in range(count)]


async def turns() -> None:
    """Let the other tasks go on."""
    for _ in range(5):
        await asyncio.sleep(0)
