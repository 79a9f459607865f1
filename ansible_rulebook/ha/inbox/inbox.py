"""Events that are acknowledged before a worker has processed them.

::

    put   on any worker: durable in PostgreSQL when it returns
    take  on the leader: the next event, in the order of their arrival
    done  it is processed, and out of the inbox

In a worker :meth:`Inbox.feed` takes, and the rules' journal deletes an event
in the transaction that stores what the rules made of it. So whatever dies
when, the rules process each event exactly once. Without a journal an event
is deleted when the rules have taken it in: then they process it at least
once.

The pattern is that of the transactional outbox, seen from its other end
(Hohpe and Woolf, "Enterprise Integration Patterns": guaranteed delivery,
idempotent receiver).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import (
    Any,
    AsyncContextManager,
    Callable,
    NoReturn,
    Optional,
    Type,
    Union,
)
from uuid import UUID

from ..conninfo import Conninfo
from ..election.leadership import Leadership
from ..election.lease import Timings
from ..election.names import application_name, lock_key
from ..election.term import Term
from ..errors import (
    HaError,
    LeadershipLost,
    OptionError,
    ServerUnavailable,
    StateRefused,
)
from ..redaction import one_line
from ..state import schema
from ..state.session import StateSession
from ..state.sql import INBOX_NAME, LARGEST, LONGEST_NAME
from . import sql
from .delivery import Delivery, Row
from .taker import Taker
from .writer import Writer

logger = logging.getLogger(__name__)

APPLICATION = "eda-inbox"  # of the sessions, as pg_stat_activity shows them
MOST = 10_000  # events in an inbox, unless the caller says otherwise
MOST_WAITING = 1_000  # events of one worker that are not durable yet
MOST_BYTES_WAITING = 64_000_000  # characters of them
FULL_RETRY = 5.0  # seconds after which a sender may try again
MEASURE_EVERY = 1.0  # seconds, while something waits
FLUSH_WITHIN = 2.0  # seconds, at the end
END_WITHIN = 1.0  # seconds, for a wait that was cut off

Measured = Callable[[str, int, Optional[float]], None]
"""Takes an inbox's name, how many events wait in it, and since when (seconds
since 1970)."""


class InboxFull(HaError):
    """More events wait than the inbox may hold. Nothing was stored.

    :param retry_after: seconds after which to try again.
    """

    def __init__(self, text: str, retry_after: float = FULL_RETRY) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class EventRefused(HaError, ValueError):
    """An event that no inbox takes: no JSON object, or too large."""


class Inbox:
    """One inbox of a cluster. Lives on one event loop.

    Use it as an asynchronous context manager. Any program may put; one at a
    time may take.

    :param dsn: where the server is.
    :param ha_uuid: the cluster.
    :param name: of the inbox: letters, digits and ``_.:-``, up to 100.
    :param most: events that may wait in it. The number is looked at once a
        second, so it may be exceeded by what comes in one.
    :param worker_id: for people who look at the server's sessions.
    :param process: tells processes with the same ``worker_id`` apart.
    :param leadership: of the worker that it is in, if it is in one.
    :param timings: make the time limits of its sessions.
    :param measured: told how much waits, on the worker that leads.
    :param use: is entered before it is opened, and left when it is closed.
    :raises OptionError: for a name or a limit that cannot be.
    """

    def __init__(
        self,
        dsn: Union[str, Conninfo],
        ha_uuid: Union[str, UUID],
        name: str,
        most: int = MOST,
        *,
        worker_id: str = "",
        process: str = "",
        leadership: Leadership | None = None,
        timings: Timings | None = None,
        measured: Measured = lambda name, events, oldest: None,
        use: AsyncContextManager[Any] | None = None,
    ) -> None:
        check_name(name)
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise OptionError(f"inbox {name}: most must be a number above 0")
        self.name = name
        self.most = most
        self._conninfo = dsn if isinstance(dsn, Conninfo) else Conninfo(dsn)
        self._uuid = UUID(str(ha_uuid))
        self._leadership = leadership
        self._measured = measured
        self._use = use
        self._application = application_name(
            lock_key(self._uuid), worker_id, process, APPLICATION
        )
        self._session = StateSession(
            self._conninfo, self._application, timings or Timings()
        )
        self._thread = ThreadPoolExecutor(1, "ha-inbox")
        self._is_prepared = False
        self._writer: Writer | None = None
        self._taker: Taker | None = None  # of take()

    async def __aenter__(self) -> Inbox:
        """Find or make the tables, and connect.

        :raises StateRefused: if the tables cannot be had.
        """
        loop = asyncio.get_running_loop()
        if self._use is not None:
            await self._use.__aenter__()
        try:
            await loop.run_in_executor(self._thread, self._prepare)
        except ServerUnavailable:
            pass  # events are refused until it is there
        except BaseException:
            await self._end()
            raise
        self._writer = Writer(
            self._session,
            self._thread,
            self._uuid,
            self.name,
            self._prepare,
        )
        self._writer.connect()
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Write what waits, for two seconds at most, and disconnect."""
        writer = self._open()
        try:
            await writer.flush(FLUSH_WITHIN)
        finally:
            writer.close()
            if self._taker is not None:
                self._taker.close()
            await self._end()

    async def _end(self) -> None:
        self._session.abort()
        self._thread.submit(self._session.close)
        self._thread.shutdown(wait=False)
        if self._use is not None:
            await self._use.__aexit__(None, None, None)

    def _prepare(self) -> None:
        if self._is_prepared:
            return
        found = schema.survey(self._session)
        obstacle = found.obstacle()
        if obstacle is not None:
            raise StateRefused(obstacle)
        if found.missing:
            schema.create(self._session)
        self._is_prepared = True

    def _open(self) -> Writer:
        if self._writer is None:
            raise HaError(f"inbox {self.name} is not open")
        return self._writer

    # -- putting ---------------------------------------------------------

    async def put(
        self, event: dict[str, Any], key: Optional[str] = None
    ) -> bool:
        """Store an event. It is durable when this returns.

        :param event: as a source puts it into its queue.
        :param key: an idempotency key: of several events with one key, in
            this inbox and within 24 hours, only the first is stored.
        :returns: false if the key had been seen.
        :raises InboxFull: if too many events wait.
        :raises EventRefused: if it is not to be had as JSON, or too large.
        :raises ServerUnavailable: if it may not be stored: put it again.
            Without a key it may then come twice.
        :raises StateRefused: if the server refuses it.
        """
        writer = self._open()
        body = encoded(event)
        if writer.depth >= self.most:
            writer.measure()
            raise InboxFull(f"{writer.depth} events wait in {self.name}")
        is_much = writer.bytes_waiting + len(body) > MOST_BYTES_WAITING
        if writer.waiting >= MOST_WAITING or is_much:
            raise InboxFull(f"{writer.waiting} events wait to be stored", 1.0)
        return await writer.put(body, key_bytes(key))

    # -- taking ----------------------------------------------------------

    async def take(self) -> Delivery:
        """The next event, for a program that is no worker. Waits for one.

        What was taken and is not :meth:`done` comes again when the inbox is
        opened anew.
        """
        writer = self._open()
        if self._taker is None:
            self._taker = self._make_taker(writer, None)
        return await self._taker.take()

    def done(self, delivery: Delivery) -> None:
        """It has been processed: delete it, soon."""
        delivery.delete()

    async def feed(self, queue: Any) -> NoReturn:
        """Put events into a source's queue whenever this worker leads.

        In the order of their arrival, each when the queue has room.

        :param queue: upstream's, as the source's ``main`` gets it.
        """
        leadership = self._leadership
        if leadership is None:
            raise HaError(f"inbox {self.name} is not in a worker")
        while True:
            term = await leadership.next_term()
            await self._feed_term(queue, leadership, term)

    async def _feed_term(
        self, queue: Any, leadership: Leadership, term: Term
    ) -> None:
        writer = self._open()
        taker = self._make_taker(writer, term)
        feeding = asyncio.ensure_future(_feed(queue, taker))
        measuring = asyncio.ensure_future(self._measure(writer, taker))
        ending = asyncio.ensure_future(leadership.closed(term))
        try:
            await asyncio.wait(
                {feeding, measuring, ending},
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            tasks = {feeding, measuring, ending}
            for task in tasks:
                task.cancel()
            taker.end()
            try:
                await asyncio.wait(tasks, timeout=END_WITHIN)
            finally:
                taker.close()
                self._measured(self.name, 0, None)
        for task in (feeding, measuring):
            if task.done() and not task.cancelled():
                task.result()

    async def _measure(self, writer: Writer, taker: Taker) -> NoReturn:
        writer.measure()
        while True:
            await asyncio.sleep(MEASURE_EVERY)
            self._measured(self.name, writer.depth, writer.oldest)
            if writer.depth or taker.in_hand:
                writer.measure()

    def _make_taker(self, writer: Writer, term: Term | None) -> Taker:
        def delete(row: Row) -> None:
            writer.delete(row.number)

        return Taker(
            self._conninfo,
            self._application,
            self._uuid,
            self.name,
            term,
            delete,
        )


async def _feed(queue: Any, taker: Taker) -> None:
    """Returns if the term is over."""
    while True:
        delivery = await taker.take()
        try:
            with delivery.being_put():
                await queue.put(delivery.event)
        except LeadershipLost:
            return
        except Exception as error:
            # It would end the rulebook of each leader in turn.
            logger.error(
                "Inbox %s: a filter of the source fails on event %d, which "
                "is dropped: %s %s",
                *delivery.row,
                type(error).__name__,
                one_line(str(error)),
            )
        delivery.seal()


def check_name(name: object) -> None:
    """Whether an inbox may be called so.

    :raises OptionError: if not.
    """
    if (
        not isinstance(name, str)
        or len(name) > LONGEST_NAME
        or not re.fullmatch(INBOX_NAME, name)
    ):
        raise OptionError(
            f"the name of an inbox must be 1 to {LONGEST_NAME} letters, "
            "digits and '_', '.', ':' or '-'"
        )


def encoded(event: dict[str, Any]) -> str:
    """An event as JSON in ASCII.

    :raises EventRefused: if that cannot be.
    """
    if not isinstance(event, dict):
        raise EventRefused("the event is no JSON object")
    if not isinstance(event.get("meta", {}), dict):
        raise EventRefused("the event's meta is no JSON object")
    try:
        text = json.dumps(event, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise EventRefused(
            f"the event is not to be had as JSON: {error}"
        ) from None
    if len(text) > LARGEST:
        raise EventRefused(f"the event has more than {LARGEST} characters")
    return text


def key_bytes(key: Optional[str]) -> bytes:
    """16 bytes of an idempotency key, as ``eda_ha_post`` makes them."""
    if key is None:
        return sql.NO_KEY
    text = key.encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()[:16]
