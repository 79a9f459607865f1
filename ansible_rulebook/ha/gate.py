"""The gate that events pass on their way from sources to the engine."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Deque

from .errors import LeadershipLost
from .term import Term

if TYPE_CHECKING:
    from .flush import Mark
    from .office import Office

logger = logging.getLogger(__name__)

NOT_LEADING = "this worker does not lead any more"
LAST_TRY = 5  # times that an event is given to the engine
MOST_UNSAFE = 4  # events that are stored and not safe, beside the last one


class EventGate:
    """Both ends of one ruleset's event queue, open only to the leader.

    Sources put and the engine gets while this worker leads. An event that
    was between the two when leadership ended is held for this worker's next
    term, or dropped where its source will send it again. Either is counted.

    :param queue: the ruleset's queue.
    :param office: who knows the term.
    :param is_control: tells a message to the engine (a shutdown) from an
        event; messages always pass.
    :param will_be_sent_again: tells events that a source repeats until it
        got feedback for them.
    """

    def __init__(
        self,
        queue: asyncio.Queue[Any],
        office: Office,
        is_control: Callable[[Any], bool],
        will_be_sent_again: Callable[[Any], bool] = lambda event: False,
    ) -> None:
        self.queue = queue
        self.will_be_sent_again = will_be_sent_again
        self.held_total = 0
        self.dropped_total = 0
        self.most_unsafe = MOST_UNSAFE
        self._office = office
        self._is_control = is_control
        # Such a source is not started again, so it does not send again.
        self._has_aware_source = False
        self._held: Deque[Any] = deque()
        self._in_hand: Any = None
        self._failing: Any = None
        self._failures = 0
        # Stored, but not known to be safe on the server's disk.
        self._unsafe: Deque[tuple[Any, Mark]] = deque()
        self._mark: Mark | None = None  # of the event in hand
        self._doubtful: list[Any] = []  # may be stored after all
        self._reader: asyncio.Task[Any] | None = None
        self._putters: Deque[asyncio.Future[None]] = deque()

    # -- the sources' end ------------------------------------------------

    async def put(self, event: Any, term: Term | None) -> None:
        """Put an event when the queue has room for it.

        :param term: the term that the source was started for; None for a
            source that runs on followers too: then it waits to lead.
        :raises LeadershipLost: if that term is over.
        """
        self._has_aware_source |= term is None
        while True:
            if self.queue.full():
                if term is not None and term.has_ended:
                    raise LeadershipLost(NOT_LEADING)
                await self._room()
            elif term is None and not self._office.leads():
                await self._office.next_term()
            elif term is None or term.is_trusted():
                # get() is the fence; this only turns sources away early.
                self.queue.put_nowait(event)
                return
            else:
                raise LeadershipLost(NOT_LEADING)

    def put_nowait(self, event: Any, term: Term | None) -> None:
        """Put an event at once.

        :raises asyncio.QueueFull: if it would have to wait.
        :raises LeadershipLost: as :meth:`put`.
        """
        if term is not None and not term.is_current():
            raise LeadershipLost(NOT_LEADING)
        if not self._office.leads():
            raise asyncio.QueueFull
        self.queue.put_nowait(event)

    async def _room(self) -> None:
        # asyncio.Queue would keep a blocked putter beyond its term.
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
        # What was not given back is stored.
        if self._failures and _content(self._in_hand) == self._failing:
            self._failures = 0
        self._in_hand = None
        item = await self._get()
        if not self._is_control(item):
            self._in_hand = item
            self._reader = asyncio.current_task()
        return item

    def stored(self, mark: Mark) -> None:
        """The event in hand is stored, and safe when this mark is."""
        self._mark = mark

    async def is_safe(self) -> bool:
        """Wait until the event in hand is safe; false if it may be lost."""
        return self._mark is None or await self._mark.is_safe()

    async def _lay_down(self) -> None:
        """Be done with the event in hand, as far as is known."""
        mark, self._mark = self._mark, None
        if mark is not None and self._in_hand is not None:
            self._unsafe.append((self._in_hand, mark))
        self._forget_safe()
        while len(self._unsafe) > self.most_unsafe:
            if not await self._unsafe[0][1].is_safe():
                return  # the term is over; recall() comes
            self._forget_safe()

    def _forget_safe(self) -> None:
        while self._unsafe and self._unsafe[0][1].is_known_safe:
            self._unsafe.popleft()

    def recall(self) -> None:
        """At the end of a term: keep what may be lost."""
        if self._mark is not None and self._in_hand is not None:
            self._unsafe.append((self._in_hand, self._mark))
            self._in_hand = self._mark = None
        self._forget_safe()
        while self._unsafe:
            event, _ = self._unsafe.pop()
            self._doubtful.append(event)
            self._keep(event, first=True)
        self._wake_reader()

    def is_read_here(self) -> bool:
        """Whether the present task is the one that gets the events."""
        return self._reader is asyncio.current_task()

    async def _get(self) -> Any:
        while True:
            if self._held and self._office.leads():
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
            if not self._office.leads():
                self._keep(item)
            elif self._held:
                self._held.append(item)  # it came after those
            else:
                return item

    async def _next(self) -> Any:
        # Events wait for a term, and a shutdown must not wait behind them.
        getting = asyncio.ensure_future(self.queue.get())
        leading = asyncio.ensure_future(self._office.next_term())
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

    def give_back(self, doubtful: bool = False) -> None:
        """The last event could not be stored: keep it.

        One that fails again and again is dropped in the end, or nothing
        would come after it; see :meth:`is_hopeless`.

        :param doubtful: it is not known whether it was stored after all.
        """
        event, self._in_hand = self._in_hand, None
        if _content(event) != self._failing:
            self._failing, self._failures = _content(event), 0
        self._failures += 1
        if self._failures < LAST_TRY:
            if doubtful:
                self._doubtful.append(event)
            self._keep(event, first=True)
            self._wake_reader()
            return
        self.dropped_total += 1
        logger.error(
            "An event could not be stored %d times and is dropped",
            self._failures,
        )

    def _wake_reader(self) -> None:
        if self._held and not self.queue.full():
            self.queue.put_nowait(_NOTHING)  # it waits there

    def settle_doubtful(self, others_led: bool) -> None:
        """A term begins: drop what another worker may have processed.

        If none has led, the engine knows the ids of those that are stored.
        """
        held = {id(event) for event in self._held}
        self._doubtful = [e for e in self._doubtful if id(e) in held]
        if not others_led:
            return
        doubtful = {id(event) for event in self._doubtful}
        self._doubtful.clear()
        self._held = deque(e for e in self._held if id(e) not in doubtful)
        for _ in doubtful:
            self.dropped_total += 1
            logger.warning(
                "An event of which it is not known whether it was stored is "
                "dropped, since another worker has led meanwhile"
            )

    def is_hopeless(self) -> bool:
        """Whether the last event is one that could never be stored.

        For sources that send it again: with other metadata, it is the same.
        """
        return (
            self._failures >= LAST_TRY
            and _content(self._in_hand) == self._failing
        )

    def _keep(self, event: Any, first: bool = False) -> None:
        if self.will_be_sent_again(event) and not self._has_aware_source:
            self.dropped_total += 1
            logger.info(
                "An event came as leadership ended: dropped, since its "
                "source sends it again"
            )
            return
        self.held_total += 1
        logger.info(
            "An event came as leadership ended: held for the next term"
        )
        if first:
            self._held.appendleft(event)
        else:
            self._held.append(event)

    @property
    def held(self) -> int:
        """How many events are held now."""
        return len(self._held)


def _content(event: Any) -> Any:
    """What a source sent, without what was added on the way."""
    if isinstance(event, dict):
        return {name: event[name] for name in event if name != "meta"}
    return event


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


class SafeFeedback:
    """A source's feedback queue, which acknowledges what is safe.

    :param queue: upstream's.
    :param gate: the gate of the event in hand.
    """

    def __init__(self, queue: Any, gate: EventGate) -> None:
        self._queue = queue
        self._gate = gate

    async def put(self, event: Any) -> None:
        """Acknowledge the event in hand, unless it may be lost."""
        if await self._gate.is_safe():
            await self._queue.put(event)
