"""A worker as one event source sees it: real parts, but made-up terms.

The parts are those that a worker is made of, so a source behaves here as it
does there. Only the election is missing: the test says who leads, and has
the clock that leases are judged with.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from types import FrameType
from typing import Any, Deque

from ..election.leadership import Leadership
from ..election.lease import Timings
from ..election.term import Term
from ..rulebook.drain import end_sources
from ..rulebook.gate import EventGate
from ..rulebook.sources import LOOK_EVERY, Sources
from . import stacks
from .plugin import Plugin

SHUTDOWN_DELAY = 60.0  # seconds, ansible-rulebook's default
TURNS = 20  # of the loop: whatever a task can do without time passing


class Start:
    """One run of a source's main."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.was_cancelled = False
        self.error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether main has ended."""
        return self.task.done()

    def place(self) -> str:
        """Where main waits."""
        return stacks.place(stacks.innermost(self.task.get_coro()))


class SourceQueue:
    """What a source gets: as upstream's queue, with no filters.

    :param queue: behind the filters, of :class:`Sources`.
    :param stage: notes what is put.
    """

    def __init__(self, queue: Any, stage: Stage) -> None:
        self.queue = queue
        self._stage = stage
        self._start: Start | None = None

    def bind(self, start: Start) -> None:
        """Remember whose queue it is."""
        self._start = start

    async def put(self, data: Any) -> None:
        """Put one event, or a list of them."""
        for event in data if isinstance(data, list) else [data]:
            # A coroutine's caller is the frame that awaits it.
            self._stage.note_put(event, self._start, sys._getframe(1))
            await self._stage.put(event, self.queue)

    def put_nowait(self, data: Any) -> None:
        """Put one event at once."""
        self._stage.note_put(data, self._start, sys._getframe(1))
        self.queue.put_nowait(data)
        self._stage.emitted += 1


class Stage:
    """The worker; everything here belongs to the source's loop.

    :param plugin: the source.
    :param args: as in a rulebook.
    :param queue_size: of the ruleset's queue.
    :param timings: of the lease.
    """

    def __init__(
        self,
        plugin: Plugin,
        args: dict[str, Any],
        queue_size: int,
        timings: Timings,
    ) -> None:
        self.plugin = plugin
        self.timings = timings
        self.now = 0.0  # seconds, the clock of the lease
        self.emitted = 0
        self.waiting = 0  # events whose put has begun and not ended
        self.late: list[str] = []
        self.starts: list[Start] = []
        self.leadership = Leadership(self._confirm)
        self._args = args
        self._put_waits = asyncio.Event()
        self._terms = 0
        self._fillers: set[int] = set()
        self._read: Deque[Any] = deque()  # by what shuts down
        self._queue: asyncio.Queue[Any] = asyncio.Queue(queue_size)
        self._gate = EventGate(
            self._queue, self.leadership, lambda item: False, lambda _: False
        )
        self.sources = Sources(self.leadership, lambda queue: self._gate)
        main = self.sources.wrap(self._main, plugin.name, plugin.is_aware)
        self.source: asyncio.Task[None] = asyncio.ensure_future(
            main(SourceQueue(self._queue, self), args)
        )
        """Upstream's rulebook ends with it."""

    async def _confirm(self) -> bool:
        return True

    async def _main(self, queue: SourceQueue, args: dict[str, Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        start = Start(task)
        self.starts.append(start)
        queue.bind(start)
        try:
            await self.plugin.main(queue, args)
        except asyncio.CancelledError:
            start.was_cancelled = True
            raise
        except BaseException as error:
            start.error = error
            raise

    async def put(self, event: Any, queue: Any) -> None:
        """Put an event, and tell if that takes time."""
        self.waiting += 1
        asyncio.get_running_loop().call_soon(self._tell_waiting)
        try:
            await queue.put(event)
            self.emitted += 1
        finally:
            self.waiting -= 1
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        if self.waiting:
            self._put_waits.set()
        else:
            self._put_waits.clear()

    def note_put(
        self, event: Any, start: Start | None, caller: FrameType
    ) -> None:
        """See whether a source puts that has been told to stop.

        What an unaware one puts as it ends is refused, and no fault.
        """
        if self.plugin.is_aware:
            is_late = not self.leadership.leader_event.is_set()
            fault = "It waits for this worker's next term, and comes late."
        else:
            is_late = start is not None and start.is_over
            fault = "Its main has ended, so put raises LeadershipLost."
        if is_late:
            self.late.append(
                "An event is put after the source's term: "
                f"{event!r:.100}\n{fault}\nPut at {stacks.place(caller)}."
            )

    # -- what befalls the worker -----------------------------------------

    def promote(self) -> None:
        """As a worker's promotion, when there is no state to recover."""
        self._terms += 1
        self.leadership.begin(
            Term(
                self._terms,
                self.now + self.timings.trust_for,
                lambda: False,
                lambda: self.now,
            )
        )
        self.leadership.announce()

    async def demote(self) -> bool:
        """As a worker's demotion.

        :returns: whether the source has ended in time, where it must.
        """
        ending = asyncio.ensure_future(self._demote())
        await asyncio.wait({ending}, timeout=self.timings.demote_within)
        await self.settle()
        return ending.done()

    async def _demote(self) -> None:
        # A source is cancelled before it has another turn, as in a worker.
        self.end_term()
        await self.sources.end_term()

    def end_term(self) -> None:
        """The events tell that the worker follows."""
        if self.leadership.term is not None:
            self.leadership.term.end()
        self.leadership.end()
        self._gate.wake_all()

    def lose_lease(self) -> None:
        """The lease runs out, and nobody has noticed yet."""
        self.now += self.timings.lease_duration

    async def shut_down(self) -> bool:
        """As the beginning of a worker's drain, and its end.

        :returns: whether the source has ended.
        """
        reading = asyncio.ensure_future(self._read_on())
        await end_sources(
            self.leadership, self.sources, SHUTDOWN_DELAY, lambda: None
        )
        reading.cancel()
        self.end_term()
        self.source.cancel()
        await self.settle()
        return not self.sources.running()

    async def settle(self) -> None:
        """Let every task do what it can do now."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    # -- the engine's end ------------------------------------------------

    def fill(self) -> None:
        """Fill the queue, so that the source's next put waits."""
        while not self._queue.full():
            filler = object()
            self._fillers.add(id(filler))
            self._queue.put_nowait(filler)

    async def _read_on(self) -> None:
        """As the engine does in a drain, for puts that wait for room."""
        while True:
            if self._gate.has_puts_under_way:
                self._read.append(await self._gate.get())
            await asyncio.sleep(LOOK_EVERY)

    async def next_event(self, within: float) -> list[Any]:
        """The next event that the engine would get, or nothing.

        :param within: seconds.
        """
        while self._read:
            event = self._read.popleft()
            if id(event) not in self._fillers:
                return [event]
            self._fillers.discard(id(event))
        deadline = asyncio.get_running_loop().time() + within
        while True:
            left = deadline - asyncio.get_running_loop().time()
            getting = asyncio.ensure_future(self._gate.get())
            await asyncio.wait(
                {getting, self.source},
                timeout=left,
                return_when=asyncio.FIRST_COMPLETED,
            )
            await asyncio.sleep(0)  # the source's end may have been first
            if not getting.done():
                getting.cancel()
                await asyncio.wait({getting})
                return []
            if id(getting.result()) not in self._fillers:
                return [getting.result()]
            self._fillers.discard(id(getting.result()))

    async def ended(self, within: float) -> bool:
        """Whether the source has ended, and the rulebook with it."""
        done, _ = await asyncio.wait({self.source}, timeout=within)
        return bool(done)

    async def until_put_waits(self, within: float) -> bool:
        """Wait for a put that waits for room, or to lead."""
        waits = asyncio.ensure_future(self._put_waits.wait())
        await asyncio.wait({waits}, timeout=within)
        waits.cancel()
        return self._put_waits.is_set()
