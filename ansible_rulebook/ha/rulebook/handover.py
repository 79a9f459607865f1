"""The orderly end of a term, after which the worker goes on as a follower."""

from __future__ import annotations

import asyncio
from typing import Callable

from ..election.leadership import Leadership
from ..election.reasons import Reason
from ..election.requests import Request
from ..log import WorkerLog
from .gates import Gates
from .rulesets import Rulesets
from .sources import Sources

LOOK_EVERY = 0.005  # seconds


class Handover:
    """Ends what a term has begun before the lock is given up.

    Like a drain, but the worker lives on. The demotion cuts short what does
    not end in time, and with state the next leader runs it.

    :param leadership: of the worker.
    :param sources: of the worker.
    :param gates: of the worker.
    :param rulesets: of the worker.
    :param within: seconds that running actions get.
    :param step_down: has the election give up the lock, for a reason.
    :param log: for what did not end in time.
    """

    def __init__(
        self,
        leadership: Leadership,
        sources: Sources,
        gates: Gates,
        rulesets: Rulesets,
        within: float,
        step_down: Callable[[str, Reason], None],
        log: WorkerLog,
    ) -> None:
        self._leadership = leadership
        self._sources = sources
        self._gates = gates
        self._rulesets = rulesets
        self._within = max(within, 0.0)
        self._step_down = step_down
        self._log = log
        self._task: asyncio.Task[None] | None = None

    def begin(self, request: Request) -> None:
        """Let what runs come to its end, then let another worker lead.

        Does nothing if a handover is under way.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._hand_over(request))

    async def _hand_over(self, request: Request) -> None:
        leadership = self._leadership
        term = leadership.acting_term()
        if term is None or leadership.shutdown_event.is_set():
            return
        if not await self.prepare():
            self._log.warning(
                "Handing over though not everything has ended",
                f"within --shutdown-delay {self._within:g} s",
            )
        if leadership.term is term:
            self._step_down(request.why, request.kind)

    async def prepare(self) -> bool:
        """Let no event in, and wait until all that came in is done.

        :returns: whether all is done; if not, the time is over.
        """
        self._leadership.turn_sources_away()
        settling = asyncio.ensure_future(self._settle())
        try:
            await asyncio.wait({settling}, timeout=self._within)
            return settling.done()
        finally:
            settling.cancel()

    async def _settle(self) -> None:
        await self._sources.let_through()
        await self._sources.end_term()
        # Both change with every event: to signal each change would cost more.
        while not (  # noqa: ASYNC110
            self._gates.are_idle and self._rulesets.are_idle
        ):
            await asyncio.sleep(LOOK_EVERY)
