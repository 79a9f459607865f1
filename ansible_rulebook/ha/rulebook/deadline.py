"""A deadline that holds even while the event loop is blocked."""

from __future__ import annotations

import threading
from typing import Callable

TICK = 0.1  # seconds


class Deadline:
    """Calls a function, in a thread of its own, when a time is over.

    Only time in which this process runs is counted: a process that was paused
    still has the rest when it resumes.

    :param expired: called once, in the thread.
    """

    def __init__(self, expired: Callable[[], None]) -> None:
        self._expired = expired
        self._left: float | None = None
        self._lock = threading.Lock()
        self._called_off = threading.Event()
        self._thread = threading.Thread(
            target=self._count, name="ha-deadline", daemon=True
        )

    def within(self, seconds: float) -> None:
        """Set the deadline, or bring it forward. It never moves back.

        For any thread.
        """
        with self._lock:
            if self._left is None:
                self._left = seconds
                self._thread.start()
            self._left = min(self._left, seconds)

    def call_off(self) -> None:
        """Do not call the function: everything has ended in time."""
        self._called_off.set()

    def _count(self) -> None:
        while not self._called_off.wait(TICK):
            with self._lock:
                assert self._left is not None
                self._left -= TICK
                is_over = self._left <= 0
            if is_over:
                self._expired()
                return
