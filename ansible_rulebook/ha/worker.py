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
import signal
from contextlib import suppress
from typing import Any, Awaitable, Callable, Coroutine

from .actions import Actions
from .drools_state import DroolsState, reason
from .election import LeaderElection, default_worker_id
from .election_thread import ElectionThread
from .errors import StateRefused
from .gate import EventGate
from .guarded_engine import GuardedEngine
from .guardian import Guardian
from .log import WorkerLog
from .office import Office
from .options import HaOptions, StateMode
from .practice import LOOK_EVERY
from .progress import Records
from .rulesets import Ruleset, Rulesets
from .sources import GRACE, Sources
from .state import StateStore
from .term import Term

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
DRAIN_SLACK = 5.0  # seconds on top of upstream's own bound
FINISH_WITHIN = 60.0  # seconds for what upstream has left over
SAME_SIGNAL = 0.5  # seconds; wrappers pass a Ctrl-C on that we got, too

MakeGate = Callable[[Any, Office], EventGate]
Broadcast = Callable[[str, float], Coroutine[Any, Any, None]]


class Worker:
    """One ``ansible-rulebook`` process in a cluster.

    Lives on upstream's event loop; make it there.

    :param options: what the operator asked for.
    :param shutdown_delay: seconds that running actions get at the end.
    :param make_gate: makes the gate for a ruleset's queue.
    :param broadcast: tells all rulesets to end: message, delay in seconds.
    :param records: upstream's calls that store the progress of actions, or
        the reason why there are none.
    """

    def __init__(
        self,
        options: HaOptions,
        shutdown_delay: float,
        make_gate: MakeGate,
        broadcast: Broadcast,
        records: Records | str,
    ) -> None:
        self.options = options
        self.worker_id = options.worker_id or default_worker_id()
        self.office = Office()
        self.rulesets = Rulesets()
        self.actions = Actions(self.office)
        self.sources = Sources(self.office, self.gate_of)
        self.guardian = Guardian()
        self._shutdown_delay = shutdown_delay
        self._make_gate = make_gate
        self._broadcast = broadcast
        self._gates: dict[int, EventGate] = {}
        self._log = WorkerLog(logger, self.worker_id, options.ha_uuid)
        self._loop = asyncio.get_running_loop()
        self._transition = asyncio.Lock()
        self._election: ElectionThread | None = None
        self._failure: BaseException | None = None
        self._main: asyncio.Task[None] | None = None
        self._left_at = 0.0
        self._drain: asyncio.Task[None] | None = None
        self._records = records
        self._reloaded: Term | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._engine: GuardedEngine | None = None
        self._resetting: asyncio.Future[None] | None = None
        self._is_without_state = False
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
        :raises PromotionFailed: see :class:`LeaderElection`.
        :raises Exception: what upstream's run ends with.
        """
        self.install_signal_handlers()
        reached = await self._make_election().check_server()
        await self._find_state()
        self._election = ElectionThread(
            self._make_election,
            self.promote,
            self.demote,
            self.guardian.watch,
            self.guardian.kill,
            self._election_ended,
            self._log,
        )
        self.guardian.start()
        contend = asyncio.ensure_future(
            self._contend_when_up(in_outage=not reached)
        )
        self._main = asyncio.ensure_future(upstream())
        try:
            await asyncio.wait({self._main})
        finally:
            contend.cancel()
            await self._finish_in_time()
        if self._failure is not None:
            raise self._failure
        if not self._main.cancelled():
            self._main.result()

    async def _find_state(self) -> None:
        mode = self.options.state
        if mode is StateMode.OFF:
            return
        try:
            if isinstance(self._records, str):
                raise StateRefused(self._records)
            self.state = StateStore(
                self.options,
                self.worker_id,
                self._records,
                self._log,
                self.state_failed,
            )
            await self.state.survey()
        except StateRefused as error:
            self._refuse_state(error)

    def _refuse_state(self, error: StateRefused) -> None:
        """Elect without state, if the operator lets us.

        :raises StateRefused: if not.
        """
        if self.options.state is StateMode.REQUIRED:
            raise StateRefused(
                f"--ha-state required: the state cannot be kept: {error}"
            )
        if self._is_without_state:
            return  # said before
        self._is_without_state = True
        state, self.state = self.state, None
        if self._engine is not None:
            self._engine.stop_guarding()
        if state is not None:
            state.close()
        self._log.warning(
            "The rules' state will not survive a failover", str(error)
        )

    async def _contend_when_up(self, in_outage: bool) -> None:
        # A worker that is still building rulesets must not keep the lock
        # from one that is ready.
        await self.rulesets.up.wait()
        if self._election is not None:
            self._election.start(in_outage)
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self.state is not None and self._stands_by():
                texts = self.rulesets.texts()
                if await self.state.practise(texts, self._stands_by):
                    return

    def _stands_by(self) -> bool:
        """Whether there is nothing to do but to wait for a promotion."""
        return (
            self._is_standby
            and self.rulesets.up.is_set()
            and not self.is_leaving
        )

    async def _finish_in_time(self) -> None:
        # What never ends would keep the lock from the others for ever.
        finishing = asyncio.ensure_future(self._finish())
        _, late = await asyncio.wait({finishing}, timeout=FINISH_WITHIN)
        if late and self._election is not None:
            self._election.fence_off("a source or an action does not end")
        finishing.result()

    async def _finish(self) -> None:
        """End what upstream left over, and give up the lock last."""
        self.office.shutdown_event.set()
        if self._drain is not None:
            self._drain.cancel()
        if self._main is not None and not self._main.done():
            self._main.cancel()
            await asyncio.wait({self._main})
        await self.sources.end_all(0)
        self._leave_office()  # what upstream left running starts no action
        await self._end_actions()
        if self._resuming is not None:
            self._resuming.cancel()
        await self._retire()
        with suppress(Exception):  # of sessions that have ended meanwhile
            await self._reset_is_done()
        self._tell_counts()
        self.rulesets.clear()
        if self._election is not None:
            await self._election.stop()
        if self.state is not None:
            self.state.close()
        self.guardian.dismiss()

    def _make_election(self, **callbacks: Any) -> LeaderElection:
        return LeaderElection(
            self.options.dsn,
            self.options.ha_uuid,
            worker_id=self.worker_id,
            poll_interval=self.options.poll_interval,
            lease_duration=self.options.lease_duration,
            session_pooler=self.options.session_pooler,
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
        await self._loop.run_in_executor(None, self.guardian.kill)

    def _tell_counts(self) -> None:
        """What the gates and the fence kept from the engine, if anything."""
        held = sum(gate.held_total for gate in self._gates.values())
        dropped = sum(gate.dropped_total for gate in self._gates.values())
        actions = self.actions.dropped_total
        if self.state is not None and self.state.unrecorded:
            self._log.warning(
                "Completed matches are not recorded and may run again",
                matches=self.state.unrecorded,
            )
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
        self.office.enter(term)
        if self.state is not None:
            try:
                await self.state.recover(term, self.rulesets.reset)
                if self.office.term is not term:
                    return  # the rulebook is being loaded anew
                assert self._engine is not None
                self._engine.clock.start()
            except StateRefused as error:
                self._refuse_state(error)
                self.rulesets.reset()
        if self.state is not None:
            for gate in self._gates.values():
                gate.most_unsafe = self.state.most_unsafe
                gate.settle_doubtful(self.state.others_led)
        await self._prime()
        self.office.announce()

    async def _prime(self) -> None:
        """Give the engine the facts that it has not had yet."""
        lacking = [
            each
            for each in self.rulesets.with_facts()
            if self.state is None
            or not self.state.is_primed(each.name, each.text)
        ]
        for ruleset in lacking:
            ruleset.prime()
        if self.state is not None and lacking:
            await self.state.set_primed(
                {each.name: each.text for each in lacking}
            )

    def attach_state(
        self,
        engine: Any,
        config: dict[str, Any],
        deliver: Callable[[int, Any], None],
    ) -> Any:
        """Keep the state of this engine; its rulesets come after that.

        :param config: Drools' settings, from upstream's variables.
        :param deliver: runs the rule of a timer's match in a session.
        :returns: what is to take the engine's place.
        :raises StateRefused: if that cannot be, and must.
        """
        assert self.state is not None
        drools = DroolsState(engine)
        self._engine = GuardedEngine(
            engine,
            drools,
            self._gate_being_read,
            self.state_failed,
            deliver,
            self.state.completed,
            lambda why: self._refuse_state(StateRefused(why)),
            self.state,
        )
        try:
            self.state.attach(drools, config)
        except StateRefused as error:
            self._refuse_state(error)
        return self._engine

    def _gate_being_read(self) -> EventGate | None:
        for gate in self._gates.values():
            if gate.is_read_here():
                return gate
        return None

    def state_failed(
        self, error: Exception, unstored: Any = None, doubtful: bool = False
    ) -> None:
        """The engine could not store something: nothing more may follow.

        This worker steps down, and whoever leads next goes on with what is
        stored.

        :param unstored: the gate of the event that is not, to which it goes
            back.
        :param doubtful: it may be stored after all.
        """
        if self.state is None:
            return
        news = self.state.write_failed()
        self._leave_office()
        if unstored is not None:
            unstored.give_back(doubtful)
        if news and self._election is not None:
            why = f"the state could not be stored: {reason(error)}"
            self._log.warning("Stepping down", why)
            self._election.step_down("the state could not be stored")

    async def demote(self, reason: str) -> None:
        """End everything that the term has started."""
        async with self._transition:
            self._leave_office()
            for gate in self._gates.values():
                gate.wake_all()
            await self.sources.end_term()
            await self._end_actions()
            await self._retire()
            self._reset()
            self.guardian.unwatch()
            self._is_standby = True

    def _leave_office(self) -> None:
        """Act no more, and let no time pass for the rules."""
        self.office.leave()
        if self._engine is not None:
            self._engine.clock.stop()

    def _reset(self) -> None:
        """Empty the engine: what it knows belongs to a term that is over.

        Java can take its time, or be held up by a write that fails. The
        lease does not wait for that: nothing of it acts any more.
        """
        if self.state is not None:
            self._resetting = self.state.in_engine_thread(self.rulesets.reset)
        else:
            self._resetting = self._loop.run_in_executor(
                None, self.rulesets.reset
            )

    async def _reset_is_done(self) -> None:
        resetting, self._resetting = self._resetting, None
        if resetting is not None:
            await asyncio.wait({resetting})
            resetting.result()

    async def _retire(self) -> None:
        """Write no state from here on."""
        if self.state is not None:
            await self.state.retire()
            for gate in self._gates.values():
                gate.recall()

    # -- the engine's life -----------------------------------------------

    def gate_of(self, queue: Any) -> EventGate:
        """The gate of a ruleset's queue, the same for both of its ends."""
        gate = self._gates.get(id(queue))
        if gate is None:
            gate = self._gates[id(queue)] = self._make_gate(queue, self.office)
        return gate

    def reload(self) -> None:
        """The rulebook is being loaded anew; the election goes on."""
        if self.state is not None:
            # The engine is a new one: the term begins again with the state.
            self._reloaded = self.office.term or self._reloaded
            self._leave_office()
        self.rulesets.clear()
        self._gates.clear()
        gc.unfreeze()

    def ruleset_started(self, ruleset: Ruleset) -> None:
        """A ruleset waits for events, perhaps after a reload."""
        if self.office.may_act() is not None:
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
        return self.office.shutdown_event.is_set()

    # -- the end ---------------------------------------------------------

    def install_signal_handlers(self) -> None:
        """Take SIGTERM and SIGINT (again).

        The JVM and ansible-runner put handlers of their own in place when
        they start, so this is called after each of them.
        """
        for signum in SIGNALS:
            self._loop.add_signal_handler(
                signum, self.leave, signal.Signals(signum).name
            )

    def leave(self, why: str) -> None:
        """Drain and end; asked a second time, hurry."""
        if self._main is None:
            raise SystemExit(0)
        if self._drain is None:
            self._left_at = self._loop.time()
            self._log.info("Draining", why)
            self._drain = asyncio.ensure_future(self._drain_rulebook(why))
        elif self._loop.time() > self._left_at + SAME_SIGNAL:
            self._log.info("Hurrying", why)
            self._hurry()

    async def _drain_rulebook(self, why: str) -> None:
        assert self._main is not None
        self.office.shutdown_event.set()
        if self._election is not None:
            self._election.withdraw()
        await self.sources.end_all(min(GRACE, self._shutdown_delay))
        if not self.rulesets.up.is_set():
            self._main.cancel()
            return
        telling = asyncio.ensure_future(
            self._broadcast(f"Worker {self.worker_id}: {why}", self._delay)
        )
        try:
            # Upstream waits for the queue, then for the last action.
            await asyncio.wait(
                {self._main}, timeout=2 * self._delay + DRAIN_SLACK
            )
            self._hurry()
        finally:
            telling.cancel()

    @property
    def _delay(self) -> float:
        return max(self._shutdown_delay, 0.0)

    def _hurry(self) -> None:
        self.rulesets.hurry()
        if not self.rulesets.up.is_set() and self._main is not None:
            self._main.cancel()
