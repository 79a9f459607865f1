"""A pause: no worker leads while a process of its own holds the lock."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from types import TracebackType

from ..conninfo import Conninfo
from ..election.beacon import Beacon
from ..election.election_log import ElectionLog
from ..election.elector import Elector
from ..election.lease import Timings
from ..election.lock import AdvisoryLock
from ..election.names import PAUSE
from ..election.priority import HIGHEST
from ..election.reasons import Reason
from ..election.requests import Request
from ..election.term import Term
from .switchover import (
    LOOK_EVERY,
    Holder,
    Switchover,
    Unanswered,
    check_worker,
)


class Pause:
    """Takes the lead, and does nothing with it.

    An asynchronous context manager; leaving it ends the pause. The pause
    takes part in the election as a worker does. So it also ends with this
    process, with its lease, or with its session. It does not begin again
    then.

    :param conninfo: where the server is.
    :param ha_uuid: the cluster's.
    :param by: who pauses it; no worker of the cluster may have that name.
    :param reason: what for.
    :param seconds: how long it lasts once it has begun; None if it lasts
        until somebody ends it.
    :param timings: of its lease.
    """

    def __init__(
        self,
        conninfo: Conninfo,
        ha_uuid: uuid.UUID,
        by: str,
        reason: str,
        seconds: float | None,
        timings: Timings,
    ) -> None:
        self.by = by
        self._conninfo = conninfo
        self._request = Request(by, reason, by, kind=Reason.PAUSED)
        self._seconds = seconds
        self._about = Beacon(
            worker=by,
            host=socket.gethostname(),
            pid=os.getpid(),
            reason=reason,
            priority=HIGHEST,  # so that nobody asks for the lead
        )
        self._lock = AdvisoryLock(conninfo, ha_uuid, by, timings, kind=PAUSE)
        self._elector = Elector(
            self._lock,
            ElectionLog(by, ha_uuid),
            on_promotion=self._begun,
            on_demotion=self._over,
            about=self._about,
        )
        self.until: float | None = None
        """When it ends, in seconds of the epoch; None if it lasts until
        somebody ends it."""
        self._is_over = asyncio.Event()
        self._why_over = ""

    async def __aenter__(self) -> Pause:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._elector.stop()

    async def begin(self, timeout: float) -> Holder | None:
        """Have the leader drain, and take the lock.

        :param timeout: seconds in all.
        :returns: who led, if anybody did.
        :raises Refused: by the leader, or if it is paused already.
        :raises Unanswered: the leader has not handed over in time.
        :raises ServerRefused: no retry helps.
        :raises ServerUnavailable: if the server cannot be asked.
        """
        deadline = time.monotonic() + timeout
        await self._lock.check()
        asked: Holder | None = None
        async with Switchover(
            self._conninfo, self._elector.ha_uuid, self._request
        ) as switchover:
            self._elector.contend()
            while not self._elector.is_leader():
                holder = await switchover.holder()
                if holder is not None and holder.session != self._lock.name:
                    check_worker(holder)
                    # A worker that has just got the lock leaves it to the
                    # nominated one without being asked.
                    is_new = holder.leads and (
                        asked is None or asked.pid != holder.pid
                    )
                    # The leader refuses to hand over to a name that has no
                    # session yet.
                    if is_new and await switchover.is_there(self._lock.name):
                        await switchover.ask(holder)
                        asked = holder
                switchover.check_answer()
                if time.monotonic() > deadline:
                    raise Unanswered(
                        f"not paused: {switchover.standing(holder)}"
                    )
                await asyncio.sleep(LOOK_EVERY)
        return asked

    async def wait(self, ended: asyncio.Event) -> str:
        """Wait until the pause is over.

        :param ended: set to end it.
        :returns: why it was lost; empty if its time is over, or if somebody
            ended it.
        """
        waits = [
            asyncio.ensure_future(event.wait())
            for event in (ended, self._is_over, self._elector.shutdown_event)
        ]
        try:
            await asyncio.wait(
                waits,
                timeout=self._seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for each in waits:
                each.cancel()
        return self._why_over

    def _begun(self, _: Term) -> None:
        if self._seconds is not None:
            self.until = time.time() + self._seconds
        self._elector.describe(self._about._replace(until=self.until or 0.0))

    def _over(self, why: str) -> None:
        if self._elector.shutdown_event.is_set():
            return  # it was ended
        self._why_over = why
        self._is_over.set()
