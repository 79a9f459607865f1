"""The worker's life: what election, sources, actions and engine do when.

::

    STARTING -> FOLLOWER <-> (PROMOTING -> LEADER -> DEMOTING)
                   |                          |
                   +-------> DRAINING <-------+ -> STOPPED

The order in :meth:`Worker.demote` and at the end of :meth:`Worker.run` is
what keeps two workers from acting at the same time: no new event, no running
source, no running action, no write, an empty engine, and only then the lock.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Awaitable, Callable, Mapping

from .election.election_log import ElectionLog
from .election.elector import Elector, check_server
from .election.leader_election import default_worker_id
from .election.leadership import Leadership
from .election.lock import AdvisoryLock
from .election.term import Term
from .election.thread import ElectionThread
from .engine.bridge import Bridge
from .engine.recorded import RecordedEngine, collect_less, reason
from .engine.warm_up import warm_up
from .errors import HaError, ServerUnavailable, StateRefused
from .log import WorkerLog
from .options import HaOptions, StateMode
from .rulebook.actions import Actions
from .rulebook.drain import Broadcast, Drain
from .rulebook.gate import EventGate, event_in_hand
from .rulebook.guardian import Guardian
from .rulebook.rulesets import Ruleset, Rulesets
from .rulebook.self_fence import SelfFence
from .rulebook.signals import SignalListener
from .rulebook.sources import Sources
from .state.session import RowInUse
from .state.store import StateStore

logger = logging.getLogger(__name__)

STAND_BY_EVERY = 2.0  # seconds
SAME_FAILURES = 10  # of a recovery in a row, until it is no outage any more

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
        self.leadership = Leadership(self._ask_server)
        self.rulesets = Rulesets()
        self.actions = Actions(self.leadership)
        self.sources = Sources(self.leadership, self.gate_of)
        self.guardian = Guardian()
        self._claimant = secrets.token_hex(8)
        self._engine_thread = ThreadPoolExecutor(1, "ha-engine")
        self._make_gate = make_gate
        self._gates: dict[int, EventGate] = {}
        self._held_in_old_gates = 0  # of rulebooks that were loaded before
        self._log = WorkerLog(logger, self.worker_id, options.ha_uuid)
        self._election_log = ElectionLog(self.worker_id, options.ha_uuid)
        self._lock = AdvisoryLock(
            options.conninfo,
            options.ha_uuid,
            self.worker_id,
            options.timings,
            options.session_pooler,
            self._claimant,
        )
        self._loop = asyncio.get_running_loop()
        self._self_fence = SelfFence(
            self.guardian.kill, self._running, self._log
        )
        self._drain = Drain(
            self.worker_id,
            self.leadership,
            self.sources,
            self.rulesets,
            broadcast,
            shutdown_delay,
            self._withdraw,
            self._self_fence,
            self._log,
        )
        self._signals = SignalListener(self._drain.ask)
        self._transition = asyncio.Lock()
        self._election: ElectionThread | None = None
        self._failure: BaseException | None = None
        self._main: asyncio.Task[None] | None = None
        self._deliver = deliver
        self._lacks_state = lacks_state
        self._reloaded: Term | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._bridge: Bridge | None = None
        self._engine: RecordedEngine | None = None
        self._resetting: asyncio.Future[None] | None = None
        self._is_without_state = False
        self._obstacle: str | None = None  # to keep the cluster's state
        self._failures: list[str] = []  # of recoveries, alike, in a row
        self._is_standby = True
        self.state: StateStore | None = None
        """Keeps the engine's state, or None: then it ends with a term."""

    # -- from start to end -----------------------------------------------

    async def run(self, upstream: Callable[[], Awaitable[None]]) -> None:
        """Run upstream's rulebook as a member of the cluster.

        Returns when the rulebook has ended or was asked to, and the lock is
        free.

        :raises ServerRefused: before anything is started.
        :raises StateRefused: before anything is started.
        :raises PromotionFailed: see :class:`Elector`.
        :raises Exception: what upstream's run ends with.
        """
        self.install_signal_handlers()
        self._log.info(
            "Starting: the server is looked at, then Java is loaded",
            server=self.options.conninfo.places,
            lease=f"{self.options.timings.lease_duration:g} s",
            state=self.options.state.value,
        )
        await check_server(self._lock, self._election_log)
        await self._find_state()
        self._election = ElectionThread(
            self._make_election,
            self.promote,
            self.demote,
            self.guardian.watch,
            self._election_ended,
            self._self_fence,
        )
        self.guardian.start()
        contend = asyncio.ensure_future(self._contend_when_up())
        contend.add_done_callback(self._contending_ended)
        self._main = asyncio.ensure_future(upstream())
        self._drain.rulebook = self._main
        try:
            await asyncio.wait({self._main})
        finally:
            contend.cancel()
            await self._finish()
        if self._failure is not None:
            raise self._failure
        if not self._main.cancelled():
            self._main.result()

    def _contending_ended(self, contend: asyncio.Future[None]) -> None:
        """It goes on for as long as the worker does."""
        if not contend.cancelled():
            self._election_ended(contend.exception())

    async def _find_state(self) -> None:
        if self.options.state is StateMode.OFF:
            return
        self.state = StateStore(
            self.options,
            self.worker_id,
            self._claimant,
            self._log,
            self.state_failed,
            self._engine_thread,
        )
        try:
            if self._lacks_state is not None:
                raise StateRefused(self._lacks_state)
            await self.state.survey()
        except StateRefused as error:
            await self._refuse_state(error)

    async def _refuse_state(self, error: StateRefused) -> None:
        """Elect without state, if operator and cluster let us.

        A worker without state would lead a cluster that has some as if it
        had none, so it does not contend for as long as it cannot keep it.

        :raises StateRefused: if the operator does not let us.
        """
        if self.options.state is StateMode.REQUIRED:
            raise StateRefused(
                f"--ha-state required: the state cannot be kept: {error}"
            )
        if self._is_without_state or self.state is None:
            return  # said before
        if await self.state.may_have_state():
            if self._obstacle is None:
                self._log.warning(
                    "This worker follows and does not lead: the cluster keeps "
                    "state, or may do so, which this worker cannot",
                    str(error),
                )
            self._obstacle = str(error)
            if self._election is not None:
                self._election.suspend("the state cannot be kept")
            return
        self._obstacle = None
        self._stop_keeping_state()
        if self.rulesets.up.is_set() and self.leadership.term is None:
            self.rulesets.reset()  # of sessions that were to be recorded
        self._log.warning(
            "The rules' state will not survive a failover", str(error)
        )

    def _stop_keeping_state(self) -> None:
        self._is_without_state = True
        state, self.state = self.state, None
        if self._engine is not None:
            self._engine.stop_recording()
        for gate in self._gates.values():
            gate.state = None
        if state is not None:
            state.close()

    async def _contend_when_up(self) -> None:
        # A worker that is still building rulesets must not keep the lock
        # from one that is ready.
        await self.rulesets.up.wait()
        if self.state is not None and self._lacks_state is not None:
            await self._refuse_state(StateRefused(self._lacks_state))
        while self._obstacle is not None:
            await asyncio.sleep(self.options.timings.poll_interval)
            await self._look_for_obstacle()
        if self._election is not None:
            self._election.start()
        await self._stand_by()

    async def _stand_by(self) -> None:
        """See to it that a promotion will be quick, for as long as needed."""
        is_warm = False
        while True:
            await asyncio.sleep(STAND_BY_EVERY)
            if self.state is None or not self._stands_by():
                continue
            if self._obstacle is not None:
                await self._look_for_obstacle()
                if self._obstacle is None and self._election is not None:
                    self._election.resume()
                continue
            await self.state.stand_by()
            if not is_warm:
                is_warm = await self._warm_up()

    async def _look_for_obstacle(self) -> None:
        assert self.state is not None
        try:
            if self._lacks_state is not None:
                raise StateRefused(self._lacks_state)
            if await self.state.survey():
                self._obstacle = None
                self._log.info("The state can be kept again")
        except StateRefused as error:
            await self._refuse_state(error)

    async def _warm_up(self) -> bool:
        """Have Java do beforehand what a promotion will wait for.

        :returns: whether it has.
        """
        if self._bridge is None:
            return True
        texts = list(self.rulesets.texts().values())
        steps = warm_up(self._bridge, texts)
        try:
            while self._stands_by():
                done = await self._loop.run_in_executor(None, next, steps, 0)
                if done == 0:
                    return True
            return False
        except RuntimeError as error:
            logger.debug("Java could not practise: %s", reason(error))
            return True
        finally:
            with suppress(ValueError):  # a step is still under way
                steps.close()

    def _stands_by(self) -> bool:
        """Whether there is nothing to do but to wait for a promotion."""
        return (
            self._is_standby
            and self.rulesets.up.is_set()
            and not self.is_leaving
        )

    async def _finish(self) -> None:
        """End what upstream left over, and give up the lock last."""
        self._drain.rulebook_ended()
        if self._main is not None and not self._main.done():
            self._main.cancel()
            await asyncio.wait({self._main})
        await self._end_term(self.sources.end_all)
        with suppress(Exception):  # of sessions that have ended meanwhile
            await self._reset_is_done()
        self._tell_counts()
        self.rulesets.clear()
        if self._election is not None:
            await self._election.shut_down()
        if self.state is not None:
            self.state.close()
        self._engine_thread.shutdown(wait=False)
        self.guardian.dismiss()
        self._drain.finished()

    async def _end_term(
        self, end_sources: Callable[[], Awaitable[None]]
    ) -> None:
        """End all that acts, in the order that makes the lock safe to free.

        No new event, no source, no action, no write.
        """
        if self._resuming is not None:
            self._resuming.cancel()
        self._end_leadership()
        for gate in self._gates.values():
            gate.wake_all()
        await end_sources()
        await self._end_actions()
        await self._retire()

    def _running(self) -> list[str]:
        """What keeps this worker from ending. For any thread."""
        running = self.sources.running()
        actions = self.actions.running()
        return running + ([f"{actions} actions"] if actions else [])

    def _withdraw(self) -> None:
        if self._election is not None:
            self._election.withdraw()

    def _make_election(self, **callbacks: Any) -> Elector:
        return Elector(
            self._lock,
            self._election_log,
            claims_terms=self.state is not None,
            **callbacks,
        )

    def _election_ended(self, error: BaseException | None) -> None:
        if error is None or self._main is None or self._main.done():
            return
        self._failure = error
        self._main.cancel()

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
        # A cancelled ansible-playbook leaves its forks at the task in hand.
        await self._loop.run_in_executor(None, self.guardian.clean_up)

    def _tell_counts(self) -> None:
        """What the gates and the fence kept from the engine, if anything."""
        held = sum(gate.held for gate in self._gates.values())
        dropped = sum(gate.dropped_total for gate in self._gates.values())
        dropped += self._held_in_old_gates
        refused = sum(gate.refused_total for gate in self._gates.values())
        actions = self.actions.dropped_total
        if refused:
            self._log.warning("Events could not be processed", events=refused)
        if held or dropped or actions:
            self._log.info(
                "Not processed for want of leadership",
                events_held=held,
                events_dropped=dropped,
                actions_dropped=actions,
            )

    # -- transitions, told by the election -------------------------------

    async def promote(self, term: Term) -> None:
        """Begin to act."""
        await self.rulesets.up.wait()
        async with self._transition:
            if self.is_leaving:
                # The election has been told, or is about to be.
                await self._loop.create_future()
            self._is_standby = False
            await self._assume(term)

    async def _assume(self, term: Term) -> None:
        """Act with the state that the last leader left."""
        await self._reset_is_done()
        # Before the recovery: its matches arrive while it goes on.
        self.leadership.begin(term)
        if self.state is not None:
            try:
                await self._recover(self.state, term)
                self._failures.clear()
            except StateRefused as error:
                await self._give_up_state(error)
            except ServerUnavailable as error:
                if not self._fails_for_good(error):
                    raise
                await self._give_up_state(StateRefused(str(error)))
        if self.leadership.term is not term:
            return  # the rulebook is being loaded anew
        await self._prime()
        self.leadership.announce()

    async def _recover(self, state: StateStore, term: Term) -> None:
        gates = list(self._gates.values())
        doubtful: set[int] = set()
        for gate in gates:
            gate.state = state
            doubtful |= gate.doubtful_terms()

        def settle(last_marks: Mapping[int, int]) -> None:
            for gate in gates:
                gate.settle(last_marks)

        await state.recover(
            term, self.rulesets.sessions(), self._deliver, doubtful, settle
        )
        if self.leadership.term is term:
            assert self._engine is not None
            self._engine.clock.start()

    def _fails_for_good(self, error: ServerUnavailable) -> bool:
        """Whether this is no outage: the election has had none meanwhile."""
        if isinstance(error, RowInUse):
            return False  # somebody else's transaction will end
        if str(error) not in self._failures:
            self._failures.clear()
        self._failures.append(str(error))
        if len(self._failures) < SAME_FAILURES:
            return False
        self._failures.clear()
        return True

    async def _give_up_state(self, error: StateRefused) -> None:
        """The server will not have the state, now or later.

        :raises HaError: if this worker does not lead without it.
        """
        try:
            await self._refuse_state(error)
        except StateRefused as required:
            # No try after this one can succeed.
            self._failure = required
            if self._main is not None:
                self._main.cancel()
        if self.state is not None:
            raise ServerUnavailable(f"the state cannot be kept: {error}")
        self.rulesets.reset()

    async def _prime(self) -> None:
        """Give the engine the facts that it has not had yet."""
        for ruleset in self.rulesets.with_facts():
            if self.state is None:
                ruleset.prime()
            elif not self.state.is_primed(ruleset.name):
                ruleset.prime()
                self.state.set_primed(ruleset.name)

    def attach_state(self, engine: Any, config: dict[str, Any]) -> Any:
        """Keep the state of this engine; its rulesets come after that.

        :param engine: drools_jpy's Java object.
        :param config: upstream's settings for it.
        :returns: what is to take the engine's place.
        :raises StateRefused: if that cannot be, and must.
        """
        assert self.state is not None
        try:
            self._bridge = Bridge(engine)
            self.state.attach(self._bridge, config)
        except StateRefused as error:
            if self.options.state is StateMode.REQUIRED:
                raise StateRefused(
                    f"--ha-state required: the state cannot be kept: {error}"
                ) from None
            self._lacks_state = str(error)
            return engine
        collect_less(os.environ)
        self._engine = RecordedEngine(
            engine,
            self._bridge,
            self.state,
            event_in_hand,
            self._deliver,
            self.engine_failed,
        )
        return self._engine

    async def _ask_server(self) -> bool:
        return self._election is not None and await self._election.confirm()

    def engine_failed(self, why: str) -> None:
        """The engine takes nothing any more: another worker's may."""
        self._log.error("The rule engine fails, stepping down", why)
        if self._election is not None:
            self._election.step_down("the rule engine fails")

    def state_failed(self, error: HaError) -> None:
        """Something could not be stored: nothing more may follow.

        This worker steps down, and whoever leads next goes on with what is
        stored.
        """
        if self.state is None:
            return
        if isinstance(error, StateRefused):
            self.state.look_again()
        self._end_leadership()
        if self._election is not None:
            why = f"the state could not be stored: {error}"
            self._log.warning("Stepping down", why)
            self._election.step_down("the state could not be stored")

    async def demote(self, reason: str) -> None:
        """End everything that the term has started."""
        if self._resuming is not None:
            self._resuming.cancel()  # or it would keep us out
        async with self._transition:
            await self._end_term(self.sources.end_term)
            self._reset()
            self.guardian.unwatch()
            self._is_standby = True

    def _end_leadership(self) -> None:
        """Act no more, and let no time pass for the rules."""
        self.leadership.end()
        if self._engine is not None:
            self._engine.clock.pause()

    def _reset(self) -> None:
        """Empty the engine: what it knows belongs to a term that is over.

        Java can take its time, or be held up by a write that fails. The
        lease does not wait for that: nothing of it acts any more.
        """
        self._resetting = self._loop.run_in_executor(None, self.rulesets.reset)

    async def _reset_is_done(self) -> None:
        while self._resetting is not None:
            resetting = self._resetting
            await asyncio.wait({resetting})
            if self._resetting is resetting:
                self._resetting = None
            resetting.result()

    async def _retire(self) -> None:
        """Write no state from here on."""
        if self.state is not None:
            term = await self.state.retire()
            for gate in self._gates.values():
                gate.recall(term)

    # -- the engine's life -----------------------------------------------

    def gate_of(self, queue: Any) -> EventGate:
        """The gate of a ruleset's queue, the same for both of its ends."""
        gate = self._gates.get(id(queue))
        if gate is None:
            gate = self._gates[id(queue)] = self._make_gate(
                queue, self.leadership
            )
        return gate

    def reload(self) -> None:
        """The rulebook is being loaded anew; the election goes on."""
        if self.state is not None:
            # The engine is a new one: the term begins again with the state.
            self._reloaded = self.leadership.term or self._reloaded
            self._end_leadership()
        if self._resuming is not None:
            self._resuming.cancel()
        self.rulesets.clear()
        self._held_in_old_gates += sum(
            gate.held + gate.dropped_total for gate in self._gates.values()
        )
        self._gates.clear()
        gc.unfreeze()

    def ruleset_started(self, ruleset: Ruleset) -> None:
        """A ruleset waits for events, perhaps after a reload."""
        if self.leadership.acting_term() is not None:
            ruleset.prime()
        self.rulesets.started(ruleset)
        if self.rulesets.up.is_set():
            if self._reloaded is not None:
                self._resuming = asyncio.ensure_future(self._resume())
            # Upstream collects garbage after each 1,000 events: what was
            # loaded at the start, ours included, need not be looked at.
            gc.collect()
            gc.freeze()

    async def _resume(self) -> None:
        """Go on with the term in which the rulebook was loaded anew."""
        async with self._transition:
            term, self._reloaded = self._reloaded, None
            if term is None or not term.is_current() or self.is_leaving:
                return
            try:
                await self._assume(term)
            except Exception as error:
                self._log.exception("Cannot lead on after the reload")
                if self._election is not None:
                    self._election.step_down(f"the reload failed: {error}")

    @property
    def is_leaving(self) -> bool:
        """The end was asked for."""
        return self.leadership.shutdown_event.is_set()

    def install_signal_handlers(self) -> None:
        """See :meth:`SignalListener.install`."""
        self._signals.install()
