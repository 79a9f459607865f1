"""The leader listens for requests to hand over, and answers each of them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Callable, Deque

import psycopg

from . import sql
from .beacon import Beacon
from .election_log import ElectionLog
from .listener import Listener
from .lock import AdvisoryLock
from .names import APPLICATION, HEARING, PAUSE, application_name
from .requests import Answer, Request, answer_channel, request_channel

MOST_REQUESTS = 100  # that wait to be answered; others are not heard
RETRY = 1.0  # seconds


class Hearing:
    """Listens while this worker leads, on a session of its own.

    Requests must not reach the session that holds the lock, for two reasons.
    They would stand in front of the server's message that the session has
    ended. And if the leader is paused and reads nothing, they would fill the
    connection, and the server could not end the session.

    :param lock: where the server is.
    :param log: says who has asked.
    :param grant: called with a request that is granted.
    """

    def __init__(
        self,
        lock: AdvisoryLock,
        log: ElectionLog,
        grant: Callable[[Request], None],
    ) -> None:
        self._lock = lock
        self._log = log
        self._grant = grant
        self._granted: Request | None = None  # in this term
        self._task: asyncio.Task[None] | None = None
        self._listener: Listener | None = None

    def begin(self, leader: int) -> None:
        """This worker leads.

        :param leader: the process of the session that holds the lock.
        """
        self._granted = None
        self._task = asyncio.ensure_future(self._hear(leader))

    def end(self) -> None:
        """This worker leads no more. Waits for nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            if self._listener is not None:
                self._listener.shut_down()

    async def _hear(self, leader: int) -> None:
        while True:
            try:
                await self._listen(leader)
            except (psycopg.Error, OSError, ValueError) as error:
                self._log.debug("Requests are not heard", str(error))
            await asyncio.sleep(RETRY)

    async def _listen(self, leader: int) -> None:
        key = self._lock.key
        name = application_name(
            key, self._lock.worker_id, self._lock.claimant, HEARING
        )
        waiting: Deque[Request] = deque(maxlen=MOST_REQUESTS)

        def heard(notify: psycopg.Notify) -> None:
            request = Request.parse(notify.payload, notify.pid)
            if request is not None:
                waiting.append(request)

        self._listener = listener = await Listener.open(
            self._lock.conninfo, name, request_channel(key), heard
        )
        try:
            while True:
                while not waiting:
                    await listener.listen()
                request = waiting.popleft()
                if request.leader in (0, leader):
                    await self._decide(listener, request)
        finally:
            self._listener = None
            listener.close()

    async def _decide(self, listener: Listener, request: Request) -> None:
        again = self._granted is not None and self._granted.pid == request.pid
        refusal = "" if again else await self._refusal(listener, request)
        answer = Answer(request.pid, refusal)
        channel = answer_channel(self._lock.key)
        await listener.fetch(sql.NOTIFY, (channel, answer.payload()))
        if not refusal and not again:
            self._granted = request
            self._grant(request)

    async def _refusal(self, listener: Listener, request: Request) -> str:
        """Why it is not granted; empty if it is."""
        rows = await listener.fetch(sql.ASKER, (request.pid,))
        role, is_permitted = rows[0] if rows else ("", False)
        asked = {"role": role, "by": request.by, "to": request.to or None}
        if not rows:
            refusal = "the session that asked has ended"
        elif not is_permitted:
            refusal = f"role {role} may not end the leader's session"
        elif self._granted is not None:
            refusal = self._already(self._granted)
        elif request.to == self._lock.worker_id:
            refusal = f"{request.to} leads already"
        elif not await self._others(listener, request.to):
            refusal = f"no worker {request.to} is there".replace("  ", " ")
        else:
            self._log.info("Asked to hand over", request.reason, **asked)
            return ""
        self._log.warning("Refused to hand over", refusal, **asked)
        return refusal

    def _already(self, granted: Request) -> str:
        to = granted.to or "another worker"
        by = f", asked by {granted.by}" if granted.by else ""
        reason = f": {granted.reason}" if granted.reason else ""
        own = self._lock.worker_id
        return f"{own} is handing over to {to} already{by}{reason}"

    async def _others(self, listener: Listener, worker_id: str) -> int:
        """How many others could lead, of that id if one is given."""
        count = 0
        for kind in (APPLICATION, PAUSE):
            prefix = application_name(self._lock.key, worker_id, kind=kind)
            if not worker_id:
                prefix = prefix[:-1]
            values = {
                "length": len(prefix),
                "prefix": prefix,
                "own": self._lock.name,
            }
            rows = await listener.fetch(sql.OTHERS, values)
            said = [Beacon.parse(row[0] or "") for row in rows]
            count += sum(
                kind == PAUSE or each is None or each.priority > 0
                for each in said
            )
        return count
