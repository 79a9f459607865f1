"""The leader listens for requests to hand over, and answers each of them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Deque

import psycopg
from psycopg import AsyncConnection

from . import sql
from .beacon import Beacon
from .election_log import ElectionLog
from .lock import AdvisoryLock
from .names import APPLICATION, HEARING, PAUSE, application_name
from .requests import Answer, Request, answer_channel, request_channel

MOST_REQUESTS = 100  # that wait for an answer; of more, the oldest is lost
CONNECT_TIMEOUT = 5  # seconds
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
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    def begin(self, leader: int) -> None:
        """This worker leads.

        :param leader: the process of the session that holds the lock.
        """
        self._task = asyncio.ensure_future(self._hear(leader))

    def end(self) -> None:
        """This worker leads no more. Waits for nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            if self._socket is not None:
                # Else the task would wait for the server to cancel its
                # statement.
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    async def _hear(self, leader: int) -> None:
        while True:
            try:
                await self._listen(leader)
            except (psycopg.Error, OSError, ValueError) as error:
                self._log.debug("Requests are not heard", str(error))
            await asyncio.sleep(RETRY)

    async def _listen(self, leader: int) -> None:
        conninfo, key = self._lock.conninfo, self._lock.key
        name = application_name(
            key, self._lock.worker_id, self._lock.claimant, HEARING
        )
        connection = await AsyncConnection.connect(
            conninfo.to_connect(name, connect_timeout=CONNECT_TIMEOUT),
            autocommit=True,
            prepare_threshold=None,
        )
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            channel = request_channel(key)
            await connection.execute(sql.LISTEN.format(channel=channel))
            heard = _Heard(connection)
            while True:
                request = await heard.next()
                if request.leader in (0, leader):
                    await self._decide(connection, request)
        finally:
            self._socket.close()
            self._socket = None
            connection.pgconn.finish()

    async def _decide(
        self, connection: AsyncConnection[Any], request: Request
    ) -> None:
        refusal = await self._refusal(connection, request)
        answer = Answer(request.pid, refusal)
        channel = answer_channel(self._lock.key)
        await connection.execute(sql.NOTIFY, (channel, answer.payload()))
        if not refusal:
            self._grant(request)

    async def _refusal(
        self, connection: AsyncConnection[Any], request: Request
    ) -> str:
        """Why it is not granted; empty if it is."""
        cursor = await connection.execute(sql.ASKER, (request.pid,))
        row = await cursor.fetchone()
        role, is_permitted = row or ("", False)
        asked = {"role": role, "by": request.by, "to": request.to or None}
        if row is None:
            refusal = "the session that asked has ended"
        elif not is_permitted:
            refusal = f"role {role} may not end the leader's session"
        elif request.to == self._lock.worker_id:
            refusal = f"{request.to} leads already"
        elif not await self._others(connection, request.to):
            refusal = f"no worker {request.to} is there".replace("  ", " ")
        else:
            self._log.info("Asked to hand over", request.reason, **asked)
            return ""
        self._log.warning("Refused to hand over", refusal, **asked)
        return refusal

    async def _others(
        self, connection: AsyncConnection[Any], worker_id: str
    ) -> int:
        """How many other workers could lead; with an id, of that id only."""
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
            cursor = await connection.execute(sql.OTHERS, values)
            said = [
                Beacon.parse(row[0] or "") for row in await cursor.fetchall()
            ]
            count += sum(
                kind == PAUSE or each is None or each.priority > 0
                for each in said
            )
        return count


class _Heard:
    """The requests that come in on a connection.

    :param connection: that listens.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._waiting: Deque[Request] = deque(maxlen=MOST_REQUESTS)
        connection.add_notify_handler(self._add)

    async def next(self) -> Request:
        """The next one, as soon as there is one.

        :raises psycopg.Error: if the connection has ended.
        """
        pgconn = self._connection.pgconn
        while not self._waiting:
            await self._readable()
            pgconn.consume_input()
            pgconn.is_busy()  # parses what was read
            while True:
                found = pgconn.notifies()
                if found is None:
                    break
                payload = found.extra.decode("utf-8", "replace")
                self._add(psycopg.Notify("", payload, found.be_pid))
        return self._waiting.popleft()

    def _add(self, notify: psycopg.Notify) -> None:
        request = Request.parse(notify.payload, notify.pid)
        if request is not None:
            self._waiting.append(request)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        number = self._connection.fileno()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(number, tell)
        try:
            await ready
        finally:
            loop.remove_reader(number)
