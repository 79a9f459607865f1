"""An event source under test, on a worker that the test promotes."""

from __future__ import annotations

import threading
import time
import traceback
from typing import (
    Any,
    Callable,
    Coroutine,
    NoReturn,
    Protocol,
    Sequence,
    TypeVar,
)

from ..election.lease import Timings
from . import leaks
from .fault import SourceFault
from .loop_thread import LoopBlocked, LoopThread, remember_stuck
from .plugin import Plugin, PluginLike, load
from .provoked import Provoked
from .stage import Stage

T = TypeVar("T")

SOON = 5.0  # seconds, for an event
CLEAN_WITHIN = 1.0  # seconds from the end of main to the last closed socket
LOOK_EVERY = 0.02  # seconds
MOST_TAKEN = 1000  # of a source that emits without a pause


class HasFileno(Protocol):
    """A file or a socket."""

    def fileno(self) -> int:
        """Its descriptor."""


class HaSource:
    """An event source on a worker that follows, until :meth:`promote`.

    The source runs on an event loop in a thread of its own, so these methods
    are plain functions, for tests with and without a loop. Each one that
    something befalls the worker in raises :class:`SourceFault` if the source
    breaks a rule by then.

    :param plugin: the path of a plugin's file, its module, or its main.
    :param args: as in a rulebook; the three events are added.
    :param aware: whether it is HA-aware, if the plugin's code is not to say.
    :param queue_size: how many events the ruleset's queue takes; 1 in an
        ansible-rulebook.
    :param lease_duration: seconds, as ``--ha-lease-duration``. A demotion may
        take a third of it.
    :param tolerate: leaks that contain one of these texts are none.
    """

    __tracebackhide__ = True

    def __init__(
        self,
        plugin: PluginLike,
        args: dict[str, Any] | None = None,
        *,
        aware: bool | None = None,
        queue_size: int = 1,
        lease_duration: float = 15.0,
        tolerate: Sequence[str] = (),
    ) -> None:
        found = load(plugin)
        if aware is not None:
            found = Plugin(found.main, found.name, aware)
        timings = Timings.of(lease_duration / 3, lease_duration)
        self.name = found.name
        self.is_aware = found.is_aware
        self._tolerated = tuple(tolerate)
        self._taken: list[Any] = []  # from the queue, not by the test
        self._ignored: set[leaks.Descriptor] = set()
        self._is_broken = False
        self._is_over = False
        self._threads = set(threading.enumerate())
        self._loop = LoopThread()
        self._before_start = self._before_term = leaks.look(self._loop)

        async def begin() -> Stage:
            stage = Stage(found, dict(args or {}), queue_size, timings)
            await stage.settle()
            return stage

        self._stage = self._loop.run(begin(), within=SOON)
        try:
            self._judge("as the worker starts to follow")
        except SourceFault:
            self.close()
            raise

    # -- what befalls the worker -----------------------------------------

    def promote(self) -> None:
        """The worker is elected."""
        __tracebackhide__ = True
        self._expect(not self.is_leader, "promote() on a leader")
        self._before_term = self._call("before a promotion", self._look)
        self._do("at promotion", self._stage.promote)

    def demote(self) -> None:
        """The worker follows again; what must end has ended."""
        __tracebackhide__ = True
        when = "at demotion"
        self._expect(self._is_told_to_lead, "demote() on a follower")
        within = self._stage.timings.demote_within
        ended = self._run(when, self._stage.demote(), within, judge=False)
        if not ended:
            self._fail(when, [self._swallows("its cancellation", within)])
        clean = [] if self.is_aware else self._leaks(self._before_term)
        self._judge(when, clean)

    def lose_lease(self) -> None:
        """The lease runs out: nobody may act, and no event says so yet.

        The worker notices when the test calls :meth:`demote`.
        """
        __tracebackhide__ = True
        self._expect(self.is_leader, "lose_lease() on a follower")
        self._do("after the loss of the lease", self._stage.lose_lease)

    def shut_down(self) -> None:
        """The worker is told to end; the source has ended and left nothing.

        :raises SourceFault: also for an HA-aware source that does not heed
            ``shutdown_event`` and has to be cancelled.
        """
        __tracebackhide__ = True
        when = "at shutdown"
        # The product's own limits are in there.
        ended = self._run(when, self._stage.shut_down(), 10.0, judge=False)
        if not ended:
            self._fail(when, [self._swallows("shutdown", None)])
        faults = []
        start = self._stage.starts[-1] if self._stage.starts else None
        if self.is_aware and start is not None and start.was_cancelled:
            faults.append(
                "main does not end when shutdown_event is set, and has to be "
                "cancelled: meanwhile no worker leads."
            )
        faults += self._leaks(self._before_start)
        self._is_over = True
        self._judge(when, faults)

    def fill_queue(self) -> None:
        """Let the engine be behind: the source's next put waits for room."""
        __tracebackhide__ = True
        self._do("with a full queue", self._stage.fill)

    # -- what comes of it ------------------------------------------------

    def event(
        self,
        within: float = SOON,
        provoke: Callable[[], object] | None = None,
    ) -> Any:
        """The next event, as the engine would get it.

        :param within: seconds.
        :param provoke: brings the source to emit it, as a request to a
            webhook. It runs in a thread, and is tried again on a
            ``ConnectionError``: the source may not listen yet.
        :raises SourceFault: if there is none.
        :raises Exception: what ``provoke`` raises.
        """
        __tracebackhide__ = True
        when = "as an event is awaited"
        provoked = Provoked(provoke)
        if not self._taken:
            self._taken = self._run(
                when, self._stage.next_event(within), within
            )
        while not provoked.has_ended():
            # It may wait until the engine has taken more events.
            self._taken += self.take_events()
        if self._taken:
            return self._taken.pop(0)
        if self.has_ended:
            return self._fail(when, ["main has ended, and no event comes."])
        start = self._stage.starts[-1] if self._stage.starts else None
        if start is None or start.is_over:
            return self._fail(when, ["main does not run."])
        return self._fail(
            when,
            [f"No event came for {within:g} s. main is at {start.place()}."],
        )

    def events(self, count: int, within: float = SOON) -> list[Any]:
        """The next events.

        :param within: seconds for each.
        """
        __tracebackhide__ = True
        return [self.event(within) for _ in range(count)]

    def take_events(self) -> list[Any]:
        """What the engine would get now, without waiting."""
        __tracebackhide__ = True
        found: list[Any] = []
        when = "as events are taken"
        while more := self._run(when, self._stage.next_event(0.0)):
            found += more
            if len(found) >= MOST_TAKEN:
                break
        return found

    def settle(self, seconds: float = 0.0) -> None:
        """Let the source do what it can do now, or in some time."""
        __tracebackhide__ = True
        time.sleep(seconds)
        self._run("as it is left alone", self._stage.settle())

    def wait_until_put_waits(self, within: float = SOON) -> None:
        """Wait until the source has an event for which there is no room."""
        __tracebackhide__ = True
        when = "with a full queue"
        if not self._run(when, self._stage.until_put_waits(within), within):
            self._fail(when, [f"No event was put within {within:g} s."])

    def wait_until_ended(self, within: float = SOON) -> None:
        """Wait until main has ended by itself, and the rulebook with it.

        :raises Exception: what main ends with.
        """
        __tracebackhide__ = True
        when = "as its end is awaited"
        ended = self._run(when, self._stage.ended(within), within, judge=False)
        if not ended:
            self._fail(when, [f"main did not end within {within:g} s."])
        self._is_over = True
        if not self._stage.source.cancelled():
            self._stage.source.result()

    def run(self, work: Coroutine[Any, Any, T], within: float = SOON) -> T:
        """Run a coroutine of the test on the source's loop.

        :param within: seconds.
        """
        __tracebackhide__ = True
        return self._run("as the test's coroutine runs", work, within)

    def ignore(self, opened: HasFileno) -> None:
        """A socket or a file that the test itself has opened is no leak."""
        self._ignored.add(leaks.descriptor(opened.fileno()))

    @property
    def is_leader(self) -> bool:
        """Whether the source's events would reach the engine now."""
        return self._stage.leadership.takes_events()

    @property
    def _is_told_to_lead(self) -> bool:
        return self._stage.leadership.leader_event.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether main has ended by itself: so does the rulebook."""
        return self._stage.source.done()

    @property
    def starts(self) -> int:
        """How many times main has been started."""
        return len(self._stage.starts)

    @property
    def emitted(self) -> int:
        """How many events have been put into the queue."""
        return self._stage.emitted

    @property
    def waiting(self) -> int:
        """How many puts wait for room, or for this worker to lead."""
        return self._stage.waiting

    def close(self) -> None:
        """Shut down if that has not been done, and free everything."""
        __tracebackhide__ = True
        try:
            if not self._is_over and not self._is_broken:
                self.shut_down()
        finally:
            if not self._loop.close() or self._is_broken:
                remember_stuck(
                    {
                        each
                        for each in threading.enumerate()
                        if each not in self._threads
                    }
                )

    # -- judgement -------------------------------------------------------

    def _look(self) -> leaks.Open:
        return leaks.look(self._loop)

    def _leaks(self, before: leaks.Open) -> list[str]:
        """What is left, when it has had time to close."""
        __tracebackhide__ = True
        deadline = time.monotonic() + CLEAN_WITHIN
        while True:
            found = [
                leak
                for leak in self._call(
                    "as it ends",
                    lambda: leaks.since(before, self._loop, self._ignored),
                )
                if not any(text in leak for text in self._tolerated)
            ]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(LOOK_EVERY)

    def _do(self, when: str, change: Callable[[], None]) -> None:
        """Change something on the loop, and let the source see it."""
        __tracebackhide__ = True

        async def do() -> None:
            change()
            await self._stage.settle()

        self._run(when, do())

    def _run(
        self,
        when: str,
        work: Coroutine[Any, Any, T],
        within: float = 0.0,
        judge: bool = True,
    ) -> T:
        __tracebackhide__ = True
        result = self._call(when, lambda: self._loop.run(work, within))
        if judge:
            self._judge(when)
        return result

    def _call(self, when: str, what: Callable[[], T]) -> T:
        __tracebackhide__ = True
        try:
            return what()
        except LoopBlocked as blocked:
            text = (
                "The event loop is blocked, and does not come back. A worker "
                f"cannot demote, and ends itself with exit code 75:\n{blocked}"
            )
        return self._fail(when, [text])

    def _judge(self, when: str, more: Sequence[str] = ()) -> None:
        __tracebackhide__ = True
        late, self._stage.late = self._stage.late, []
        faults = [
            f"The event loop was blocked for over a second:\n{stack}"
            for stack in self._loop.take_blocks()
        ]
        faults += self._end_of_main() + late + list(more)
        if faults:
            self._fail(when, faults)

    def _end_of_main(self) -> list[str]:
        """A source that has ended where it must not."""
        source = self._stage.source
        if not source.done() or self._is_over:
            return []
        error = None if source.cancelled() else source.exception()
        if error is not None:
            lines = traceback.format_exception(
                type(error), error, error.__traceback__
            )
            return [f"main failed:\n{''.join(lines)}"]
        if not self._is_told_to_lead:
            return [
                "main ended on a follower: that ends the rulebook there. It "
                "is to wait until shutdown_event is set."
            ]
        return []

    def _swallows(self, what: str, within: float | None) -> str:
        start = self._stage.starts[-1]
        bound = "" if within is None else f" within {within:g} s"
        return (
            f"main does not end{bound} after {what}, though it is cancelled "
            "again each second. A worker ends itself with exit code 75. It "
            f"is at {start.place()}."
        )

    def _expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            raise RuntimeError(f"the test calls {what}")

    def _fail(self, when: str, faults: Sequence[str]) -> NoReturn:
        __tracebackhide__ = True
        self._is_broken = True
        raise SourceFault(self.name, when, faults) from None
