"""Puts events into an inbox, several in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import Executor
from typing import Any, Callable, Deque, NamedTuple
from uuid import UUID

from psycopg import Connection

from ..errors import HaError, ServerUnavailable, StateRefused
from ..state.arrays import bigints, texts, uuids
from ..state.changes import Statement
from ..state.pipeline import Pipeline
from ..state.session import StateSession
from . import sql

logger = logging.getLogger(__name__)

MOST_EVENTS = 500  # in one transaction
MOST_BYTES = 4_000_000  # in one transaction, unless one event has more
ANSWER_WITHIN = 10.0  # seconds, for the server
LOCK_WITHIN = 2.0  # seconds that the server waits for somebody's key
STATEMENT_WITHIN = 8.0  # seconds that the server works at a statement
RETRY = 0.5  # seconds between two tries to connect
MEASURE_EVERY = 1.0  # seconds, while events come
MEASURING_SHARE = 0.05  # of the time, if it takes long
LONGEST_UNMEASURED = 10.0  # seconds, if it succeeds
MOST_COUNTED = 100_000  # events


class Put(NamedTuple):
    """An event that waits to be stored."""

    body: str
    key: bytes
    answer: asyncio.Future[bool]


class Writer:
    """Lives on the event loop.

    :param session: opens connections; blocks.
    :param executor: to block in.
    :param ha_uuid: the cluster.
    :param inbox: the inbox's name.
    :param prepare: called before each session; blocks.
    """

    def __init__(
        self,
        session: StateSession,
        executor: Executor,
        ha_uuid: UUID,
        inbox: str,
        prepare: Callable[[], None],
    ) -> None:
        self._session = session
        self._executor = executor
        self._prepare = prepare
        self._first = [str(ha_uuid).encode(), inbox.encode()]
        self._loop = asyncio.get_running_loop()
        self._pipeline: Pipeline | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: Deque[Put] = deque()
        self._sent: list[Put] = []
        self._deleted: list[int] = []
        self._deleting: list[int] = []
        self._measured_at = 0.0  # when it was asked
        self._measure_at = 0.0
        self._measures = False  # the transaction under way
        self._is_to_measure = False
        self._alarm: asyncio.TimerHandle | None = None
        self._is_scheduled = False
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.bytes_waiting = 0
        """How many characters the events have that wait to be stored."""
        self.depth = 0
        """How many events are in the inbox, as far as is known."""
        self.oldest: float | None = None
        """When the oldest of them arrived, in seconds since 1970."""

    # -- what others ask for ---------------------------------------------

    async def put(self, body: str, key: bytes) -> bool:
        """Store an event; returns when it is durable.

        :param body: JSON in ASCII.
        :param key: 16 bytes; :data:`.sql.NO_KEY` for none.
        :returns: false if the key had been seen.
        :raises ServerUnavailable: if it may not be stored.
        :raises StateRefused: if the server will not store it.
        """
        answer: asyncio.Future[bool] = self._loop.create_future()
        put = Put(body, key, answer)
        self._waiting.append(put)
        self.bytes_waiting += len(body)
        self._schedule()
        try:
            return await asyncio.wait_for(answer, ANSWER_WITHIN)
        except asyncio.TimeoutError:
            raise ServerUnavailable(
                "the server did not answer in time"
            ) from None
        finally:
            self.bytes_waiting -= len(body)
            if put in self._waiting:
                self._waiting.remove(put)

    @property
    def waiting(self) -> int:
        """How many events wait to be stored."""
        return len(self._waiting) + len(self._sent)

    def delete(self, number: int) -> None:
        """Delete an event that has been processed, soon."""
        self._deleted.append(number)
        self._schedule()

    def measure(self) -> None:
        """Find out how many events there are, soon; once a second at most."""
        self._is_to_measure = True
        self._schedule()

    async def flush(self, within: float) -> None:
        """Wait until all is done, but not for long.

        :param within: seconds.
        """
        try:
            await asyncio.wait_for(self._idle.wait(), within)
        except asyncio.TimeoutError:
            logger.debug("An inbox is closed with writes under way")

    def close(self) -> None:
        """End at once. What waits is not stored."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            self._session.give_back(pipeline.detach())
        self._fail_all(ServerUnavailable("the inbox is closed"))

    # -- the session -----------------------------------------------------

    def connect(self) -> None:
        """Be ready to write: open a session, and again until there is one."""
        if self._connecting is None and self._pipeline is None:
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        while not self._is_closed:
            try:
                connection = await self._loop.run_in_executor(
                    self._executor, self._open
                )
            except StateRefused as error:
                self._fail_all(error)
            except HaError as error:
                logger.debug("An inbox has no session: %s", error)
            else:
                self._begin(connection)
                return
            await asyncio.sleep(RETRY)

    def _open(self) -> Connection[Any]:
        self._prepare()
        limits = {"lock": LOCK_WITHIN, "statement": STATEMENT_WITHIN}
        with self._session.transaction() as connection:
            connection.execute(sql.DURABLE)
            connection.execute(sql.IN_ORDER)
            connection.execute(
                sql.LIMITS,
                {name: f"{limits[name] * 1000:.0f}ms" for name in limits},
            )
        return self._session.take()

    def _begin(self, connection: Connection[Any]) -> None:
        self._connecting = None
        if self._is_closed:
            connection.close()
            return
        self._pipeline = Pipeline(
            connection, self._first, self._committed, self._broken
        )
        self._schedule()

    # -- one transaction at a time ---------------------------------------

    def _schedule(self) -> None:
        # At the end of this turn of the loop: more may come until then.
        self._idle.clear()
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_scheduled = False
        if self._pipeline is not None and not self._pipeline.is_busy:
            self._pipeline.look()  # send nothing into a session that ended
        if self._pipeline is None:
            self.connect()
            return
        if self._pipeline.is_busy:
            return
        # By itself: no event depends on it.
        statements = self._measurement() or [
            *self._puts(),
            *self._deletions(),
        ]
        if not statements:
            self._idle.set()
            return
        self._alarm = self._loop.call_later(ANSWER_WITHIN, self._late)
        self._pipeline.send(statements)

    def _puts(self) -> list[Statement]:
        size, keys = 0, set()
        while self._waiting and len(self._sent) < MOST_EVENTS:
            put = self._waiting[0]
            size += len(put.body)
            if self._sent and size > MOST_BYTES:
                break
            if put.key in keys:
                break  # the next transaction finds it
            if put.key != sql.NO_KEY:
                keys.add(put.key)
            self._sent.append(self._waiting.popleft())
        if not self._sent:
            return []
        columns = [
            texts([put.body for put in self._sent]),
            uuids([put.key for put in self._sent]),
        ]
        return [(sql.PUT, columns), (sql.NOTIFY, [])]

    def _deletions(self) -> list[Statement]:
        self._deleting, self._deleted = self._deleted, []
        if not self._deleting:
            return []
        return [(sql.DELETE, [bigints(self._deleting)])]

    def _measurement(self) -> list[Statement]:
        is_due = self._loop.time() >= self._measure_at
        is_wanted = self._is_to_measure or bool(self._waiting)
        self._measures = is_due and is_wanted
        if not self._measures:
            return []
        self._is_to_measure = False
        self._measured_at = self._loop.time()
        return [(sql.DEPTH, [str(MOST_COUNTED).encode()])]

    def _pause(self) -> float:
        took = self._loop.time() - self._measured_at
        return max(MEASURE_EVERY, took / MEASURING_SHARE)

    def _committed(self) -> None:
        self._stop_alarm()
        assert self._pipeline is not None
        sent, self._sent = self._sent, []
        answers = self._pipeline.answers
        if sent:
            self._answer(sent, answers[0])
        if self._measures:
            count, oldest = (answers[-1].get_value(0, n) for n in (0, 1))
            pause = min(self._pause(), LONGEST_UNMEASURED)
            self._measure_at = self._measured_at + pause
            self.depth = int(count)
            self.oldest = None if oldest is None else float(oldest)
            self._measures = False
        self._deleting = []
        self._schedule()

    def _answer(self, sent: list[Put], told: Any) -> None:
        fresh = {
            UUID(told.get_value(row, 0).decode()).bytes
            for row in range(told.ntuples)
        }
        for put in sent:
            is_new = put.key == sql.NO_KEY or put.key in fresh
            self.depth += is_new
            if not put.answer.done():
                put.answer.set_result(is_new)

    # -- when it does not work -------------------------------------------

    def _late(self) -> None:
        self._alarm = None
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.detach()
            self._failed(ServerUnavailable("the server did not answer"))

    def _broken(self, error: HaError, is_rolled_back: bool) -> None:
        self._stop_alarm()
        self._pipeline = None
        self._failed(error)

    def _failed(self, error: HaError) -> None:
        sent, self._sent = self._sent, []
        if self._measures:  # too slow: events are more important
            self._measures = False
            self._measure_at = self._measured_at + self._pause()
            self.depth = 0
        # To delete again does no harm.
        self._deleted, self._deleting = self._deleting + self._deleted, []
        for put in sent:
            _fail(put, error)
        if not self._is_closed:
            self._schedule()  # connect again, so that the next one is quick

    def _fail_all(self, error: HaError) -> None:
        sent, self._sent = self._sent, []
        for put in (*sent, *self._waiting):
            _fail(put, error)
        self._waiting.clear()

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def _fail(put: Put, error: HaError) -> None:
    if not put.answer.done():
        put.answer.set_exception(error)
