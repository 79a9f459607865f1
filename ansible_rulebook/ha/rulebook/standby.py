"""What a follower does so that its promotion is quick."""

from __future__ import annotations

import asyncio
from typing import Callable

from ..engine.host import EngineHost
from ..state.keeper import StateKeeper
from .rulesets import Rulesets

EVERY = 2.0  # seconds


class Standby:
    """Contends once the rulesets are up, then keeps session and Java warm.

    :param keeper: of the state.
    :param engine: to be warmed up.
    :param rulesets: of the worker.
    :param is_idle: whether this worker has no term and is not ending.
    :param contend: begins to contend for the lock.
    :param resume: contends again, after an obstacle is gone.
    :param retry_every: seconds between two looks at an obstacle.
    """

    def __init__(
        self,
        keeper: StateKeeper,
        engine: EngineHost,
        rulesets: Rulesets,
        is_idle: Callable[[], bool],
        contend: Callable[[], None],
        resume: Callable[[], None],
        retry_every: float,
    ) -> None:
        self._keeper = keeper
        self._engine = engine
        self._rulesets = rulesets
        self._is_idle = is_idle
        self._contend = contend
        self._resume = resume
        self._retry_every = retry_every

    async def run(self) -> None:
        """Go on for as long as the worker does.

        :raises StateRefused: if the state is wanted and cannot be kept.
        """
        # A worker that is still building rulesets must not keep the lock
        # from one that is ready.
        await self._rulesets.up.wait()
        if self._keeper.has_doubts:
            await self._keeper.survey()
        while self._keeper.obstacle is not None:
            await asyncio.sleep(self._retry_every)
            await self._keeper.survey()
        self._contend()
        await self._keep_warm()

    async def _keep_warm(self) -> None:
        is_warm = False
        while True:
            await asyncio.sleep(EVERY)
            store = self._keeper.store
            if store is None or not self._may_go_on():
                continue
            if self._keeper.obstacle is not None:
                await self._keeper.survey()
                if self._keeper.obstacle is None:
                    self._resume()
                continue
            await store.stand_by()
            if not is_warm:
                texts = self._rulesets.texts()
                is_warm = await self._engine.warm_up(texts, self._may_go_on)

    def _may_go_on(self) -> bool:
        return self._rulesets.up.is_set() and self._is_idle()
