"""The gate that events pass on their way from sources to the engine."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextvars import ContextVar
from typing import (
    TYPE_CHECKING,
    Any,
    Awaitable,
    Callable,
    Coroutine,
    Deque,
    Mapping,
)

from ..election.term import Term
from ..errors import LeadershipLost
from ..inbox.delivery import Consumed, Delivery, Part, being_put
from ..state.names import key_of

if TYPE_CHECKING:
    from ..election.leadership import Leadership
    from ..state.journal import Mark
    from ..state.store import StateStore

logger = logging.getLogger(__name__)

NOT_LEADING = "this worker does not lead any more"
MOST_FEEDBACK = 1000  # acknowledgements that wait for their source
LAST_TRY = 5  # times that the server may refuse what comes of one event
QUIET_WITHIN = 3.0  # seconds that the end of a ruleset waits for the journal
# Turns of the event loop with nothing to store. A match reaches its action,
# and an action is followed by the next one, in a few.
QUIET_TURNS = 20

Count = Callable[[str, str], None]
"""Takes an event's source, and what became of the event: ``processed``,
``held``, ``dropped`` or ``duplicate``."""

_read_gate: ContextVar[EventGate | None] = ContextVar("gate", default=None)


def event_in_hand() -> EventGate | None:
    """The gate whose event this task is processing.

    None if the task reads no gate. Then it runs an action, and what it gives
    to the engine comes from that.
    """
    return _read_gate.get()


class EventGate:
    """Both ends of one ruleset's event queue, open only to the leader.

    While this worker leads, sources put events and the engine gets them. An
    event that was between the two when leadership ended is held for this
    worker's next term. If its source will send it again, it is dropped
    instead. Both are counted.

    :param queue: the ruleset's queue.
    :param leadership: whether this worker may act.
    :param is_control: tells a message to the engine (a shutdown) from an
        event; messages always pass.
    :param is_urgent: whether a message to the engine must not wait for the
        journal.
    :param will_be_sent_again: whether the source of an event sends it until
        it gets feedback for it.
    """

    def __init__(
        self,
        queue: asyncio.Queue[Any],
        leadership: Leadership,
        is_control: Callable[[Any], bool],
        is_urgent: Callable[[Any], bool],
        will_be_sent_again: Callable[[Any], bool] = lambda event: False,
    ) -> None:
        self.queue = queue
        self.will_be_sent_again = will_be_sent_again
        self.held_total = 0
        self.dropped_total = 0
        self.repeated_total = 0
        self.refused_total = 0
        self.count: Count = lambda source, outcome: None
        """Counts what becomes of events."""
        self.wait_for_room: Callable[[], Awaitable[None]] = _no_wait
        """Waits until the engine may be given the next event."""
        self.state: StateStore | None = None
        """Keeps the engine's state; None if no state is kept."""
        self._leadership = leadership
        self._is_control = is_control
        self._is_urgent = is_urgent
        # These run on through demotions, so what they sent is not sent again.
        self._aware_sources: set[Any] = set()
        self.feedbacks: list[DurableFeedback] = []
        """Those of the ruleset's sources."""
        self._held: Deque[Any] = deque()
        self._in_hand: Any = None
        self._failed_on: Any = None
        # Events with the mark of their changes, not known to be durable.
        self._unsafe: Deque[tuple[Any, Mark]] = deque()
        self._mark: Mark | None = None  # of the event in hand
        # Events of which it is not known whether they were stored, each with
        # the term and the number of its transaction.
        self._doubtful: list[tuple[Any, int, int]] = []
        self._stored: set[int] = set()  # by id(), of events that are held
        self._is_stored = False  # the event in hand
        # After a refusal this many events go one at a time, so that the next
        # refusal tells which event is meant.
        self._one_by_one = 0
        self._refused: Any = None
        self._refusals = 0
        self._putters: Deque[asyncio.Future[None]] = deque()
        self._under_way = 0  # puts that wait for room and will be let in
        self._parts: dict[int, Part] = {}  # by id(), from inboxes

    # -- the sources' end ------------------------------------------------

    async def put(self, event: Any, term: Term | None) -> None:
        """Put an event when the queue has room for it.

        :param term: the term that the source was started for; None for a
            source that runs on followers too: then it waits to lead.
        :raises LeadershipLost: if that term is over, or about to end. An
            event that waits for room when that begins is still let in.
        """
        delivery = being_put()
        if delivery is not None:
            await self._put_part(event, delivery)
            return
        if term is None:
            self._aware_sources.add(_source(event))
        elif self._leadership.is_ending:
            raise LeadershipLost(NOT_LEADING)
        is_under_way = False
        while True:
            if self.queue.full():
                if term is not None and not term.is_current():
                    raise LeadershipLost(NOT_LEADING)
                is_under_way = self._may_go_on(is_under_way)
                self._under_way += is_under_way
                try:
                    await self._room()
                finally:
                    self._under_way -= is_under_way
            elif term is None and not self._may_go_on(is_under_way):
                await self._leadership.next_term()
            elif term is None or term.is_current():
                # get() is the fence; this only turns sources away early.
                self.queue.put_nowait(event)
                return
            else:
                raise LeadershipLost(NOT_LEADING)

    async def _put_part(self, event: Any, delivery: Delivery) -> None:
        """Put what comes of an event that waits in an inbox until then."""
        if delivery.skips_part():
            self.repeated_total += 1
            self._count(event, "duplicate")
            return
        while True:
            if not (delivery.is_current() and self._leadership.is_open()):
                raise LeadershipLost(NOT_LEADING)
            if not self.queue.full():
                if id(event) in self._parts:
                    # A filter gave one object twice: they are two parts.
                    event = {**event, "meta": {**event["meta"]}}
                self._parts[id(event)] = delivery.part(event)
                self.queue.put_nowait(event)
                return
            await self._room()

    def _may_go_on(self, is_under_way: bool) -> bool:
        """Whether an event may be let in while this term goes on.

        :param is_under_way: its put began before the term was to end.
        """
        if is_under_way:
            return self._leadership.takes_events()
        return self._leadership.is_open()

    def put_nowait(self, event: Any, term: Term | None) -> None:
        """Put an event at once.

        :raises asyncio.QueueFull: if it would have to wait.
        :raises LeadershipLost: as :meth:`put`.
        """
        if term is not None and (
            self._leadership.is_ending or not term.is_current()
        ):
            raise LeadershipLost(NOT_LEADING)
        if not self._leadership.is_open():
            raise asyncio.QueueFull
        self.queue.put_nowait(event)

    async def _room(self) -> None:
        # asyncio.Queue.put() would go on to wait when the term has ended.
        turn = asyncio.get_running_loop().create_future()
        self._putters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake_one()  # it was our turn: pass it on
            elif turn in self._putters:
                self._putters.remove(turn)
            raise

    @property
    def has_puts_under_way(self) -> bool:
        """Whether a source waits for room since it could still put."""
        return self._under_way > 0

    def _wake_one(self) -> None:
        while self._putters:
            turn = self._putters.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def wake_all(self) -> None:
        """Let every blocked put look again whether its term is over."""
        while self._putters:
            self._wake_one()

    # -- the engine's end ------------------------------------------------

    async def get(self) -> Any:
        """The next event, while leading; a message to the engine always."""
        await self._lay_down()
        await self.wait_for_room()
        item = await self._get()
        if self._is_control(item):
            return await self._last_message(item)
        self._in_hand = item
        _read_gate.set(self)
        self._count(item, "processed")
        return item

    async def _last_message(self, message: Any) -> Any:
        """The message that ends the ruleset, once what came before is done.

        Matches and actions that wait for the journal came before the
        message, so they go on first. One of them may ask for a shutdown that
        is more urgent; then that message is returned instead.
        """
        if self.state is None or self._is_urgent(message):
            return message
        urgent = asyncio.ensure_future(self._next_urgent())
        quiet = asyncio.ensure_future(self._wait_quiet(self.state))
        try:
            await asyncio.wait(
                {urgent, quiet},
                timeout=QUIET_WITHIN,
                return_when=asyncio.FIRST_COMPLETED,
            )
            return urgent.result() if urgent.done() else message
        finally:
            urgent.cancel()
            quiet.cancel()

    async def _next_urgent(self) -> Any:
        """Read on; events that came after the message are not processed."""
        while True:
            item = await self.queue.get()
            if self._is_urgent(item):
                return item

    @staticmethod
    async def _wait_quiet(state: StateStore) -> None:
        """Wait until all is stored, and what has waited for it goes on."""
        turns = 0
        while turns < QUIET_TURNS:
            mark = state.last_write()
            if mark is None or mark.is_known_durable:
                turns += 1
                await asyncio.sleep(0)
            elif await mark.is_durable():
                turns = 0
            else:
                return  # the term is over

    @property
    def is_idle(self) -> bool:
        """Whether no event waits for the engine, or is in hand."""
        return self.queue.empty() and not self._held and self._in_hand is None

    def refuse(self) -> Any:
        """Upstream's reader failed on the event in hand: drop that event.

        :returns: the event, or None if it did not fail on a new one.
        """
        event = self._in_hand
        if event is None or event is self._failed_on:
            return None
        self._failed_on = event
        self.refused_total += 1
        return event

    def is_repeated(self, ruleset: str) -> bool:
        """Whether the event in hand has been processed before."""
        if id(self._in_hand) in self._stored:
            self._stored.discard(id(self._in_hand))
            self._is_stored = True
            return self._repeated()
        key = key_of(ruleset, self._in_hand)
        if self.state is None or key is None:
            return False
        again = self._comes_again(self._in_hand)
        if not self.state.seen.has(key, again):
            self.state.seen.add(key)
            return False
        return self._repeated()

    def _count(self, event: Any, outcome: str) -> None:
        self.count(str(_source(event)), outcome)

    def _repeated(self) -> bool:
        self.repeated_total += 1
        self._count(self._in_hand, "duplicate")
        logger.info("An event that has been processed before is dropped")
        return True

    def key(self, ruleset: str) -> bytes | None:
        """The key that tells the event in hand from all others, if any."""
        return key_of(ruleset, self._in_hand)

    def done(self) -> Consumed | None:
        """The event in hand is processed, or never can be.

        :returns: what to store in the same transaction, if the event comes
            from an inbox.
        """
        part = self._parts.get(id(self._in_hand))
        return None if part is None else part.done()

    def written(self) -> None:
        """The changes by the event in hand are in the journal's hands."""
        if self.state is not None and not self._is_stored:
            self._mark = self.state.last_write()

    def not_written(self) -> None:
        """The engine did not take the event in hand: the term is over."""
        event, self._in_hand = self._in_hand, None
        if event is not None:
            self._keep(event, first=True)
            self._wake_reader()

    @property
    def mark(self) -> Mark | None:
        """The mark of the event in hand."""
        return self._mark

    async def _lay_down(self) -> None:
        """Let go of the event in hand: the reader asks for the next one."""
        self._finish_part()
        mark, self._mark = self._mark, None
        event, self._in_hand = self._in_hand, None
        self._is_stored = False
        if mark is not None and event is not None:
            self._unsafe.append((event, mark))
        elif event is not None:
            self._parts.pop(id(event), None)
        while self._unsafe and self._unsafe[0][1].is_known_durable:
            safe, _ = self._unsafe.popleft()
            self._parts.pop(id(safe), None)
        if self.state is None:
            return
        if self._one_by_one and mark is not None:
            self._one_by_one -= 1
            await mark.is_durable()
        elif self.state.is_behind:
            last = self.state.last_write()
            if last is not None:
                await last.is_durable()

    def _finish_part(self) -> None:
        """What the engine did not get to see is processed, too."""
        part = self._parts.get(id(self._in_hand))
        consumed = None if part is None else part.done()
        if part is None or consumed is None:
            return
        if self.state is None:
            if not consumed.parts:
                part.delivery.delete()
        elif self.state.is_recording:
            self.state.consumed(consumed)
            self._mark = self.state.last_write()

    def recall(self, term: int) -> None:
        """At the end of a term: keep what may be lost.

        :param term: its number in the database.
        """
        if self._mark is not None and self._in_hand is not None:
            self._unsafe.append((self._in_hand, self._mark))
            self._in_hand = self._mark = None
        for feedback in self.feedbacks:
            feedback.end_term()
        lost = [
            (event, mark)
            for event, mark in self._unsafe
            if not mark.is_known_durable
        ]
        for event, mark in self._unsafe:
            if mark.is_known_durable:
                self._parts.pop(id(event), None)
        self._unsafe.clear()
        refused = [event for event, mark in lost if mark.is_refused]
        hopeless = len(refused) == 1 and self._is_last_refusal(refused[0])
        self._one_by_one = len(lost) if refused else 0
        for event, mark in reversed(lost):
            if hopeless and event is refused[0]:
                self._parts.pop(id(event), None)
                continue
            if not (mark.is_surely_lost or id(event) in self._parts):
                self._doubtful.append((event, term, mark.number))
            self._take_back(event, first=True)
        if lost:
            logger.info(
                "The changes by %d events may not be stored: those events "
                "that are not will be processed again",
                len(lost),
            )
        self._wake_reader()

    def _is_last_refusal(self, event: Any) -> bool:
        """Count a refusal. An event that is always refused blocks the rest."""
        if _content(event) != self._refused:
            self._refused, self._refusals = _content(event), 0
        self._refusals += 1
        if self._refusals < LAST_TRY:
            return False
        self.dropped_total += 1
        logger.error(
            "The changes by an event could not be stored %d times: the event "
            "is dropped",
            self._refusals,
        )
        return True

    def is_hopeless(self) -> bool:
        """Whether the event in hand was refused too often to try it again.

        A source that sends it again may have given it other metadata. So
        only the content is compared.
        """
        return (
            self._refusals >= LAST_TRY
            and _content(self._in_hand) == self._refused
        )

    def doubtful_terms(self) -> set[int]:
        """The earlier terms whose last durable transaction is asked for."""
        return {term for _, term, _ in self._doubtful}

    def settle(self, last_marks: Mapping[int, int]) -> None:
        """A term begins: find out which of the events held were stored.

        Those are acknowledged, and not given to the engine again.

        :param last_marks: the last durable transaction of each of
            :meth:`doubtful_terms` that is known.
        """
        for event, term, number in self._doubtful:
            if number <= last_marks.get(term, -1):
                self._stored.add(id(event))
        self._doubtful.clear()
        self._stored &= {id(event) for event in self._held}

    async def _get(self) -> Any:
        while True:
            if self._held and self._leadership.takes_events():
                return self._held.popleft()
            if self._held:
                item = await self._next()
            else:
                item = await self.queue.get()
                self._wake_one()
            if item is _NOTHING:
                continue
            if self._is_control(item):
                return item
            if not self._leadership.takes_events() or self._is_stale(item):
                self._keep(item)
            elif self._held:
                self._held.append(item)  # behind those that came earlier
            else:
                return item

    async def _next(self) -> Any:
        # Events that are held wait for a term. A shutdown must not wait, too.
        getting = asyncio.ensure_future(self.queue.get())
        leading = asyncio.ensure_future(self._leadership.next_term())
        try:
            await asyncio.wait(
                {getting, leading}, return_when=asyncio.FIRST_COMPLETED
            )
            if getting.done():
                self._wake_one()
                return getting.result()
            return _NOTHING
        finally:
            getting.cancel()
            leading.cancel()

    def _wake_reader(self) -> None:
        if self._held and not self.queue.full():
            self.queue.put_nowait(_NOTHING)  # it waits in queue.get()

    def _is_stale(self, event: Any) -> bool:
        """Whether it was taken out of an inbox in an earlier term.

        In this one it is taken again.
        """
        part = self._parts.get(id(event))
        return part is not None and not part.delivery.is_current()

    def _comes_again(self, event: Any) -> bool:
        """Whether it need not be held, since it is sent or taken again."""
        return id(event) in self._parts or (
            self.will_be_sent_again(event) and not self.is_aware(event)
        )

    def _keep(self, event: Any, first: bool = False) -> None:
        if id(event) in self._parts:
            del self._parts[id(event)]
        elif self._take_back(event, first):
            logger.info(
                "An event came as leadership ended: held for the next term"
            )
        else:
            logger.info(
                "An event came as leadership ended: dropped, since its "
                "source sends it again"
            )

    def is_aware(self, event: Any) -> bool:
        """Whether the event's source runs on followers, too."""
        return _source(event) in self._aware_sources

    def _take_back(self, event: Any, first: bool) -> bool:
        """Hold an event, or drop it if its source sends it again.

        :returns: whether it is held.
        """
        if self._parts.pop(id(event), None) is not None:
            return False
        if self._comes_again(event):
            self.dropped_total += 1
            self._count(event, "dropped")
            return False
        self.held_total += 1
        self._count(event, "held")
        if first:
            self._held.appendleft(event)
        else:
            self._held.append(event)
        return True

    @property
    def held(self) -> int:
        """How many events are held now."""
        return len(self._held)


def _source(event: Any) -> Any:
    """The name of the source that an event came from."""
    try:
        return event["meta"]["source"]["name"]
    except (KeyError, TypeError):
        return None


def _content(event: Any) -> Any:
    """What a source sent, without what was added on the way."""
    if isinstance(event, dict):
        return {name: event[name] for name in event if name != "meta"}
    return event


async def _no_wait() -> None:
    pass


_NOTHING = object()


class GatedQueue:
    """The queue at the end of one source's filters.

    :param gate: the ruleset's gate.
    :param term: see :meth:`EventGate.put`.
    """

    def __init__(self, gate: EventGate, term: Term | None) -> None:
        self._gate = gate
        self._term = term
        self.maxsize = gate.queue.maxsize

    def put(self, event: Any) -> Coroutine[Any, Any, None]:
        """See :meth:`EventGate.put`."""
        return self._gate.put(event, self._term)

    def put_nowait(self, event: Any) -> None:
        """See :meth:`EventGate.put_nowait`."""
        self._gate.put_nowait(event, self._term)

    def full(self) -> bool:
        """As of :class:`asyncio.Queue`."""
        return self._gate.queue.full()

    def empty(self) -> bool:
        """As of :class:`asyncio.Queue`."""
        return self._gate.queue.empty()

    def qsize(self) -> int:
        """As of :class:`asyncio.Queue`."""
        return self._gate.queue.qsize()


class DurableFeedback:
    """A source's feedback queue: acknowledges an event once it is durable.

    :param queue: upstream's.
    :param gate: the gate of the event in hand.
    """

    def __init__(self, queue: Any, gate: EventGate) -> None:
        self._queue = queue
        self._gate = gate
        self._waiting: Deque[tuple[Any, Mark | None]] = deque()
        self._task: asyncio.Task[None] | None = None
        gate.feedbacks.append(self)

    async def put(self, event: Any) -> None:
        """Acknowledge the event in hand as soon as it is durable.

        Acknowledgements keep the order of the events. The next event does
        not wait for this one's, unless too many wait to be read.
        """
        mark = self._gate.mark
        if not self._waiting and (mark is None or mark.is_known_durable):
            await self._queue.put(event)
            return
        self._waiting.append((event, mark))
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._put_later())
        if len(self._waiting) > MOST_FEEDBACK:
            await asyncio.wait({self._task})

    def end_term(self) -> None:
        """Drop acknowledgements that wait: the next start sent no such event.

        A source that runs on followers, too, still gets them.
        """
        if self._waiting and not self._gate.is_aware(self._waiting[0][0]):
            self._waiting.clear()
            if self._task is not None:
                self._task.cancel()

    async def _put_later(self) -> None:
        while self._waiting:
            event, mark = self._waiting[0]
            if mark is None or await mark.is_durable():
                await self._queue.put(event)
            if self._waiting and self._waiting[0][0] is event:
                self._waiting.popleft()
