"""Questions to the server whether it confirms the lock."""

from __future__ import annotations

import asyncio


class Confirmations:
    """Calls of :meth:`.Elector.confirm` that await their answer."""

    def __init__(self, *waiting: asyncio.Future[bool]) -> None:
        self._waiting = list(waiting)

    def add(self) -> asyncio.Future[bool]:
        """One more question.

        :returns: the answer, once there is one.
        """
        answer: asyncio.Future[bool] = asyncio.Future()
        self._waiting.append(answer)
        return answer

    def take(self) -> Confirmations:
        """Take those that the statement answers that is sent now.

        A later call is answered by the next statement.
        """
        taken = Confirmations(*self._waiting)
        self._waiting.clear()
        return taken

    def answer(self, holds: bool) -> None:
        """Answer all of them."""
        for each in self._waiting:
            if not each.done():  # cancelled by its caller
                each.set_result(holds)
        self._waiting.clear()
