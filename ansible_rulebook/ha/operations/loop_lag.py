"""How late an event loop is, as seen from another thread."""

from __future__ import annotations

import asyncio
import time


class LoopLag:
    """Asks a loop for an answer, one question at a time.

    :param loop: the loop to look at.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked_at: float | None = None
        self._last = 0.0

    def seconds(self) -> float:
        """How long the last answer took, or the present one has been due."""
        asked_at, now = self._asked_at, time.monotonic()
        if asked_at is not None:
            return max(self._last, now - asked_at)
        self._asked_at = now
        try:
            self._loop.call_soon_threadsafe(self._answer, now)
        except RuntimeError:  # closed
            self._asked_at = None
        return self._last

    def _answer(self, asked_at: float) -> None:
        self._last = time.monotonic() - asked_at
        self._asked_at = None
