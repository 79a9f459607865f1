"""The inboxes of one worker."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import AsyncIterator

from ..election.leadership import Leadership
from ..errors import OptionError
from ..options import HaOptions
from .inbox import MOST, Inbox, Measured

FREE_WITHIN = 5.0  # seconds, after the rulebook was loaded anew


class Inboxes:
    """Makes inboxes for the sources of a worker; one of a name at a time.

    :param options: what the operator asked for.
    :param worker_id: of the worker.
    :param process: tells workers with the same id apart.
    :param leadership: of the worker.
    :param measured: told how much waits, while this worker leads.
    """

    def __init__(
        self,
        options: HaOptions,
        worker_id: str,
        process: str,
        leadership: Leadership,
        measured: Measured,
    ) -> None:
        self._options = options
        self._worker_id = worker_id
        self._process = process
        self._leadership = leadership
        self._measured = measured
        self._in_use: dict[str, asyncio.Lock] = {}

    def make(self, name: str, most: int = MOST) -> Inbox:
        """An inbox for a source; see :class:`.Inbox`.

        To open it raises :class:`.OptionError` if another source has it.

        :raises OptionError: for a name or a limit that cannot be.
        """
        return Inbox(
            self._options.conninfo,
            self._options.ha_uuid,
            name,
            most,
            worker_id=self._worker_id,
            process=self._process,
            leadership=self._leadership,
            timings=self._options.timings,
            measured=self._measured,
            use=self._use(name),
        )

    @asynccontextmanager
    async def _use(self, name: str) -> AsyncIterator[None]:
        lock = self._in_use.setdefault(name, asyncio.Lock())
        try:
            await asyncio.wait_for(lock.acquire(), FREE_WITHIN)
        except asyncio.TimeoutError:
            raise OptionError(
                f"two sources have the inbox {name}: give each another name "
                "(its argument 'inbox')"
            ) from None
        try:
            yield
        finally:
            lock.release()
