"""Asks the leader to hand over, and watches it happen."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection

from ..conninfo import Conninfo
from ..election.beacon import Beacon
from ..election.names import (
    APPLICATION,
    NOMINATION,
    PAUSE,
    application_name,
    lock_key,
)
from ..election.requests import (
    Answer,
    Request,
    answer_channel,
    request_channel,
)
from ..errors import HaError, ServerRefused, ServerUnavailable

KIND = "eda-ha-ask"  # of a session that asks, and nominates nobody
LOOK_EVERY = 0.01  # seconds
CONNECT_TIMEOUT = 5  # seconds
ANSWER_WITHIN = 5.0  # seconds for a statement
ASK_AGAIN = 1.0  # seconds without the leader's answer
# The server ends a session that does not look any more. That ends its
# nomination, too.
IDLE_MS = 3_000

LIMIT = """
SELECT pg_catalog.set_config(name, %s::text, false)
  FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout'
"""
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
# Ends the session of the leader that was seen, and no later leader's.
END_HOLDER = """
SELECT pg_catalog.pg_terminate_backend(pid)
  FROM pg_catalog.pg_locks
 WHERE locktype = 'advisory' AND granted AND objsubid = 1
   AND classid = %s::oid AND objid = %s::oid AND pid = %s
"""
IS_THERE = """
SELECT pid FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database() AND application_name = %s
"""


class Holder(NamedTuple):
    """The session that holds the lock, and whose it is."""

    pid: int
    worker: str
    leads: bool
    """Whether it says that it leads; not during a promotion."""
    session: str
    """The whole ``application_name``."""

    @property
    def kind(self) -> str:
        """What the session is, if it is one of ours."""
        return self.session.partition(":")[0]


class Handed(NamedTuple):
    """How the lead went from one worker to the next."""

    before: Holder
    after: Holder
    gap: float
    """Seconds that nobody led, to about 10 ms."""


class Refused(HaError):
    """The leader does not do it, or there is no leader."""


class Unanswered(HaError):
    """No other worker leads in time. The text says who leads now."""


def check_worker(holder: Holder) -> None:
    """See that a worker holds the lock.

    :raises Refused: another session does.
    """
    if holder.kind == PAUSE:
        raise Refused(f"the cluster is paused by {holder.worker}")
    if holder.kind != APPLICATION:
        raise Refused(
            f"the session {holder.session or '(no name)'} (PostgreSQL "
            f"process {holder.pid}) holds the lock, and is no worker"
        )


class Switchover:
    """One request, on a session of its own: an asynchronous context manager.

    The session's name says which worker is to lead next (it *nominates* that
    worker). While the session is open, any other worker that gets the lock
    gives it up again.

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
        self._asked = False
        self._asked_at = 0.0
        self._answer: Answer | None = None

    async def __aenter__(self) -> Switchover:
        kind = NOMINATION if self._request.to else KIND
        name = application_name(self._key, self._request.to, kind=kind)
        try:
            self._connection = await AsyncConnection.connect(
                self._conninfo.to_connect(
                    name, connect_timeout=CONNECT_TIMEOUT
                ),
                autocommit=True,
                prepare_threshold=None,
            )
        except (psycopg.Error, OSError, ValueError) as error:
            raise self._unavailable(error) from None
        self._connection.add_notify_handler(self._notified)
        try:
            await self._rows(LIMIT, (IDLE_MS,))
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._connection is not None
        await self._connection.close()

    async def run(self, timeout: float) -> Handed:
        """Ask, and wait until another session holds the lock and leads.

        :param timeout: seconds in all.
        :raises Refused: by the leader, or since there is none.
        :raises Unanswered: the time is over.
        :raises ServerUnavailable: if the server cannot be asked any more.
        """
        deadline = time.monotonic() + timeout
        before = await self.leader()
        await self.ask(before)
        return await self.watch(before, deadline)

    async def leader(self) -> Holder:
        """The worker that leads.

        :raises Refused: if there is none.
        :raises ServerUnavailable: if the server cannot be asked.
        """
        holder = await self.holder()
        if holder is None:
            raise Refused("nobody leads")
        check_worker(holder)
        return holder

    async def holder(self) -> Holder | None:
        """Whose session holds the lock now.

        :raises ServerUnavailable: if the server cannot be asked.
        """
        rows = await self._rows(HOLDER, self._halves())
        if not rows:
            return None
        pid, name, query = rows[0]
        session = str(name or "")
        beacon = Beacon.parse(query or "") or Beacon(role="leader")
        kind, *parts = session.split(":")
        is_ours = kind in (APPLICATION, PAUSE) and len(parts) > 1
        worker = beacon.worker or (parts[1] if is_ours else session)
        return Holder(pid, worker, beacon.role != "follower", session)

    async def is_there(self, session: str) -> bool:
        """Whether there is a session of that name.

        :raises ServerUnavailable: if the server cannot be asked.
        """
        return bool(await self._rows(IS_THERE, (session,)))

    async def ask(self, leader: Holder) -> None:
        """Send the request to the leader.

        It hears nothing before it has led for a moment. So this is repeated
        in :meth:`watch` until there is an answer.

        :raises ServerUnavailable: if the server cannot be asked.
        """
        self._answer = None
        await self._rows(f"LISTEN {answer_channel(self._key)}")
        payload = self._request._replace(leader=leader.pid).payload()
        await self._rows(NOTIFY, (request_channel(self._key), payload))
        self._asked, self._asked_at = True, time.monotonic()

    async def end_session(self, holder: Holder) -> None:
        """End the session of the leader.

        :raises Refused: if this role may not, or that worker leads no more.
        :raises ServerUnavailable: if the server cannot be asked.
        """
        try:
            ended = await self._rows(END_HOLDER, (*self._halves(), holder.pid))
        except ServerRefused as error:
            raise Refused(str(error)) from None
        if not ended or not ended[0][0]:
            raise Refused(f"{holder.worker} leads no more")

    async def watch(
        self, before: Holder, deadline: float, free_at: float | None = None
    ) -> Handed:
        """Wait until another session holds the lock, and leads.

        :param before: who led.
        :param deadline: by the monotonic clock, as all times.
        :param free_at: since when nobody leads, if that is known.
        :raises Refused: by the leader, if it was asked.
        :raises Unanswered: the time is over.
        :raises ServerUnavailable: if the server cannot be asked any more.
        """
        while True:
            holder = await self.holder()
            now = time.monotonic()
            if holder is None or holder.pid != before.pid or not holder.leads:
                free_at = free_at or now
            if holder is not None and holder.pid != before.pid:
                if holder.leads:
                    return Handed(before, holder, now - (free_at or now))
            else:
                self.check_answer()
                if self._is_unheard(now):
                    await self.ask(before)
            if now >= deadline:
                raise Unanswered(self.standing(holder))
            await asyncio.sleep(LOOK_EVERY)

    def _is_unheard(self, now: float) -> bool:
        is_due = now >= self._asked_at + ASK_AGAIN
        return self._asked and self._answer is None and is_due

    def standing(self, holder: Holder | None) -> str:
        """Who leads now, as a sentence for the end of a wait."""
        if holder is None:
            return "nobody leads now"
        if not holder.leads:
            return f"{holder.worker} is about to lead now"
        if self._asked and self._answer is None:
            return f"{holder.worker} leads now, and has not answered"
        if self._asked:
            return (
                f"{holder.worker} leads now, and hands over when its actions "
                "have ended"
            )
        return f"{holder.worker} leads now"

    def check_answer(self) -> None:
        """Raise the leader's refusal, if it has refused.

        :raises Refused: with the leader's words.
        """
        if self._answer is not None and self._answer.refusal:
            raise Refused(self._answer.refusal)

    def _notified(self, notify: psycopg.Notify) -> None:
        assert self._connection is not None
        answer = Answer.parse(notify.payload)
        own = self._connection.info.backend_pid
        if answer is not None and answer.pid == own:
            self._answer = answer

    def _halves(self) -> tuple[int, int]:
        key = self._key % 2**64
        return key >> 32, key & 0xFFFFFFFF

    async def _rows(
        self, statement: str, params: tuple[object, ...] = ()
    ) -> list[Any]:
        asking = asyncio.ensure_future(self._fetch(statement, params))
        done, _ = await asyncio.wait({asking}, timeout=ANSWER_WITHIN)
        if not done:
            self._abort()
            await asyncio.wait({asking})
            asking.exception()
            raise ServerUnavailable(f"no answer within {ANSWER_WITHIN:g} s")
        try:
            return asking.result()
        except psycopg.errors.InsufficientPrivilege as error:
            raise ServerRefused(str(self._unavailable(error))) from None
        except psycopg.Error as error:
            raise self._unavailable(error) from None

    async def _fetch(
        self, statement: str, params: tuple[object, ...]
    ) -> list[Any]:
        assert self._connection is not None
        cursor = await self._connection.execute(statement, params or None)
        return await cursor.fetchall() if cursor.description else []

    def _abort(self) -> None:
        """Shut the socket down: a server may not answer to a cancellation."""
        assert self._connection is not None
        with (
            suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as shared,
        ):
            shared.shutdown(socket.SHUT_RDWR)

    def _unavailable(self, error: Exception) -> ServerUnavailable:
        return ServerUnavailable(self._conninfo.redact(str(error)))
