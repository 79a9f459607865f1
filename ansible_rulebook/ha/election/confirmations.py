"""Callers that wait for the server's word on the lock."""

from __future__ import annotations

import asyncio


class Confirmations:
    """Those who have asked whether the lock is held, and await the answer."""

    def __init__(self, *waiting: asyncio.Future[bool]) -> None:
        self._waiting = list(waiting)

    def add(self) -> asyncio.Future[bool]:
        """One more caller.

        :returns: the answer, once there is one.
        """
        answer: asyncio.Future[bool] = asyncio.Future()
        self._waiting.append(answer)
        return answer

    def take(self) -> Confirmations:
        """Those that a question sent now answers.

        Whoever asks after it was sent waits for the next one.
        """
        taken = Confirmations(*self._waiting)
        self._waiting.clear()
        return taken

    def answer(self, holds: bool) -> None:
        """Tell all of them."""
        for each in self._waiting:
            if not each.done():  # nobody waits any more
                each.set_result(holds)
        self._waiting.clear()
