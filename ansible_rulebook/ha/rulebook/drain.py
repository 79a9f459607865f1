"""The orderly end of a worker that is told to stop.

Sources end, their events are processed, running actions finish. One deadline
bounds all of it. It holds even while the event loop stands still, since a
worker that does not end keeps the lock from the others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Callable, Coroutine

from ..election.leadership import Leadership
from ..log import WorkerLog
from .deadline import Deadline
from .rulesets import Rulesets
from .sources import Sources

SOURCES_WITHIN = 5.0  # seconds for a leader's sources to end by themselves
FOLLOWERS_WITHIN = 0.5  # seconds; on a follower they have nothing in hand
CANCEL_WITHIN = 2.0  # seconds for a source that is cancelled
TEARDOWN_WITHIN = 15.0  # seconds from the last action to the free lock
HURRIED_WITHIN = 5.0  # seconds, all that a second signal leaves
# A Ctrl-C reaches us and our wrapper, which passes it on: that is one signal.
SAME_SIGNAL = 0.5  # seconds

Broadcast = Callable[[str, float], Coroutine[Any, Any, None]]


class Drain:
    """Begins with the first signal; the second one hurries.

    :param worker_id: told to the rulesets.
    :param leadership: whose ``shutdown_event`` is set.
    :param sources: of the worker.
    :param rulesets: of the worker.
    :param broadcast: tells all rulesets to end: message, delay in seconds.
    :param shutdown_delay: seconds that running actions get.
    :param withdraw: has the election never contend again.
    :param self_fence: ends the process, for a reason.
    :param log: for what happens.
    """

    def __init__(
        self,
        worker_id: str,
        leadership: Leadership,
        sources: Sources,
        rulesets: Rulesets,
        broadcast: Broadcast,
        shutdown_delay: float,
        withdraw: Callable[[], None],
        self_fence: Callable[[str], None],
        log: WorkerLog,
    ) -> None:
        self.rulebook: asyncio.Task[None] | None = None
        """Upstream's run, once it has begun."""
        self._worker_id = worker_id
        self._leadership = leadership
        self._sources = sources
        self._rulesets = rulesets
        self._broadcast = broadcast
        self._delay = max(shutdown_delay, 0.0)
        self._withdraw = withdraw
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(
            lambda: self_fence("the worker does not end in time")
        )
        self._asked_at: float | None = None
        self._lock = threading.Lock()
        self._draining: asyncio.Task[None] | None = None

    def ask(self, why: str) -> None:
        """Drain and end; asked a second time, hurry. For any thread."""
        now = time.monotonic()
        with self._lock:
            first = self._asked_at is None
            if self._asked_at is None:
                self._asked_at = now
            elif now < self._asked_at + SAME_SIGNAL:
                return
        if first:
            self._deadline.within(self._delay + TEARDOWN_WITHIN)
            self._loop.call_soon_threadsafe(self._begin, why)
        else:
            self._deadline.within(HURRIED_WITHIN)
            self._loop.call_soon_threadsafe(self._hurry, why)

    def rulebook_ended(self) -> None:
        """Only the teardown is left."""
        self._leadership.shutdown_event.set()
        self._deadline.within(TEARDOWN_WITHIN)
        if self._draining is not None:
            self._draining.cancel()

    def finished(self) -> None:
        """The lock is free. Call the deadline off if the rulebook ended.

        A worker that was told to end keeps it: a thread of a plugin could
        keep the process alive.
        """
        if self._asked_at is None:
            self._deadline.call_off()

    def _begin(self, why: str) -> None:
        if self.rulebook is None:
            raise SystemExit(0)
        self._log.info("Draining", why)
        self._draining = asyncio.ensure_future(self._drain(self.rulebook, why))

    def _hurry(self, why: str) -> None:
        self._log.info("Hurrying", why)
        self._cut_short()

    async def _drain(self, rulebook: asyncio.Task[None], why: str) -> None:
        hurry = self._loop.call_later(self._delay, self._cut_short)
        telling = None
        try:
            await end_sources(
                self._leadership, self._sources, self._delay, self._withdraw
            )
            if not self._rulesets.up.is_set():
                rulebook.cancel()
                return
            telling = asyncio.ensure_future(
                self._broadcast(
                    f"Worker {self._worker_id}: {why}", self._delay
                )
            )
            # Upstream waits for the queue, then for the last action.
            await asyncio.wait({rulebook})
        finally:
            hurry.cancel()
            if telling is not None:
                telling.cancel()

    def _cut_short(self) -> None:
        self._rulesets.hurry()
        if not self._rulesets.up.is_set() and self.rulebook is not None:
            self.rulebook.cancel()


async def end_sources(
    leadership: Leadership,
    sources: Sources,
    delay: float,
    withdraw: Callable[[], None],
) -> None:
    """Give the sources time to end, then cancel them.

    :param leadership: its ``shutdown_event`` is set.
    :param sources: of the worker.
    :param delay: seconds, the most that they get.
    :param withdraw: the election is not to contend any more.
    """
    within = SOURCES_WITHIN if leadership.takes_events() else FOLLOWERS_WITHIN
    leadership.shutdown_event.set()
    withdraw()
    within = min(within, delay)
    if delay:
        # What is left after that is for the sources to end.
        patience = max(delay - within - CANCEL_WITHIN, delay / 2)
        letting = asyncio.ensure_future(sources.let_through())
        await asyncio.wait({letting}, timeout=patience)
        letting.cancel()
    ending = asyncio.ensure_future(sources.end_all(within))
    # The actions are not to wait for a source that never ends.
    await asyncio.wait({ending}, timeout=within + CANCEL_WITHIN)
