"""The one PostgreSQL session that contends for the lock and holds it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import (
    Any,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
    TypeVar,
    Union,
)

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from ..conninfo import Conninfo
from ..errors import SessionLost
from . import sql
from .holder import LockHolder
from .lease import Timings
from .lock_delay import ServerLife
from .names import APPLICATION, NOMINATION, PAUSE, application_name

T = TypeVar("T")
Params = Union[Sequence[Any], Mapping[str, Any]]

CANCEL_TIMEOUT = 1.0  # seconds
RELEASE_TIMEOUT = 2.0  # seconds; closing the session frees the lock, too
ANSWER_SLACK = 5.0  # seconds for an answer on top of the wait asked for

# Linux tells the end of a stream even while unread bytes stand before it.
_HUNG_UP: int = getattr(select, "POLLRDHUP", 0)


@dataclass
class _Answer:
    """What has come of the answer that is waited for."""

    row: list[bytes | None] = field(default_factory=list)
    is_complete: bool = False
    error: psycopg.Error | None = None

    @property
    def is_told(self) -> bool:
        return self.is_complete or self.error is not None


class LockSession:
    """One server session, and with it one chance to hold the lock.

    Nothing else ever runs on it. A statement that failed, timed out or was
    cancelled leaves the outcome unknown, so the session is over with it:
    close it and open another. Never lock twice in one session: the lock
    counts, and one unlock would leave it held.

    :class:`.AdvisoryLock` opens it, sets it up, and notes here what it found.

    :param conninfo: its secrets are masked in errors.
    :param key: the lock's.
    :param timings: the longest time that an answer may take.
    """

    def __init__(
        self,
        connection: AsyncConnection[Any],
        conninfo: Conninfo,
        key: int,
        timings: Timings,
    ) -> None:
        self._connection = connection
        self._conninfo = conninfo
        self._key = key
        # A descriptor of our own: another thread can ask it without the risk
        # that its number means another file by then.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        # Whatever socket.setdefaulttimeout() says, is_over() may not wait.
        self._socket.setblocking(False)
        self._news = select.poll()
        self._news.register(self._socket, select.POLLIN | _HUNG_UP)
        # Held by whoever reads from the connection, or begins to use it.
        self._reading = threading.Lock()
        self._busy = False
        self._ended = False
        self._answer: _Answer | None = None
        self._wake: Callable[[], object] | None = None
        self._unanswered: asyncio.Future[Any] | None = None
        self._notices: list[str] = []
        connection.add_notice_handler(self._noticed)
        self.beacon = ""
        """What this worker says of itself, as a comment."""
        self.timings = timings
        """Poll interval and lease, as the server allows them."""
        self.wait_chunk = timings.poll_interval
        """Seconds for which :meth:`wait_acquire` waits."""
        self.backend_pid = 0
        """Process id of the session's server process."""
        self.life: ServerLife | None = None
        """The server's present life, if it tells."""
        self.led_last = False
        """Whether the last claim of a term is that of this process."""
        self.seen: LockHolder | None = None
        """Who held the lock at the last look, if anybody did."""
        self.last_word: LockHolder | None = None
        """Who had just given the lock up when this session got it."""
        self.namesakes: set[str] = set()
        """Names of sessions of other processes with this worker's id."""

    @property
    def connected_pid(self) -> int:
        """The server process that the connection began with.

        Behind a transaction pooler it is not the one that answers.
        """
        return self._connection.info.backend_pid

    # -- the lock --------------------------------------------------------

    async def try_acquire(self) -> bool:
        """Take the lock if it is free. One round trip.

        :raises SessionLost: outcome unknown.
        """
        rows = await self.fetch(sql.TRY_LOCK, (self._key,))
        return bool(rows[0][0])

    async def wait_acquire(self) -> bool:
        """Queue for the lock for up to ``wait_chunk`` seconds.

        :returns: whether it is ours; the caller must still prove it.
        :raises SessionLost: outcome unknown.
        """
        self._notices.clear()
        high, low = self._halves()
        await self.fetch(
            self.beacon
            + sql.WAIT_LOCK.format(key=self._key, high=high, low=low),
            timeout=self.wait_chunk + ANSWER_SLACK,
        )
        if sql.ACQUIRED in self._notices:
            return True
        for notice in self._notices:
            if notice.startswith(sql.NOT_ACQUIRED):
                self.seen = _holder(notice[len(sql.NOT_ACQUIRED) :])
                return False
        return await self.prove()  # something in between eats notices

    async def prove_won(self, worker_id: str) -> tuple[bool, bool]:
        """:meth:`prove` for a worker that has just got the lock.

        :returns: whether it is proved, and whether another worker than this
            one is nominated to lead next.
        :raises SessionLost: if there is no answer.
        """
        _, cluster, *_ = application_name(self._key, "").split(":")
        answer = await self._prove(sql.PROVE_WON, None, hex=cluster)
        *proof, told = answer or [None]
        sessions = json.loads(told or b"[]")
        self.last_word = _last_word(sessions)
        names = [name for name, _, _ in sessions]
        is_another = await self._is_for_another(worker_id, names)
        return self._is_proof(proof), is_another

    async def _is_for_another(
        self, worker_id: str, sessions: list[str]
    ) -> bool:
        every = application_name(self._key, "", kind=NOMINATION)[:-1]
        own = application_name(self._key, worker_id, kind=NOMINATION)
        if not any(name.startswith(every) for name in sessions):
            return False  # as nearly always: no second question
        nominated = await self.fetch(
            self.beacon + sql.NOMINATED,
            {"length": len(every), "prefix": every},
        )
        nominations = [
            name for (name,) in nominated if _is_there(name, sessions)
        ]
        return bool(nominations) and not any(
            name.startswith(own) for name in nominations
        )

    async def prove(self, timeout: float | None = None) -> bool:
        """Ask the server whether this very session holds the lock.

        It also counts as a sign of life: the server's timeout starts anew.

        :param timeout: seconds to wait for the answer.
        :returns: same backend, primary, lock granted to it.
        :raises SessionLost: if there is no answer.
        """
        return self._is_proof(await self._prove(sql.PROVE, timeout))

    async def _prove(
        self, statement: str, timeout: float | None, **values: object
    ) -> list[bytes | None]:
        high, low = self._halves()
        question = statement.format(high=high, low=low, **values)
        try:
            return await self._in_time(
                self._ask(self.beacon + question), timeout
            )
        except psycopg.Error as error:
            raise SessionLost(self._words(error)) from None

    def _is_proof(self, answer: list[bytes | None]) -> bool:
        return answer == [str(self.backend_pid).encode(), b"f", b"t"]

    async def holder(self) -> LockHolder | None:
        """The session that holds the lock, if one does."""
        rows = await self.fetch(self.beacon + sql.HOLDER, self._halves())
        self.seen = LockHolder.told(rows[0]) if rows else None
        return self.seen

    async def release(self) -> None:
        """Unlock. The session can contend again.

        The beacon is the last word of a leader, for as long as the session
        stays open.

        :raises SessionLost: outcome unknown.
        """
        statement = self.beacon + sql.UNLOCK
        await self.fetch(statement, (self._key,), RELEASE_TIMEOUT)

    def _halves(self) -> tuple[int, int]:
        key = self._key % 2**64
        return key >> 32, key & 0xFFFFFFFF

    # -- the wire --------------------------------------------------------

    def is_over(self) -> bool:
        """Whether the server has ended the session, from any thread.

        Reads what has come, without waiting. PostgreSQL sends its last error
        *before* it frees the locks of a session that it terminates, so a
        leader that asks here knows no later than the next one.
        """
        with self._reading:
            return self._ended or self._look()

    def _look(self) -> bool:
        # No news is the usual answer, and asked for several times an event:
        # poll() has it for less than a read. A read takes one TLS record.
        while not self._ended and self._news.poll(0):
            if not self._busy:
                self._read()
            if self._hung_up():
                self._ended = True
            elif self._busy:
                break  # psycopg reads
        return self._ended

    def _read(self) -> None:
        """Take in what has come, and tell the loop if it waits for that."""
        pgconn = self._connection.pgconn
        answer = self._answer
        try:
            if answer is None:
                pgconn.consume_input()
                pgconn.is_busy()  # parses what was read
            else:
                answer.is_complete = _take_row(pgconn, answer.row)
        except psycopg.Error as error:
            # In answer to a proof an error is the last word, too.
            self._ended = True
            if answer is not None:
                answer.error = error
        if self._wake is not None:
            with suppress(RuntimeError):  # the loop was closed
                self._wake()

    def _hung_up(self) -> bool:
        if not _HUNG_UP:
            return False
        try:
            poll = select.poll()
            poll.register(self._socket, _HUNG_UP)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            return True

    def fileno(self) -> int:
        """For ``loop.add_reader`` while no statement is under way."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Read what the server said unasked: a notice, or its last error.

        :raises SessionLost: if the session is over.
        """
        if self._busy:
            return
        with self._reading:
            self._read()
            self._ended = self._ended or self._hung_up()
        if self._ended:
            words = " ".join(self._notices) or "the connection was closed"
            raise SessionLost(self._conninfo.redact(words))
        self._notices.clear()

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        self._notices.append(notice.message_primary or "")
        if notice.severity_nonlocalized in ("FATAL", "PANIC"):
            self._ended = True

    async def close(self) -> None:
        """End the session at once; a statement under way fails."""
        self.abort()
        if self._unanswered is not None:
            await asyncio.wait({self._unanswered})
            self._unanswered.exception()
        with suppress(psycopg.Error, OSError):
            await self._connection.close()

    async def cancel(self) -> None:
        """Ask the server to drop a wait, so that it leaves the queue."""
        with suppress(psycopg.Error, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(
                self._connection.cancel_safe(timeout=CANCEL_TIMEOUT),
                CANCEL_TIMEOUT * 2,
            )

    def abort(self) -> None:
        """Shut the socket down, which ends every wait on it.

        Cancelling the coroutine instead would make psycopg wait for the
        server, which may not answer any more.
        """
        with self._reading:
            self._ended = True
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    # -- statements ------------------------------------------------------

    async def fetch(
        self,
        statement: str,
        params: Params | None = None,
        timeout: float | None = None,
    ) -> list[tuple[Any, ...]]:
        """The rows of a statement that has to succeed.

        :raises SessionLost: outcome unknown.
        """
        try:
            return await self._rows(statement, params, timeout)
        except psycopg.Error as error:
            raise SessionLost(self._words(error)) from None

    async def attempt(
        self, statement: str, params: Params = ()
    ) -> list[tuple[Any, ...]]:
        """The rows of a statement that the server may refuse.

        :raises psycopg.Error: it does; the session goes on.
        :raises SessionLost: outcome unknown.
        """
        try:
            return await self._rows(statement, params)
        except psycopg.Error as error:
            if self._connection.closed:
                raise SessionLost(self._words(error)) from None
            raise

    async def _rows(
        self,
        statement: str,
        params: Params | None = None,
        timeout: float | None = None,
    ) -> list[tuple[Any, ...]]:
        with self._reading:
            self._busy = True
        try:
            return await self._in_time(
                self._execute(statement, params), timeout
            )
        finally:
            self._busy = False

    async def _in_time(self, work: Awaitable[T], timeout: float | None) -> T:
        if timeout is None:
            timeout = max(self.timings.trust_for, 1.0)
        return await self._bounded(work, timeout)

    async def _ask(self, statement: str) -> list[bytes | None]:
        """The one row that answers a statement, as text.

        Meanwhile another thread may ask whether the session is over. It reads
        the answer then, which may be the server's last word.
        """
        pgconn = self._connection.pgconn
        answer = _Answer()
        try:
            with self._reading:
                self._answer = answer
                pgconn.send_query(statement.encode())
            while not answer.is_told and self._flush():
                await self._ready(answer, writing=True)
            while True:
                await self._ready(answer)
                with self._reading:
                    if not answer.is_told:
                        self._read()
                if answer.error is not None:
                    raise answer.error
                if answer.is_complete:
                    return answer.row
        finally:
            with self._reading:
                self._answer = None

    def _flush(self) -> bool:
        with self._reading:
            return bool(self._connection.pgconn.flush())

    async def _ready(self, answer: _Answer, writing: bool = False) -> None:
        """Wait until there is something to read, or room to write.

        Or until another thread has read it.
        """
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        add, remove = loop.add_reader, loop.remove_reader
        if writing:
            add, remove = loop.add_writer, loop.remove_writer
        # Its own descriptor, which abort() does not close.
        number = self._connection.fileno()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        with self._reading:
            if answer.is_told:
                return
            self._wake = partial(loop.call_soon_threadsafe, tell)
        add(number, tell)
        try:
            await ready
        finally:
            remove(number)
            with self._reading:
                self._wake = None

    async def _execute(
        self, statement: str, params: Params | None
    ) -> list[tuple[Any, ...]]:
        cursor = await self._connection.execute(statement, params)
        return await cursor.fetchall() if cursor.description else []

    async def _bounded(self, work: Awaitable[T], timeout: float) -> T:
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout)
        finally:
            if not task.done():
                # Only trust ends here. To close the session would free the
                # lock, and its holder may still have to be demoted.
                self._ended = True
                self._unanswered = task
        if not done:
            raise SessionLost(f"no answer within {timeout:.1f} s")
        return task.result()

    def _words(self, error: Exception) -> str:
        return self._conninfo.redact(str(error))


def _holder(text: str | bytes | None) -> LockHolder | None:
    """From JSON, as the statements write it."""
    try:
        return LockHolder.told(json.loads(text or b"null"))
    except ValueError:  # something in between has changed it
        return None


def _last_word(sessions: list[list[Any]]) -> LockHolder | None:
    """Who was the last to say that it gives up the lead."""
    said = [each for each in sessions if each[1] and each[2]]
    name, beacon, _ = max(said, key=lambda each: each[2], default=[None] * 3)
    return LockHolder.told(name and [name, beacon, None])


def _is_there(nomination: str, sessions: list[str]) -> bool:
    """Whether the nominated worker has a session that could get the lock."""
    worker = nomination.partition(":")[2].rpartition(":")[0]
    heads = tuple(f"{kind}:{worker}:" for kind in (APPLICATION, PAUSE))
    return any(name.startswith(heads) for name in sessions)


def _take_row(pgconn: PGconn, row: list[bytes | None]) -> bool:
    """Read what has come; true when the answer is complete.

    :raises psycopg.Error: if it is an error, or the end.
    """
    pgconn.consume_input()
    while not pgconn.is_busy():
        result = pgconn.get_result()
        if result is None:
            return True  # what stands behind the answer was parsed with it
        if result.status != ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError(pgconn.get_error_message())
        row += [result.get_value(0, n) for n in range(result.nfields)]
    return False
