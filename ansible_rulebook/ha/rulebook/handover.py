"""The orderly end of a term, after which the worker goes on as a follower."""

from __future__ import annotations

import asyncio

from ..election.leadership import Leadership
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
    """

    def __init__(
        self,
        leadership: Leadership,
        sources: Sources,
        gates: Gates,
        rulesets: Rulesets,
    ) -> None:
        self._leadership = leadership
        self._sources = sources
        self._gates = gates
        self._rulesets = rulesets

    async def prepare(self, within: float) -> bool:
        """Let no event in, and wait until all that came in is done.

        :param within: seconds.
        :returns: whether all is done; if not, the time is over.
        """
        self._leadership.turn_sources_away()
        settling = asyncio.ensure_future(self._settle())
        try:
            await asyncio.wait({settling}, timeout=within)
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
