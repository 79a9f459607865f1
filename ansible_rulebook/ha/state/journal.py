"""Writes changes of the state, and tells when they are durable.

Group commit: changes that come while a transaction is under way wait for the
next one, which is sent as soon as the first is answered (DeWitt et al.,
"Implementation Techniques for Main Memory Database Systems", 1984). Each
transaction has a number, its mark. Nothing may follow from a change before
its mark is durable: no action, no feedback, no next action of a rule.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Awaitable, Callable, Deque

from psycopg import Connection

from ..errors import HaError, ServerUnavailable, StateFenced
from . import sql
from .arrays import uuids
from .changes import Changes
from .pipeline import Pipeline

INTERVAL = 0.002  # seconds from one transaction to the next, under load
LINGER = 0.02  # seconds that a change waits for others if nobody waits for it
MOST_BEHIND = 1000  # changes not durable yet; beyond it no event is taken in
LONGEST_BEHIND = 1.0  # seconds that a change may wait, likewise
REMEMBERED = 1000  # transactions whose events stay in the tables
TIDY_EVERY = 128  # transactions
RETRY = 0.2  # seconds between two tries to get a session back


class Mark:
    """The transaction that a change is written with."""

    __slots__ = ("_journal", "number")

    def __init__(self, journal: Journal, number: int) -> None:
        self._journal = journal
        self.number = number

    @property
    def is_known_durable(self) -> bool:
        """Whether it is durable, as far as is known now."""
        return self.number <= self._journal.durable

    @property
    def is_surely_lost(self) -> bool:
        """Whether it was certainly not stored."""
        return self._journal.has_lost(self.number)

    @property
    def is_refused(self) -> bool:
        """Whether the server answered that it will not store it."""
        return self._journal.is_refused(self.number)

    async def is_durable(self) -> bool:
        """Wait until it is durable; false if it may be lost."""
        return self.is_known_durable or await self._journal.reaches(
            self.number
        )


class Journal:
    """The changes of one term. Lives on the event loop.

    :param ha_uuid: the cluster.
    :param term: the term's number in the database.
    :param mark: the number of the last transaction before this term.
    :param connection: a session in autocommit mode.
    :param reconnect: opens another session that may write in this term.
    :param limit: seconds in which the server has to answer.
    :param committed: called with the seconds that each transaction took.
    :param failed: called once with the error if the last write may be lost.
    """

    def __init__(
        self,
        ha_uuid: str,
        term: int,
        mark: int,
        connection: Connection[Any],
        reconnect: Callable[[], Awaitable[Connection[Any]]],
        limit: float,
        failed: Callable[[HaError], None],
        committed: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.term = term
        self._first = [ha_uuid.encode()]
        self._reconnect = reconnect
        self._limit = limit
        self._failed = failed
        self._tell_duration = committed
        self._loop = asyncio.get_running_loop()
        self._pipeline: Pipeline | None = self._begin(connection)
        self._changes = Changes()
        self._is_urgent = False  # something waits for a pending change
        self._lingers = False  # the timer to send waits LINGER
        self._sent_size = 0  # of the transaction that is under way
        self.durable = mark
        """The last transaction that is known to be durable."""
        self._sent = mark
        self._asked_at = 0.0  # when the last one was sent, loop's clock
        self._pending_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None  # to send
        self._alarm: asyncio.TimerHandle | None = None  # it takes too long
        self._reopening: asyncio.Task[None] | None = None
        self._waiting: Deque[tuple[int, asyncio.Future[bool]]] = deque()
        self._is_rolled_back = False  # the last one that was sent
        self.is_over = False

    # -- writing ---------------------------------------------------------

    @property
    def changes(self) -> Changes:
        """The changes to be sent next. Add some, then call :meth:`wrote`."""
        return self._changes

    def wrote(self) -> Mark:
        """Send what was added to :attr:`changes`, soon.

        :returns: the mark of it.
        """
        if self._changes.size:
            self._is_urgent = True
            self._schedule()
        return self.last()

    def wrote_in_passing(self) -> None:
        """Send what was added with the next transaction, or a little later.

        Nothing waits for it.
        """
        self._schedule()

    def _schedule(self) -> None:
        if self._pending_since is None:
            self._pending_since = self._loop.time()
        if self._timer is not None and self._is_urgent and self._lingers:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and not self._is_busy and not self.is_over:
            # At the end of this turn of the loop: more may come until then.
            wait = self._asked_at + INTERVAL - self._loop.time()
            self._lingers = not self._is_urgent
            if self._lingers:
                wait = LINGER
            self._timer = self._loop.call_later(max(wait, 0.0), self._send)
            self._watch()

    def last(self) -> Mark:
        """The mark of what was written last, except in passing."""
        return Mark(self, self._sent + self._is_urgent)

    def look(self) -> None:
        """See :meth:`.Pipeline.look`."""
        if self._pipeline is not None and self._is_busy:
            self._pipeline.look()

    @property
    def behind(self) -> float:
        """Seconds since the oldest change that is not durable yet."""
        since = self._asked_at if self._is_busy else self._pending_since
        if self.is_over or since is None:
            return 0.0
        return max(0.0, self._loop.time() - since)

    @property
    def is_behind(self) -> bool:
        """Whether too much waits to be durable to take in more events."""
        if self._sent_size + self._changes.size > MOST_BEHIND:
            return True
        since = self._pending_since
        return since is not None and self._loop.time() - since > LONGEST_BEHIND

    async def reaches(self, number: int) -> bool:
        """See :meth:`Mark.is_durable`."""
        if self.is_over:
            return False
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._waiting.append((number, answer))
        return await answer

    def has_lost(self, number: int) -> bool:
        """Whether a transaction was surely not committed."""
        if not self.is_over or number <= self.durable:
            return False
        return number > self._sent or self._is_rolled_back

    def is_refused(self, number: int) -> bool:
        """Whether the server rolled a transaction back, and said why."""
        return self.is_over and self._is_rolled_back and number == self._sent

    async def finish(self, limit: float) -> Connection[Any] | None:
        """Write the pending changes, wait for the answer, and end.

        :param limit: seconds to wait.
        :returns: the session, if it is still fit for use.
        """
        last = self.wrote()
        if not self.is_over and not last.is_known_durable:
            await asyncio.wait(
                {asyncio.ensure_future(last.is_durable())}, timeout=limit
            )
        return self.end()

    def end(self) -> Connection[Any] | None:
        """End at once. A transaction without an answer may be stored or not.

        :returns: as :meth:`finish`.
        """
        self.is_over = True
        self._stop_timers()
        if self._reopening is not None:
            self._reopening.cancel()
        pipeline, self._pipeline = self._pipeline, None
        connection = None if pipeline is None else pipeline.detach()
        while self._waiting:
            _answer(self._waiting.popleft()[1], False)
        return connection

    # -- sending ---------------------------------------------------------

    def _begin(self, connection: Connection[Any]) -> Pipeline:
        return Pipeline(connection, self._first, self._committed, self._broken)

    @property
    def _is_busy(self) -> bool:
        return self._sent > self.durable

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()  # one that came with a new session
        self._timer = None
        if self._pipeline is not None:
            self._pipeline.look()  # send nothing into a session that ended
        if self.is_over or self._pipeline is None or not self._changes.size:
            return  # it goes out with the next session
        changes, self._changes = self._changes, Changes()
        self._is_urgent = False
        self._sent += 1
        if self._sent % TIDY_EVERY == 0:
            changes.forget_until = self._sent - REMEMBERED
        self._sent_size = changes.size
        self._asked_at = self._loop.time()
        term, mark = str(self.term).encode(), str(self._sent).encode()
        self._pipeline.send(
            [
                (sql.FENCE, [term]),
                *changes.statements(self._sent),
                (sql.ADD_COMMIT, [term, mark, uuids(changes.events)]),
            ]
        )

    def _committed(self) -> None:
        self._stop_timers()
        self.durable, self._sent_size = self._sent, 0
        self._tell_duration(self._loop.time() - self._asked_at)
        self._pending_since = None
        waiting, self._waiting = self._waiting, deque()
        for number, answer in waiting:
            if number <= self.durable:
                _answer(answer, True)
            else:
                self._waiting.append((number, answer))
        if self._changes.size:
            self._schedule()

    def _watch(self) -> None:
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._limit, self._late)

    def _late(self) -> None:
        self._alarm = None
        self.look()
        since = self._asked_at if self._is_busy else self._pending_since
        if self.is_over or since is None:
            return
        left = since + self._limit - self._loop.time()
        if left > 0:
            # The loop stood still: the server has been asked only now.
            self._alarm = self._loop.call_later(left, self._late)
            return
        self._fail(ServerUnavailable("the server did not answer in time"))

    # -- when it does not work -------------------------------------------

    def _broken(self, error: HaError, is_rolled_back: bool) -> None:
        self._pipeline = None
        if self._is_busy:
            self._is_rolled_back = is_rolled_back
            self._fail(error)
        elif not self.is_over and self._reopening is None:
            # Nothing was under way: pending changes wait for a new session.
            self._reopening = asyncio.ensure_future(self._reopen())

    async def _reopen(self) -> None:
        while not self.is_over:
            try:
                connection = await self._reconnect()
            except StateFenced as error:
                self._fail(error)
                return
            except HaError:
                await asyncio.sleep(RETRY)
                continue
            if self.is_over:
                connection.close()
                return
            self._pipeline, self._reopening = self._begin(connection), None
            self._send()
            return

    def _fail(self, error: HaError) -> None:
        if not self.is_over:
            self.end()
            self._failed(error)

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._alarm):
            if timer is not None:
                timer.cancel()
        self._timer = self._alarm = None


def _answer(answer: asyncio.Future[bool], is_durable: bool) -> None:
    if not answer.done():
        answer.set_result(is_durable)
