"""Tells when what the engine has committed is safe on the server's disk.

The engine commits on the rulebook's event loop, and a commit that waits for
the disk would block it for each event. So its sessions commit asynchronously,
and a session of ours asks for one commit that waits. The log is written in
order, so all that was committed before is safe with it ("Asynchronous Commit"
in PostgreSQL's manual); with a synchronous standby it is there, too, since
that commit has the settings of the operator.

Until then nothing may follow from what was committed: no action and no
feedback. A server that crashes has forgotten what the engine still knows, so
a flush without an answer counts as a write that failed.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from contextlib import suppress
from typing import Any, Awaitable, Callable, Deque

import psycopg
from psycopg import Connection
from psycopg.pq import ExecStatus

from .errors import HaError, ServerUnavailable

# It writes to the log, without which a commit would not wait for the disk,
# and needs neither a table nor a right.
COMMIT = b"SELECT pg_catalog.pg_logical_emit_message(true, 'eda_ha', '')"
INTERVAL = 0.002  # seconds from one flush to the next, under load


class Mark:
    """One write of the engine."""

    __slots__ = ("_flush", "_number")

    def __init__(self, flush: Flush, number: int) -> None:
        self._flush = flush
        self._number = number

    @property
    def is_known_safe(self) -> bool:
        """Whether it is known by now that it will not be lost."""
        return self._number <= self._flush.safe

    async def is_safe(self) -> bool:
        """Wait until that is known; false if it may be lost."""
        return self.is_known_safe or await self._flush.reaches(self._number)


class Flush:
    """The flushes of one term. Lives on the event loop.

    :param connect: opens a session in autocommit mode.
    :param limit: seconds in which the server has to answer.
    :param failed: told once why what was written last may be lost.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection[Any]]],
        limit: float,
        failed: Callable[[Exception], None],
    ) -> None:
        self._connect = connect
        self._limit = limit
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._connection: Connection[Any] | None = None
        self._socket = -1  # libpq forgets it when the session is lost
        self._poll = select.poll()
        self._was_open = False
        self._is_over = False
        self._written = 0
        self._asked = 0
        self.safe = 0
        """How many writes are known to be safe."""
        self._not_before = 0.0  # on the loop's clock, the next flush
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._waiting: Deque[tuple[int, asyncio.Future[bool]]] = deque()

    @property
    def is_ready(self) -> bool:
        """Whether there is a session."""
        return self._connection is not None

    async def open(self) -> None:
        """Connect. Nothing is flushed before.

        :raises HaError: if that cannot be.
        """
        connection = await self._connect()
        if self._is_over:
            connection.close()
            return
        self._connection = connection
        self._was_open = True
        self._socket = connection.fileno()
        self._poll.register(self._socket, select.POLLIN)
        self._loop.add_reader(self._socket, self._read)
        if self._written > self.safe:
            self._ask()

    def wrote(self) -> Mark:
        """The engine has committed something."""
        self._written += 1
        if self._asked == self.safe and self._timer is None:
            self._ask_in_time()
        return self.last()

    def last(self) -> Mark:
        """What was written last."""
        return Mark(self, self._written)

    def look(self) -> None:
        """Take note of an answer before the event loop would.

        Before each write: after one that is lost none may follow, though
        the loop was blocked while it was.
        """
        if self._asked > self.safe and self._poll.poll(0):
            self._read()

    async def reaches(self, number: int) -> bool:
        """See :meth:`Mark.is_safe`. To be asked in the order of numbers."""
        if self._is_over:
            return False
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._waiting.append((number, answer))
        return await answer

    async def finish(self, limit: float) -> None:
        """End. What is under way gets so many seconds."""
        if self._connection is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.last().is_safe(), limit)
        self.end()

    def end(self) -> None:
        """Ask no more. What is not known to be safe stays unknown."""
        self._is_over = True
        self._disconnect()
        while self._waiting:
            _answer(self._waiting.popleft()[1], False)

    def _ask_in_time(self) -> None:
        # Every commit costs the server and the loop a tenth of an event.
        wait = self._not_before - self._loop.time()
        if wait <= 0:
            self._ask()
        else:
            self._timer = self._loop.call_later(wait, self._ask)

    def _ask(self) -> None:
        if self._is_over or (self._connection is None and not self._was_open):
            return
        self._asked = self._written
        self._not_before = self._loop.time() + INTERVAL
        self._timer = self._loop.call_later(self._limit, self._late)
        try:
            if self._connection is None:
                raise psycopg.OperationalError("the session was lost")
            self._connection.pgconn.send_query(COMMIT)
            self._connection.pgconn.flush()
        except psycopg.Error as error:
            self._fail(error)

    def _read(self) -> None:
        if self._connection is None:
            return
        session = self._connection.pgconn
        try:
            session.consume_input()
            while self._asked > self.safe and not session.is_busy():
                result = session.get_result()
                if result is None:
                    self._reached()
                    return
                if result.status != ExecStatus.TUPLES_OK:
                    text = result.error_message or b""
                    raise psycopg.OperationalError(text.decode())
        except psycopg.Error as error:
            self._fail(error)

    def _reached(self) -> None:
        self._stop_timer()
        self.safe = self._asked
        still: Deque[tuple[int, asyncio.Future[bool]]] = deque()
        for number, future in self._waiting:
            if number <= self.safe:
                _answer(future, True)
            else:
                still.append((number, future))
        self._waiting = still
        if self._written > self.safe:
            self._ask_in_time()

    def _late(self) -> None:
        self._fail(ServerUnavailable("the server did not answer in time"))

    def _fail(self, error: Exception) -> None:
        if self._is_over:
            return
        if self._written > self.safe:
            self.end()
            self._failed(error)
            return
        # Nothing is at stake. A write before there is another session is.
        self._disconnect()
        self._opening = asyncio.ensure_future(self._open_anew())

    async def _open_anew(self) -> None:
        with suppress(HaError):  # the next write will tell
            await self.open()

    def _disconnect(self) -> None:
        self._stop_timer()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.remove_reader(self._socket)
            self._poll.unregister(self._socket)
            connection.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _answer(future: asyncio.Future[bool], answer: bool) -> None:
    if not future.done():
        future.set_result(answer)
