"""Asks the leader to hand over, and watches it happen."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from ..conninfo import Conninfo
from ..election.beacon import Beacon
from ..election.names import (
    APPLICATION,
    NOMINATION,
    application_name,
    lock_key,
)
from ..election.requests import (
    Answer,
    Request,
    answer_channel,
    request_channel,
)
from ..errors import ServerUnavailable

KIND = "eda-ha-ask"  # of a session that nominates nobody
LOOK_EVERY = 0.01  # seconds
CONNECT_TIMEOUT = 5  # seconds

NOTIFY = "SELECT pg_catalog.pg_notify(%s, %s)"
HOLDER = """
SELECT activity.pid, activity.application_name, activity.query
  FROM pg_catalog.pg_locks AS lock
  JOIN pg_catalog.pg_stat_activity AS activity USING (pid)
 WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
   AND lock.database = activity.datid
   AND activity.datname = pg_catalog.current_database()
   AND lock.classid = %s::oid AND lock.objid = %s::oid
"""


class Holder(NamedTuple):
    """Whose session holds the lock."""

    pid: int
    worker: str
    leads: bool
    """Whether it says so, too; a promotion takes its time."""


class Handed(NamedTuple):
    """How the lead went from one worker to the next."""

    before: Holder
    after: Holder | None
    """None: nobody led within the time."""
    gap: float
    """Seconds that nobody led; a look is taken each 10 ms."""


class Refused(Exception):
    """The leader will not, or there is none."""


class Unanswered(Exception):
    """The leader did not answer in time."""


class Switchover:
    """One request, on a session of its own: an asynchronous context manager.

    The session's name says who is to lead next, for as long as it is open: a
    worker that gets the lock and is not the one leaves it to that one.

    :param conninfo: where the server is.
    :param ha_uuid: the cluster's.
    :param request: what is asked for.
    """

    def __init__(
        self, conninfo: Conninfo, ha_uuid: Any, request: Request
    ) -> None:
        self._conninfo = conninfo
        self._key = lock_key(ha_uuid)
        self._request = request
        self._connection: AsyncConnection[Any] | None = None

    async def __aenter__(self) -> Switchover:
        kind = NOMINATION if self._request.to else KIND
        options = {
            "application_name": application_name(
                self._key, self._request.to, kind=kind
            ),
            "connect_timeout": CONNECT_TIMEOUT,
            "client_encoding": "UTF8",
            "target_session_attrs": self._conninfo.target_session_attrs,
        }
        try:
            self._connection = await AsyncConnection.connect(
                make_conninfo("", **self._conninfo.merged(**options)),
                autocommit=True,
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            raise ServerUnavailable(
                self._conninfo.redact(str(error))
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._connection is not None
        await self._connection.close()

    async def run(self, timeout: float) -> Handed:
        """Ask, and wait until another worker leads.

        :param timeout: seconds in all.
        :raises Refused: by the leader, or since there is none.
        :raises Unanswered: by the leader; it goes on.
        :raises ServerUnavailable: if the server cannot be asked any more.
        """
        deadline = time.monotonic() + timeout
        try:
            before = await self.holder()
            if before is None:
                raise Refused("nobody leads")
            await self._ask(deadline - time.monotonic())
            return await self.watch(before, deadline)
        except psycopg.Error as error:
            raise ServerUnavailable(
                self._conninfo.redact(str(error))
            ) from None

    async def holder(self) -> Holder | None:
        """Whose session holds the lock now."""
        assert self._connection is not None
        key = self._key % 2**64
        cursor = await self._connection.execute(
            HOLDER, (key >> 32, key & 0xFFFFFFFF)
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        pid, name, query = row
        beacon = Beacon.parse(query or "")
        parts = str(name or "").split(":")
        worker = parts[2] if parts[0] == APPLICATION and parts[2:] else name
        if beacon is None:
            return Holder(pid, worker, leads=True)
        return Holder(pid, beacon.worker or worker, beacon.role != "follower")

    async def _ask(self, timeout: float) -> None:
        connection = self._connection
        assert connection is not None
        await connection.execute(f"LISTEN {answer_channel(self._key)}")
        await connection.execute(
            NOTIFY, (request_channel(self._key), self._request.payload())
        )
        own = connection.info.backend_pid
        async for notify in connection.notifies(timeout=max(timeout, 0.0)):
            answer = Answer.parse(notify.payload)
            if answer is not None and answer.pid == own:
                if answer.refusal:
                    raise Refused(answer.refusal)
                return
        raise Unanswered("the leader does not answer")

    async def watch(self, before: Holder, deadline: float) -> Handed:
        """Wait until another session holds the lock, and leads."""
        free_at: float | None = None
        while True:
            holder = await self.holder()
            now = time.monotonic()
            if holder is None or holder.pid != before.pid:
                free_at = free_at or now
                if holder is not None and holder.leads:
                    return Handed(before, holder, now - free_at)
            if now >= deadline:
                gap = 0.0 if free_at is None else now - free_at
                return Handed(before, None, gap)
            await asyncio.sleep(LOOK_EVERY)
