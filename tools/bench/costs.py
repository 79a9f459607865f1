"""What a call costs that is too short to be timed alone."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Callable

from .report import Figure

CALLS = 50_000  # in a round, of a question that asks nobody else
TRIPS = 300  # in a round, of one that asks the server
UNIT, MICRO = "µs", 1e6


class Costs:
    """What was measured so far.

    :param rounds: of each question.
    """

    def __init__(self, rounds: int) -> None:
        self.figures: list[Figure] = []
        self._rounds = rounds

    def call(self, question: str, ask: Callable[[], object]) -> None:
        """A question that asks nobody else."""
        found = []
        for _ in range(self._rounds):
            since = time.perf_counter()
            for _ in range(CALLS):
                ask()
            found.append(MICRO * (time.perf_counter() - since) / CALLS)
        self.figures.append(Figure(question, UNIT, found))

    async def trip(
        self, question: str, ask: Callable[[], Awaitable[object]]
    ) -> None:
        """A question to the server, which has to say yes."""
        found = []
        for _ in range(self._rounds):
            since = time.perf_counter()
            for _ in range(TRIPS):
                if not await ask():
                    raise RuntimeError(f"{question}: no")
            found.append(MICRO * (time.perf_counter() - since) / TRIPS)
        self.figures.append(Figure(question, UNIT, found))
