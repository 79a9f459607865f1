"""Other processes that use this worker's id."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ..errors import ServerRefused, ServerUnavailable
from .election_log import ElectionLog
from .lock import AdvisoryLock


class NamesakeWatch:
    """Warns once if another process goes on to use this worker's id.

    What an earlier process with this id has left on the server is gone by
    the end of its lease. So those of the first session are looked at twice.
    """

    def __init__(self, lock: AdvisoryLock, log: ElectionLog) -> None:
        self._lock = lock
        self._log = log
        self.task: asyncio.Task[None] | None = None
        """Compares the first look with a second one; None before it."""

    def saw(self, names: set[str], lease_duration: float) -> None:
        """The names that a session found. Only the first session counts.

        :param lease_duration: seconds until the second look.
        """
        if self.task is None:
            self.task = asyncio.ensure_future(
                self._compare(names, lease_duration)
            )

    def cancel(self) -> None:
        """The election has ended."""
        if self.task is not None:
            self.task.cancel()

    async def _compare(self, found: set[str], lease_duration: float) -> None:
        if not found:
            return
        await asyncio.sleep(lease_duration)
        with suppress(ServerRefused, ServerUnavailable):
            found = found & await self._lock.namesakes()
            if found:
                self._log.same_id(found)
