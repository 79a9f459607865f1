"""The worker's life: what election, sources, actions and engine do when.

::

    STARTING -> FOLLOWER <-> (PROMOTING -> LEADER -> DEMOTING)
                   |                          |
                   +-------> DRAINING <-------+ -> STOPPED

The table in ``docs/trust/how_it_works.rst`` says which phase of the election
goes with which of these states.

The order in :meth:`Worker._end_term` is what keeps two workers from acting
at the same time: no new event, no running action or source, no write. Then
the engine is emptied, and only then the lock is given up.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import socket
from typing import Any, Awaitable, Callable

from .election.beacon import Beacon
from .election.election_log import ElectionLog
from .election.elector import Elector
from .election.leader_election import default_worker_id
from .election.leadership import Leadership
from .election.lock import AdvisoryLock, check_server
from .election.reasons import Reason
from .election.term import Term
from .election.thread import ElectionThread
from .engine.host import EngineHost
from .errors import HaError, ServerUnavailable, StateRefused
from .inbox.inboxes import Inboxes
from .log import WorkerLog
from .operations.lead_request import LeadRequest
from .operations.reporter import Reporter
from .options import HaOptions, StateMode
from .portrait import Portrait
from .rulebook.actions import Actions
from .rulebook.drain import TEARDOWN_WITHIN, Broadcast, Drain
from .rulebook.gate import EventGate, event_in_hand
from .rulebook.gates import Gates
from .rulebook.guardian import Guardian
from .rulebook.handover import Handover
from .rulebook.rulesets import Ruleset, Rulesets
from .rulebook.self_fence import SelfFence
from .rulebook.signals import SignalListener
from .rulebook.sources import Sources
from .rulebook.standby import Standby
from .state.keeper import StateKeeper
from .state.store import StateStore
from .version import own_version

logger = logging.getLogger(__name__)

HISTORY_WITHIN = 2.0  # seconds, at the end
INIT = 1  # the process that orphans are given to

MakeGate = Callable[[Any, Leadership], EventGate]
Deliver = Callable[[str, str], None]


class Worker:
    """One ``ansible-rulebook`` process in a cluster.

    Lives on upstream's event loop; make it there.

    :param options: what the operator asked for.
    :param shutdown_delay: seconds that running actions get at the end.
    :param make_gate: makes the gate for a ruleset's queue.
    :param broadcast: tells all rulesets to end: message, delay in seconds.
    :param deliver: runs the rule of a match in a ruleset.
    :param lacks_state: why this upstream cannot keep state, if so.
    """

    def __init__(
        self,
        options: HaOptions,
        shutdown_delay: float,
        make_gate: MakeGate,
        broadcast: Broadcast,
        deliver: Deliver,
        lacks_state: str | None,
    ) -> None:
        self.options = options
        self.worker_id = options.worker_id or default_worker_id()
        self._log = WorkerLog(logger, self.worker_id, options.ha_uuid)
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._claimant = secrets.token_hex(8)
        self._reporter = Reporter(
            options,
            self.worker_id,
            lambda: self._portrait.take(),
            self._log,
            self._term_began,
            self._term_ended,
            lambda within: self._election.responds(within),
        )
        self.metrics = self._reporter.metrics
        self._election_log = ElectionLog(self.worker_id, options.ha_uuid)
        self._lock = AdvisoryLock(
            options.conninfo,
            options.ha_uuid,
            self.worker_id,
            options.timings,
            options.session_pooler,
            self._claimant,
        )
        self._lead_request = LeadRequest(
            options, self.worker_id, lambda: self.is_leaving, self._log
        )
        self.guardian = Guardian()
        self._self_fence = SelfFence(
            self.guardian.kill, self._running, self._log
        )
        self._election = ElectionThread(
            self._make_election,
            self.promote,
            self.demote,
            self.guardian.watch,
            self._fail,
            lambda request: self._handover.begin(request),
            self._lead_request.begin,
            self._self_fence,
        )
        self.leadership = Leadership(self._election.confirm)
        self.rulesets = Rulesets()
        self.actions = Actions(self.leadership, self.metrics.action)
        self.gates = Gates(
            lambda queue: make_gate(queue, self.leadership),
            self.metrics.event,
            self._log,
        )
        inboxes = Inboxes(
            options,
            self.worker_id,
            self._claimant,
            self.leadership,
            self.metrics.inbox,
        )
        self.sources = Sources(self.leadership, self.gates.of, inboxes.make)
        self._engine = EngineHost(self.rulesets.reset)
        self._keeper = StateKeeper(
            options.state,
            self._make_store(),
            lacks_state,
            self._election.suspend,
            self._stop_recording,
            self._log,
        )
        self._portrait = Portrait(
            options,
            self.worker_id,
            self._election,
            self.leadership,
            self.rulesets,
            self._keeper,
            self._self_fence,
        )
        self._standby = Standby(
            self._keeper,
            self._engine,
            self.rulesets,
            lambda: self._is_idle and not self.is_leaving,
            self._election.start,
            self._election.resume,
            options.timings.poll_interval,
        )
        self._drain = Drain(
            self.worker_id,
            self.leadership,
            self.sources,
            self.rulesets,
            broadcast,
            shutdown_delay,
            self._begin_to_leave,
            self._self_fence,
            self._log,
        )
        self._handover = Handover(
            self.leadership,
            self.sources,
            self.gates,
            self.rulesets,
            shutdown_delay,
            self._election.step_down,
            self._log,
        )
        self._shutdown_delay = max(shutdown_delay, 0.0)
        self._signals = SignalListener(self._drain.ask)
        self._transition = asyncio.Lock()  # a promotion or a demotion
        self._is_idle = True  # no term, and none being ended
        self._rulebook: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._reloaded: Term | None = None
        self._resuming: asyncio.Task[None] | None = None

    # -- from start to end -----------------------------------------------

    async def run(self, upstream: Callable[[], Awaitable[None]]) -> None:
        """Run upstream's rulebook as a member of the cluster.

        Returns when the rulebook has ended, by itself or because it was
        asked to, and the lock is free.

        :raises ServerRefused: before anything is started.
        :raises StateRefused: before anything is started.
        :raises PromotionFailed: see :class:`Elector`.
        :raises Exception: what upstream's run ends with.
        """
        self.install_signal_handlers()
        self._log.info(
            "Starting: checking the server, then loading Java",
            server=self.options.conninfo.places,
            lease=f"{self.options.timings.lease_duration:g} s",
            state=self.options.state.value,
        )
        if os.getpid() == INIT:
            self._log.warning(
                "This worker is process 1 of its container, but no init",
                "what playbooks leave behind is not reaped when it ends",
            )
        await check_server(self._lock, self._election_log)
        await self._keeper.survey()
        self.guardian.start()
        self._reporter.start()
        standby = asyncio.ensure_future(self._standby.run())
        standby.add_done_callback(self._standby_ended)
        self._rulebook = asyncio.ensure_future(upstream())
        self._drain.rulebook = self._rulebook
        try:
            await asyncio.wait({self._rulebook})
        finally:
            standby.cancel()
            await self._finish()
        if self._failure is not None:
            raise self._failure
        if not self._rulebook.cancelled():
            self._rulebook.result()

    def _standby_ended(self, standby: asyncio.Future[None]) -> None:
        """The standby's task runs on; if it ends by an error, so do we."""
        if not standby.cancelled():
            self._fail(standby.exception())

    def _fail(self, error: BaseException | None) -> None:
        """End this worker with that error, if there is one."""
        if error is None or self._rulebook is None or self._rulebook.done():
            return
        self._failure = error
        self._rulebook.cancel()

    async def _finish(self) -> None:
        """End what upstream has left running, and then give up the lock."""
        self._drain.rulebook_ended()
        if self._rulebook is not None and not self._rulebook.done():
            self._rulebook.cancel()
            await asyncio.wait({self._rulebook})
        await self._end_term(self.sources.end_all)
        await self._engine.close()
        self.gates.tell_counts(self.actions.dropped_total)
        self.rulesets.clear()
        await self._election.shut_down()
        self._lead_request.cancel()
        if self.state is not None:
            self.state.close()
            await self._loop.run_in_executor(
                None, self.state.finish_history, HISTORY_WITHIN
            )
        self.guardian.dismiss()
        await self._loop.run_in_executor(None, self._reporter.close)
        self._drain.finished()

    @property
    def is_leaving(self) -> bool:
        """Whether this worker was asked to end, or its rulebook has ended."""
        return self.leadership.shutdown_event.is_set()

    def install_signal_handlers(self) -> None:
        """See :meth:`SignalListener.install`."""
        self._signals.install()

    def _begin_to_leave(self) -> None:
        self._reporter.draining(self._shutdown_delay + TEARDOWN_WITHIN)
        self._election.withdraw()

    def _running(self) -> list[str]:
        """The sources and actions that still run. For any thread."""
        running = self.sources.running()
        actions = self.actions.running()
        return running + ([f"{actions} actions"] if actions else [])

    # -- the election ----------------------------------------------------

    def _make_election(self, **callbacks: Any) -> Elector:
        return Elector(
            self._lock,
            self._election_log,
            claims_terms=self.state is not None,
            about=self._about(),
            observer=self._reporter,
            **callbacks,
        )

    def _about(self) -> Beacon:
        """What others may know of this worker."""
        return Beacon(
            version=own_version(),
            worker=self.worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            http=self._reporter.address,
            priority=self.options.priority,
        )

    def _term_began(self, term: int, gap: float | None) -> None:
        if self.state is not None:
            self.state.tell_begin(term, gap)

    def _term_ended(self, term: int, reason: Reason) -> None:
        if self.state is not None:
            self.state.tell_end(term, reason)

    # -- transitions, told by the election -------------------------------

    async def promote(self, term: Term) -> None:
        """Begin to act."""
        await self.rulesets.up.wait()
        async with self._transition:
            if self.is_leaving:
                # The election cancels this when it hears of it, too.
                await self._loop.create_future()
            self._is_idle = False
            await self._assume(term)

    async def _assume(self, term: Term) -> None:
        """Act with the state that the last leader left."""
        await self._engine.emptied()
        # Before the recovery, during which matches arrive.
        self.leadership.begin(term)
        if self.state is not None:
            try:
                await self._recover(self.state, term)
            except StateRefused as error:
                await self._go_without_state(error)
            except ServerUnavailable as error:
                if not self._keeper.fails_for_good(error):
                    raise
                await self._go_without_state(StateRefused(str(error)))
        if self.leadership.term is not term or not term.is_current():
            return  # the rulebook is being loaded anew, or we were late
        self._prime()
        self.leadership.announce()

    def _prime(self) -> None:
        """Give the engine the gathered facts that it has not had yet."""
        for ruleset in self.rulesets.with_facts():
            if self.state is None:
                ruleset.prime()
            elif not self.state.is_primed(ruleset.name):
                ruleset.prime()
                self.state.set_primed(ruleset.name)

    async def demote(self, reason: str) -> None:
        """End everything that the term has started."""
        self._break_off_resuming()  # it may hold self._transition
        async with self._transition:
            await self._end_term(self.sources.end_term)
            self._engine.reset()
            self.guardian.unwatch()
            self._is_idle = True

    async def _end_term(
        self, end_sources: Callable[[], Awaitable[None]]
    ) -> None:
        """End all that acts, in the order that makes the lock safe to free.

        No new event, no action or source, no write.
        """
        self._break_off_resuming()
        self._end_leadership()
        self.gates.wake_all()
        # Another may lead by now. So no action waits for a source that does
        # not end, and actions come first: a source can block the main loop.
        await asyncio.gather(self._end_actions(), end_sources())
        if self.state is not None:
            self.gates.recall(await self.state.retire())

    def _end_leadership(self) -> None:
        """Act no more, and let no time pass for the rules."""
        self.leadership.end()
        self._engine.pause_clock()

    async def _end_actions(self) -> None:
        dropped = self.rulesets.drop_matches()
        cancelled = await self.actions.cancel()
        # An action that ended meanwhile may have let matches in.
        dropped += self.rulesets.drop_matches()
        if dropped or cancelled:
            self._log.warning(
                f"{cancelled} running actions cancelled and {dropped} "
                "matches dropped at the end of the term"
            )
        # A cancelled ansible-playbook leaves its forks behind, at their tasks.
        await self._loop.run_in_executor(None, self.guardian.clean_up)

    # -- the state -------------------------------------------------------

    @property
    def state(self) -> StateStore | None:
        """Keeps the engine's state, or None: then it ends with a term."""
        return self._keeper.store

    def _make_store(self) -> StateStore | None:
        if self.options.state is StateMode.OFF:
            return None
        return StateStore(
            self.options,
            self.worker_id,
            self._claimant,
            self._log,
            self._state_failed,
            self._engine.thread,
            self.metrics.commit,
        )

    def attach_state(self, engine: Any, config: dict[str, Any]) -> Any:
        """Keep the state of this engine. Its rulesets are built later.

        :param engine: drools_jpy's Java object.
        :param config: upstream's settings for it.
        :returns: what is to take the engine's place.
        :raises StateRefused: if it cannot be kept, and the operator requires
            it.
        """
        store = self.state
        assert store is not None
        try:
            return self._engine.attach(
                engine,
                lambda bridge: store.attach(bridge, config),
                store,
                event_in_hand,
                self._deliver,
                self._engine_failed,
            )
        except StateRefused as error:
            self._keeper.lacks(str(error))
            return engine

    async def _recover(self, store: StateStore, term: Term) -> None:
        self.gates.keep_state(store)
        await store.recover(
            term,
            self.rulesets.sessions(),
            self._deliver,
            self.gates.doubtful_terms(),
            self.gates.settle,
        )
        if self.leadership.term is term:
            self._engine.start_clock()
        self._keeper.recovered()

    async def _go_without_state(self, error: StateRefused) -> None:
        """The server refuses the state, and trying again does not help.

        :raises HaError: if this worker does not lead without state.
        """
        try:
            await self._keeper.go_without(error)
        except StateRefused as required:
            self._fail(required)
        if self.state is not None:
            raise ServerUnavailable(f"the state cannot be kept: {error}")
        self.rulesets.reset()

    def _stop_recording(self) -> None:
        self._engine.stop_recording()
        self.gates.keep_state(None)
        if self.rulesets.up.is_set() and self.leadership.term is None:
            self.rulesets.reset()  # plain sessions for the bridge's

    def _state_failed(self, error: HaError) -> None:
        """A write failed: step down, and let nothing follow from it.

        The next leader goes on with what is stored.
        """
        if self.state is None:
            return
        if isinstance(error, StateRefused):
            self.state.look_again()
        self.metrics.write_failed()
        self._end_leadership()
        self._log.warning(
            "Stepping down", f"the state could not be stored: {error}"
        )
        self._election.step_down(
            "the state could not be stored", Reason.STATE_FAILED
        )

    def _engine_failed(self, why: str) -> None:
        """The engine does not work any more: let another worker lead."""
        self._log.error("The rule engine fails, stepping down", why)
        self._election.step_down("the rule engine fails", Reason.ENGINE_FAILED)

    # -- the rulebook's life ---------------------------------------------

    def reload(self) -> None:
        """The rulebook is being loaded anew; the election goes on."""
        if self.state is not None:
            # The engine will be a new one, so the term's state is recovered.
            self._reloaded = self.leadership.term or self._reloaded
            self._end_leadership()
        self._break_off_resuming()
        self.rulesets.clear()
        self.gates.clear()
        gc.unfreeze()

    def ruleset_started(self, ruleset: Ruleset) -> None:
        """A ruleset waits for events, at the start or after a reload."""
        if self.leadership.acting_term() is not None:
            ruleset.prime()
        self.rulesets.started(ruleset)
        if self.rulesets.up.is_set():
            self._reporter.ready()
            if self._reloaded is not None:
                self._resuming = asyncio.ensure_future(self._resume_term())
            # Upstream collects garbage after each 1,000 events. All that was
            # loaded until now stays, so the collector need not look at it.
            gc.collect()
            gc.freeze()

    async def _resume_term(self) -> None:
        """Go on with the term in which the rulebook was loaded anew."""
        async with self._transition:
            term, self._reloaded = self._reloaded, None
            if term is None or not term.is_current() or self.is_leaving:
                return
            try:
                await self._assume(term)
            except Exception as error:
                self._log.exception("Cannot lead on after the reload")
                self._election.step_down(f"the reload failed: {error}")

    def _break_off_resuming(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
