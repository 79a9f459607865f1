"""The election on an event loop of its own, in a thread of its own.

Upstream's loop is blocked now and then: it calls the JVM, waits for
databases, joins threads, runs plugins. The lease has to be renewed all the
same.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any, Callable, Coroutine

from .beacon import Beacon
from .elector import Elector
from .observer import View
from .reasons import Reason
from .requests import Request
from .term import Term

PING_EVERY = 1.0  # seconds
DEAD_LOOP_AFTER = 60.0  # seconds, or the lease if that is longer


class ElectionThread:
    """Runs an :class:`Elector` and calls the main loop back.

    :param make_election: makes the election, in the thread's loop, with the
        callbacks that it is given.
    :param promote: called in the main loop, as ``on_promotion``.
    :param demote: called in the main loop, as ``on_demotion``.
    :param allow_actions: called in the thread with the time (lease clock)
        until which the worker's actions may run; at the end of a term with
        a time that is past.
    :param ended: called in the main loop with the error that ended the
        election, or None after a clean end.
    :param hand_over: called in the main loop with a request for it.
    :param ask_for_lead: called in the main loop with the leader that has a
        lower priority.
    :param self_fence: ends the process, for a reason; any thread.
    """

    def __init__(
        self,
        make_election: Callable[..., Elector],
        promote: Callable[[Term], Coroutine[Any, Any, None]],
        demote: Callable[[str], Coroutine[Any, Any, None]],
        allow_actions: Callable[[float], None],
        ended: Callable[[BaseException | None], None],
        hand_over: Callable[[Request], None],
        ask_for_lead: Callable[[Beacon], None],
        self_fence: Callable[[str], None],
    ) -> None:
        self._make_election = make_election
        self._promote = promote
        self._demote = demote
        self._allow_actions = allow_actions
        self._ended = ended
        self._hand_over = hand_over
        self._ask_for_lead = ask_for_lead
        self._self_fence = self_fence
        self._main_loop = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._election: Elector | None = None
        self._thread = threading.Thread(
            target=self._run, name="ha-election", daemon=True
        )
        self._withdrawn = threading.Event()
        self._stopping = threading.Event()
        self._done = asyncio.Event()
        self._unanswered = 0  # pings, by the main loop
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to contend; see :meth:`Elector.contend`."""
        if not self._withdrawn.is_set():
            self._thread.start()
            self._watching = asyncio.ensure_future(self._watch_thread())

    def step_down(
        self, why: str, reason: Reason = Reason.STEPPED_DOWN
    ) -> None:
        """See :meth:`Elector.request_step_down`."""
        self._ask(lambda election: election.request_step_down(why, reason))

    def view(self) -> View | None:
        """See :meth:`Elector.view`; None before it has begun. Any thread."""
        return None if self._election is None else self._election.view()

    async def confirm(self) -> bool:
        """See :meth:`Elector.confirm`. For the main loop."""
        loop, election = self._loop, self._election
        if loop is None or election is None or loop.is_closed():
            return False
        asking = asyncio.run_coroutine_threadsafe(election.confirm(), loop)
        return await asyncio.wrap_future(asking)

    def responds(self, within: float) -> bool:
        """Whether the thread's loop has a turn in time. Blocks.

        True as well before it is started and after it has ended: then there
        is nothing to watch.

        :param within: seconds.
        """
        loop, turn = self._loop, threading.Event()
        if loop is None or not self._thread.is_alive():
            return True
        with suppress(RuntimeError):  # closed: it has ended
            loop.call_soon_threadsafe(turn.set)
            return turn.wait(within) or not self._thread.is_alive()
        return True

    def suspend(self, why: str) -> None:
        """See :meth:`Elector.suspend`."""
        self._ask(lambda election: election.suspend(why))

    def resume(self) -> None:
        """See :meth:`Elector.resume`."""
        self._ask(Elector.resume)

    def withdraw(self) -> None:
        """See :meth:`Elector.withdraw`."""
        self._withdrawn.set()
        self._ask(Elector.withdraw)

    async def shut_down(self) -> None:
        """Demote if leading, give up the lock, end the thread."""
        self._withdrawn.set()
        if not self._thread.is_alive():
            return
        self._stopping.set()
        self._ask(lambda election: election.shutdown_event.set())
        await self._done.wait()
        self._thread.join()
        if self._watching is not None:
            self._watching.cancel()

    async def _watch_thread(self) -> None:
        """A worker whose election is dead never leads again: end it."""
        unanswered = 0

        def answer() -> None:
            nonlocal unanswered
            unanswered = 0

        while self._thread.is_alive():
            await asyncio.sleep(PING_EVERY)
            unanswered += 1  # in pings, as in _watch_main_loop
            if self._loop is not None:
                with suppress(RuntimeError):  # closed: it has ended
                    self._loop.call_soon_threadsafe(answer)
            if unanswered * PING_EVERY > DEAD_LOOP_AFTER:
                self._self_fence(
                    f"no life in the election for {DEAD_LOOP_AFTER:.0f} s"
                )
                return

    # -- in the thread ---------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._elect())
        except BaseException as caught:
            error = caught
        self._tell_main(self._done.set)
        self._tell_main(self._ended, error)

    async def _elect(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._election = self._make_election(
            on_promotion=self._on_promotion,
            on_demotion=self._on_demotion,
            on_renewal=self._on_renewal,
            on_overdue=self._on_overdue,
            on_request=self._on_request,
            on_outranked=self._on_outranked,
        )
        # What was asked for before there was an election to ask.
        if self._withdrawn.is_set():
            self._election.withdraw()
        if self._stopping.is_set():
            self._election.shutdown_event.set()
        self._election.contend()
        end = asyncio.ensure_future(self._election.shutdown_event.wait())
        watch = asyncio.ensure_future(self._watch_main_loop())
        try:
            await asyncio.wait(
                {end, watch}, return_when=asyncio.FIRST_COMPLETED
            )
            if watch.done():
                watch.result()
        finally:
            watch.cancel()
            end.cancel()
            await self._election.stop()

    def _ask(self, what: Callable[[Elector], None]) -> None:
        loop, election = self._loop, self._election
        if loop is not None and election is not None:
            with suppress(RuntimeError):  # closed: it has ended by itself
                loop.call_soon_threadsafe(what, election)

    async def _on_promotion(self, term: Term) -> None:
        await self._in_main_loop(self._promote(term))

    async def _on_demotion(self, reason: str) -> None:
        # Another may lead by now: do not wait for the main loop's turn.
        self._allow_actions(0.0)
        try:
            await self._in_main_loop(self._demote(reason))
        except Exception as error:
            # Something may still run, so the lock must not be given up.
            self._self_fence(f"demotion failed: {error!r}")

    async def _in_main_loop(self, work: Coroutine[Any, Any, None]) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self._main_loop)
        await asyncio.wrap_future(future)

    def _on_renewal(self, term: Term) -> None:
        if self._election is not None:
            margin = self._election.timings.demote_within
            self._allow_actions(term.trusted_until + margin)

    def _on_request(self, request: Request) -> None:
        self._tell_main(self._hand_over, request)

    def _on_outranked(self, leader: Beacon) -> None:
        self._tell_main(self._ask_for_lead, leader)

    def _on_overdue(self) -> None:
        self._self_fence("demotion takes longer than the lease")

    async def _watch_main_loop(self) -> None:
        """A worker whose main loop is dead must not lead for ever."""
        election = self._election
        assert election is not None
        while True:
            await asyncio.sleep(PING_EVERY)
            if election.term is None:
                self._unanswered = 0
                continue
            # Counted in pings, not by the clock: while this process is
            # paused, no ping goes out that could stay without an answer.
            self._unanswered += 1
            self._tell_main(self._answer)
            limit = max(DEAD_LOOP_AFTER, election.timings.lease_duration)
            if self._unanswered * PING_EVERY > limit:
                self._self_fence(f"no life in the main loop for {limit:.0f} s")

    def _answer(self) -> None:
        self._unanswered = 0

    def _tell_main(self, what: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # closed: the main loop has ended
            self._main_loop.call_soon_threadsafe(what, *args)
