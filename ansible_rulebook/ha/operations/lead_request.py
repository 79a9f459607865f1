"""A worker of a higher priority asks the one that leads to hand over."""

from __future__ import annotations

import asyncio
from typing import Callable

from ..election.beacon import Beacon
from ..election.reasons import Reason
from ..election.requests import Request
from ..errors import HaError
from ..log import WorkerLog
from ..options import HaOptions
from .switchover import Switchover

ASK_FOR = 100.0  # seconds; the leader's actions may take long


class LeadRequest:
    """Asks for the lead, for this worker, one request at a time.

    :param options: what the operator asked for.
    :param worker_id: of this worker.
    :param is_leaving: whether this worker is about to end.
    :param log: says what becomes of the request.
    """

    def __init__(
        self,
        options: HaOptions,
        worker_id: str,
        is_leaving: Callable[[], bool],
        log: WorkerLog,
    ) -> None:
        self._options = options
        self._worker_id = worker_id
        self._is_leaving = is_leaving
        self._log = log
        self._task: asyncio.Task[None] | None = None

    def begin(self, leader: Beacon) -> None:
        """This worker is to lead rather than the one that does."""
        if self._is_leaving():
            return
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._ask(leader))

    def cancel(self) -> None:
        """This worker ends."""
        if self._task is not None:
            self._task.cancel()

    async def _ask(self, leader: Beacon) -> None:
        options = self._options
        reason = f"priority {options.priority} rather than {leader.priority}"
        request = Request(
            self._worker_id, reason, self._worker_id, kind=Reason.PRIORITY
        )
        self._log.info("Asking for the lead", reason, leader=leader.worker)
        try:
            async with Switchover(
                options.conninfo, options.ha_uuid, request
            ) as switchover:
                await switchover.run(ASK_FOR)
        except HaError as error:
            self._log.info("The leader does not hand over", str(error))
