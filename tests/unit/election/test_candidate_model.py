"""Candidates, a server and a network, in whatever order it comes.

Hypothesis interleaves what two or three workers decide, what the server does
with their requests, when answers arrive or never do, errors, sessions that
are ended, restarts of either side, and time: by clocks that do not agree, of
which some run fast, some slow, and some jump ahead. After each step no two
terms may be current, and none without the lock that it relies on; and with a
network that works again somebody leads before long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from ansible_rulebook.ha.election.candidate import Candidate, Do, Phase
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.lock_delay import ServerLife
from ansible_rulebook.ha.election.term import Term

LEASE = 9.0
TIMINGS = Timings(3.0, LEASE)
# A third of the lease is kept for what goes wrong. A clock that is slow by
# less than that has to be harmless.
RATES = (0.7, 1.3)
# So has the difference of two clocks, where no server's is between them.
WORST_RATIO = 1.45
# Until the silent one's lease has run out, and one more try; those who stand
# back do it by their own clocks.
LED_WITHIN = LEASE / RATES[0] + 2 * TIMINGS.poll_interval
TICK = 0.2  # seconds
# Where each phase may lead to, besides itself.
WAYS = {
    Phase.OFFLINE: {Phase.CONTENDING, Phase.STOPPED},
    Phase.CONTENDING: {Phase.PROMOTING, Phase.OFFLINE},
    Phase.PROMOTING: {Phase.LEADING, Phase.DEMOTING},
    Phase.LEADING: {Phase.DEMOTING},
    Phase.DEMOTING: {Phase.OFFLINE},
    Phase.STOPPED: set(),
}


@dataclass
class Session:
    """What the server keeps for one connection."""

    number: int
    heard_at: float  # when it last had something to say
    life: int = 0
    over: bool = False


@dataclass
class Server:
    """One lock, and the rule that frees it when its holder is silent."""

    lease: float = LEASE  # it may be stricter than what is asked for
    up: bool = True
    now: float = 0.0
    sessions: list[Session] = field(default_factory=list)
    holder: Session | None = None
    lineage: int = 0  # of its data
    claim: tuple[int, int] | None = None  # by whom, in which lineage
    numbers: count[int] = field(default_factory=count)
    life: int = 0

    def open(self) -> Session:
        session = Session(next(self.numbers), self.now, self.life)
        self.sessions.append(session)
        return session

    def end(self, session: Session) -> None:
        session.over = True
        if session in self.sessions:
            self.sessions.remove(session)
        if self.holder is session:
            self.holder = None

    def advance(self, seconds: float, waiting: set[int]) -> None:
        """Time passes; whoever is idle for a whole lease is ended.

        The client need not notice: its network may be dead.
        """
        self.now += seconds
        for session in list(self.sessions):
            idle = session.number not in waiting
            if idle and self.now >= session.heard_at + self.lease:
                self.sessions.remove(session)
                if self.holder is session:
                    self.holder = None

    def crash(self) -> None:
        """It ends, and its machine lives: that closes every connection."""
        for session in list(self.sessions):
            self.end(session)
        self.up = False

    def start(self) -> None:
        """It has no memory of any lock."""
        self.up = True
        self.life += 1

    def replace(self, by_standby: bool) -> None:
        """Its machine dies without a word, and another one is it now."""
        self.sessions.clear()
        self.holder = None
        self.start()
        self.lineage += by_standby

    def lock(self, session: Session) -> bool:
        session.heard_at = self.now
        if self.holder is None and session in self.sessions:
            self.holder = session
        return self.holder is session


@dataclass
class Request:
    """One request on its way to the server, or its answer on the way back."""

    kind: Do
    sent_at: float  # by the worker's clock
    give_up_at: float  # by the worker's clock
    served: bool = False
    answer: object = None


class Worker:
    """Does what its candidate decides, as the election does."""

    def __init__(
        self,
        server: Server,
        offset: float,
        rate: float = 1.0,
        with_state: bool = False,
    ) -> None:
        self.server = server
        self.with_state = with_state
        self.claimed = not with_state  # nothing is done before that
        self.offset = offset  # clocks of two machines never agree
        self.rate = rate  # nor does one second of theirs
        self.candidate = Candidate(TIMINGS, jitter=lambda: 0.3)
        self.session: Session | None = None
        self.request: Request | None = None
        self.term: Term | None = None
        self.promotion = "none"
        self.demotion = "none"
        self.works = False  # something of the term is still running
        self.terms = 0
        self.phase = self.candidate.phase
        self.doomed = False  # a term without its session
        self.over: set[int] = set()  # terms that were seen to be
        self.exits = False  # the process ends, with all that it started

    def clock(self) -> float:
        return self.server.now * self.rate + self.offset

    def leads(self) -> bool:
        leads = self.term is not None and self.term.is_current()
        leads = leads and self.claimed
        if self.term is not None and not leads:
            self.over.add(self.term.number)
        assert not leads or self.terms not in self.over, "leads once more"
        return leads

    def waits(self) -> int | None:
        """The session that the server works for, and which is not idle."""
        if self.request is None or self.request.kind is not Do.WAIT:
            return None
        if self.request.served or self.session is None:
            return None
        return self.session.number

    def check_phase(self) -> None:
        phase = self.candidate.phase
        assert phase is self.phase or phase in WAYS[self.phase], self.phase
        self.phase = phase

    def decide(self) -> None:
        if self.request is not None:
            return
        self.check_phase()
        if self.term is not None and self.term.seen_over:
            # Somebody was told so; a late answer cannot take it back.
            self.candidate.step_down("the lease had ended")
        step = self.candidate.decide(self.clock(), self.promotion != "none")
        # Zero would be a loop that keeps the processor busy.
        assert step.seconds is None or step.seconds > 0, step
        assert not self.doomed or step.do is Do.DEMOTE, step
        self.doomed = False
        self.check_phase()
        if step.do is Do.REST:
            self.check_rest(step.seconds)
        if step.do in (Do.CONNECT, Do.LOOK, Do.TRY, Do.WAIT, Do.RENEW):
            limit = TIMINGS.trust_for if step.seconds is None else step.seconds
            self.request = Request(step.do, self.clock(), self.clock() + limit)
        elif step.do is Do.PROMOTE:
            assert self.session is not None and not self.works
            session = self.session
            self.terms += 1
            self.term = Term(
                self.terms,
                self.candidate.trusted_until,
                lambda: session.over,
                self.clock,
            )
            self.promotion = "running"
            self.works = True
            self.claimed = not self.with_state
            self.claim()
        elif step.do is Do.DEMOTE:
            if self.term is not None:
                self.term.end()
            self.demotion = "running"
        elif step.do is Do.RELEASE:
            # The order that everything relies on.
            assert not self.leads(), "released while the term is current"
            assert not self.works, "released while the term's work runs"
            if self.session is not None:
                self.server.end(self.session)
            self.session = self.term = None
            self.promotion = self.demotion = "none"
            self.candidate.released(self.clock())
        elif step.do is Do.OVERDUE:
            # Not before the last moment, and never while it leads.
            assert self.demotion == "running" and not self.leads()
            self.exits = True

    def claim(self) -> None:
        """With state, a leader says so in the database before it leads."""
        server = self.server
        if self.with_state and server.up and server.holder is self.session:
            server.claim = id(self), server.lineage
            self.claimed = True

    def check_rest(self, seconds: float | None) -> None:
        """Nobody may sleep through what has to be done in time."""
        if self.demotion == "running":
            return  # its end wakes the worker
        assert seconds is not None, "rests for ever"
        if self.term is None:
            assert seconds <= TIMINGS.poll_interval * 1.001
        else:
            left = self.candidate.trusted_until - self.clock()
            assert seconds < left, "would renew too late"

    def serve(self) -> None:
        """The request reaches the server."""
        request = self.request
        if request is None or request.served or not self.server.up:
            return
        if request.kind is Do.CONNECT:
            mine = id(self), self.server.lineage
            request.answer = self.server.open(), self.server.claim == mine
            request.served = True
            return
        if self.session not in self.server.sessions:
            return  # silence
        assert self.session is not None
        if request.kind is Do.LOOK:
            self.session.heard_at = self.server.now
            request.answer = self.server.holder is not None
        elif request.kind in (Do.TRY, Do.WAIT):
            request.answer = self.server.lock(self.session)
        else:
            self.session.heard_at = self.server.now
            request.answer = self.server.holder is self.session
        request.served = True

    def receive(self) -> None:
        """The answer reaches the worker."""
        request = self.request
        if request is None or not request.served:
            return
        self.request = None
        if request.kind is Do.CONNECT:
            assert isinstance(request.answer, tuple)
            self.session, led_last = request.answer
            self.candidate.connected(
                TIMINGS.shortened(self.server.lease),
                self.clock(),
                ServerLife(str(self.server.life), str(self.server.lineage)),
                led_last,
            )
        elif request.kind is Do.LOOK:
            self.candidate.looked(self.clock(), bool(request.answer))
        elif request.kind in (Do.TRY, Do.WAIT):
            if request.answer:
                now = self.clock()
                self.request = Request(Do.RENEW, now, now + TIMINGS.trust_for)
            else:
                self.candidate.not_locked()
        elif request.answer:
            self.candidate.proved(request.sent_at)
            if self.term is not None:
                self.term.renewed(self.candidate.trusted_until)
        else:
            self.lose()
        self.check_phase()

    def lose(self) -> None:
        """The worker gives its session up."""
        request, self.request = self.request, None
        if request is not None and request.kind is Do.CONNECT:
            self.candidate.unreachable(self.clock())
            return
        if self.session is not None:
            # It closes its side; the server may never learn of it.
            self.session.over = True
            self.session = None
            self.candidate.session_lost(self.clock(), "gone")
            self.doomed = self.leads_or_is_about_to()
        self.check_phase()

    def leads_or_is_about_to(self) -> bool:
        return self.candidate.phase in (Phase.PROMOTING, Phase.LEADING)


def _ratio(clocks: list[tuple[float, float]]) -> float:
    rates = [rate for _, rate in clocks]
    return max(rates) / min(rates)


class Elections(RuleBasedStateMachine):
    @initialize(
        clocks=st.lists(
            st.tuples(
                st.floats(-1e6, 1e6),
                st.sampled_from([*RATES, 1.0]) | st.floats(*RATES),
            ),
            min_size=2,
            max_size=3,
        ).filter(lambda clocks: _ratio(clocks) < WORST_RATIO),
        lease=st.sampled_from([LEASE, LEASE, 6.0, 4.5]),
        with_state=st.booleans(),
    )
    def start(
        self,
        clocks: list[tuple[float, float]],
        lease: float,
        with_state: bool,
    ) -> None:
        self.server = Server(lease)
        self.workers = [
            Worker(self.server, *clock, with_state) for clock in clocks
        ]
        for worker in self.workers:
            self.meets(worker, str(self.server.life), str(self.server.lineage))

    # Of three workers; where there are two, the first one has two numbers.
    who = st.integers(0, 2)

    def worker(self, who: int) -> Worker:
        return self.workers[who % len(self.workers)]

    @staticmethod
    def meets(worker: Worker, life: str, lineage: str) -> None:
        """It was connected before.

        (One that comes within a lease after the server was replaced would
        not know that.)
        """
        worker.candidate.connected(
            TIMINGS, worker.clock(), ServerLife(life, lineage)
        )
        worker.candidate.session_lost(worker.clock(), "that was before")

    def replace(self, who: int) -> None:
        """Another process takes its place, on the same machine."""
        old = self.worker(who)
        if old.session is not None:
            self.server.end(old.session)
        new = Worker(self.server, old.offset, old.rate, old.with_state)
        self.meets(new, "before", "another")
        self.workers[who % len(self.workers)] = new

    # Most that happens must be good, or there would never be a leader whom
    # something could befall.
    @rule(seconds=st.floats(0.0, LEASE), demotes=st.booleans())
    def all_goes_well(self, seconds: float, demotes: bool = True) -> None:
        end = self.server.now + seconds
        while True:
            for who in range(len(self.workers)):
                self.runs_well(who, demotes)
            if self.server.now >= end:
                return
            self.time_passes(TICK)

    @rule(who=who, rounds=st.integers(1, 8))
    def one_goes_well(self, who: int, rounds: int) -> None:
        for _ in range(rounds):
            self.runs_well(who % len(self.workers), demotes=False)

    @rule(who=who, steps=st.lists(st.sampled_from("dsra"), max_size=6))
    def goes_step_by_step(self, who: int, steps: list[str]) -> None:
        for step in steps:
            worker = self.worker(who)
            if step == "d":
                self.decides(who)
            elif step == "s":
                worker.serve()
            elif step == "r":
                worker.receive()
            elif (
                worker.request is not None
                and worker.clock() >= worker.request.give_up_at
            ):
                worker.lose()
            self.one_leader_who_holds_the_lock()

    def decides(self, who: int) -> None:
        self.worker(who).decide()
        if self.worker(who).exits:
            self.replace(who)

    # A pause of a worker is time that passes without a step of it.
    @rule(
        seconds=st.sampled_from([1.0, 2.9, 3.0, 4.5, 5.9, 6.0, 8.9, 9.0])
        | st.floats(TIMINGS.trust_for, LEASE * 1.5)
        | st.floats(0.001, LEASE)
    )
    def time_passes(self, seconds: float) -> None:
        waiting = {worker.waits() for worker in self.workers} - {None}
        self.server.advance(seconds, waiting)

    @rule(seconds=st.floats(TIMINGS.trust_for, LEASE * 1.5))
    def silence_after_a_renewal(self, seconds: float) -> None:
        """What a margin that is too small does not survive."""
        self.all_goes_well(LEASE)
        self.one_leader_who_holds_the_lock()
        self.time_passes(seconds)

    @rule(who=who, seconds=st.floats(0.0, LEASE))
    def renewal_takes_its_time(self, who: int, seconds: float) -> None:
        """The server's answer lies in the socket of a paused process."""
        self.all_goes_well(TICK)
        worker = self.worker(who)
        if worker.leads() and worker.request is None:
            self.server.advance(
                TIMINGS.renew_every / worker.rate, {worker.waits()} - {None}
            )
            self.decides(who)
            worker.serve()
            self.time_passes(seconds)
            self.one_leader_who_holds_the_lock()
            worker.receive()

    @rule(who=who, told=st.booleans())
    def session_ends(self, who: int, told: bool) -> None:
        """By the server, whose last word is on its way; or by a reset."""
        worker = self.worker(who)
        if worker.session is not None:
            self.server.end(worker.session)
        if told:
            worker.lose()

    @rule(who=who)
    def connection_is_reset(self, who: int) -> None:
        """The server need not know."""
        self.worker(who).lose()

    @rule(who=who, well=st.booleans())
    def promotion_ends(self, who: int, well: bool) -> None:
        worker = self.worker(who)
        if worker.promotion != "running":
            return
        worker.promotion = "ended"
        if not well:
            worker.candidate.promotion_failed("no JVM")
        elif worker.leads():
            worker.candidate.promoted()
        else:
            worker.candidate.step_down("lost while promoting")

    @rule(who=who)
    def demotion_ends(self, who: int) -> None:
        worker = self.worker(who)
        if worker.demotion == "running":
            worker.promotion = worker.demotion = "ended"
            worker.works = False
            worker.candidate.demoted()

    @rule(who=who)
    def step_down(self, who: int) -> None:
        self.worker(who).candidate.step_down("asked to")

    @rule(who=who)
    def restarts(self, who: int) -> None:
        """SIGKILL, and the same command once more."""
        self.replace(who)

    @rule(who=who, seconds=st.floats(0.001, 100.0))
    def clock_jumps_ahead(self, who: int, seconds: float) -> None:
        """Its machine slept, or so its clock says. None ever steps back.

        (Who waits for a time to pass has to rely on that it does.)
        """
        worker = self.worker(who)
        if worker.clock() >= worker.candidate._lock_delay_until:
            worker.offset += seconds

    @rule(seconds=st.floats(0.0, LEASE))
    def server_restarts(self, seconds: float) -> None:
        self.server.crash()
        end = self.server.now + seconds
        while self.server.now < end:
            for who in range(len(self.workers)):
                self.runs_well(who)
            self.time_passes(TICK)
        self.server.start()

    @rule(seconds=st.floats(0.0, LEASE), by_standby=st.booleans())
    def server_is_replaced(self, seconds: float, by_standby: bool) -> None:
        self.server.replace(by_standby)
        self.time_passes(seconds)

    @rule(who=who, seconds=st.floats(0.0, LEASE), by_standby=st.booleans())
    def server_is_replaced_and_found(
        self, who: int, seconds: float, by_standby: bool
    ) -> None:
        """One worker finds the new one before the leader does."""
        self.all_goes_well(LEASE)
        self.server.replace(by_standby)
        self.time_passes(seconds)
        self.one_goes_well(who, 8)

    @rule(
        who=who,
        leases=st.floats(0.4, 2.0),
        seconds=st.floats(0.0, 2.0),
        by_standby=st.booleans(),
    )
    def one_who_led_once_finds_another_server(
        self, who: int, leases: float, seconds: float, by_standby: bool
    ) -> None:
        """It was cut off, another one led, and that one does not know."""
        self.all_goes_well(LEASE)
        worker = self.worker(who)
        if not worker.leads():
            return
        end = self.server.now + leases * LEASE
        while self.server.now < end:
            for other in range(len(self.workers)):
                if self.workers[other] is not worker:
                    self.runs_well(other)
            self.time_passes(TICK)
        self.server.replace(by_standby)
        self.time_passes(seconds)
        for _ in range(12):
            self.runs_well(who % len(self.workers))

    @rule(who=who, seconds=st.floats(0.0, 2.0), by_standby=st.booleans())
    def one_whose_session_was_ended_finds_another_server(
        self, who: int, seconds: float, by_standby: bool
    ) -> None:
        """Another one led at once, and the server died without a word."""
        self.all_goes_well(LEASE)
        worker = self.worker(who)
        if not worker.leads() or worker.session is None:
            return
        self.server.end(worker.session)
        for _ in range(8):
            for other in range(len(self.workers)):
                if self.workers[other] is not worker:
                    self.runs_well(other)
        self.server.replace(by_standby)
        worker.lose()
        self.time_passes(seconds)
        for _ in range(12):
            self.runs_well(who % len(self.workers))

    @rule(who=who)
    def withdraws(self, who: int) -> None:
        """Its rulebook ends: it leads on, and never contends again."""
        worker = self.worker(who)
        worker.candidate.withdraw()
        for _ in range(20):
            if worker.term is not None or worker.request is not None:
                break
            worker.decide()
        phase = worker.candidate.phase
        assert phase is not Phase.CONTENDING or worker.request is not None
        if phase is Phase.STOPPED:
            self.replace(who)

    @rule(who=who)
    def stops(self, who: int) -> None:
        worker = self.worker(who)
        worker.candidate.quit()
        for _ in range(20):
            worker.serve()
            if worker.request is not None and not worker.request.served:
                worker.lose()
            worker.receive()
            worker.decide()
            self.one_leader_who_holds_the_lock()
            self.demotion_ends(who)
            if worker.candidate.phase is Phase.STOPPED:
                break
        assert worker.candidate.phase is Phase.STOPPED
        assert not worker.works
        assert worker.session is None
        self.replace(who)

    @invariant()
    def one_leader_who_holds_the_lock(self) -> None:
        if not hasattr(self, "workers"):
            return
        leaders = [worker for worker in self.workers if worker.leads()]
        assert len(leaders) <= 1
        for leader in leaders:
            # Whoever is trusted: the server must not have freed its lock,
            # even if nobody has asked for it since. One that is dead has.
            assert leader.session is not None
            if leader.session.life == self.server.life:
                assert self.server.holder is leader.session

    @invariant()
    def a_term_in_doubt_is_not_announced_again(self) -> None:
        for worker in getattr(self, "workers", ()):
            if worker.candidate.phase is Phase.DEMOTING:
                assert not worker.leads()

    def teardown(self) -> None:
        """With a network that works again, there is a leader."""
        if not hasattr(self, "workers"):
            return
        end = self.server.now + LED_WITHIN
        while self.server.now < end:
            self.all_goes_well(0.0)
            if any(worker.leads() for worker in self.workers):
                return
            self.time_passes(TICK)
        raise AssertionError(f"nobody leads: {self.workers}")

    def runs_well(self, who: int, demotes: bool = True) -> None:
        """One turn of a worker whose network is fine."""
        worker = self.workers[who]
        candidate = worker.candidate
        if candidate.gave_up or candidate.phase is Phase.STOPPED:
            self.replace(who)
            return
        if worker.session is not None and (
            worker.session.over or worker.session not in self.server.sessions
        ):
            worker.lose()
        worker.serve()
        if not self.server.up:
            worker.lose()
        worker.receive()
        self.decides(who)
        self.one_leader_who_holds_the_lock()
        if worker.promotion == "running":
            self.promotion_ends(who, True)
        if demotes:
            self.demotion_ends(who)


TestElections = Elections.TestCase
TestElections.settings = settings(
    max_examples=300,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
