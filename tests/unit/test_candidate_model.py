"""Two candidates, a server and a network, in whatever order it comes.

Hypothesis interleaves what two workers decide, what the server does with
their requests, when answers arrive or never do, sessions that are ended,
and time. After each step no two terms may be current, and none without the
lock that it relies on.
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

from ansible_rulebook.ha.candidate import Candidate, Do, Phase
from ansible_rulebook.ha.lease import Timings
from ansible_rulebook.ha.term import Term

LEASE = 9.0
TIMINGS = Timings(3.0, LEASE)


@dataclass
class Session:
    """What the server keeps for one connection."""

    number: int
    heard_at: float  # when it last had something to say
    over: bool = False


@dataclass
class Server:
    """One lock, and the rule that frees it when its holder is silent."""

    now: float = 0.0
    sessions: list[Session] = field(default_factory=list)
    holder: Session | None = None
    numbers: count[int] = field(default_factory=count)

    def open(self) -> Session:
        session = Session(next(self.numbers), self.now)
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
            if idle and self.now >= session.heard_at + LEASE:
                self.sessions.remove(session)
                if self.holder is session:
                    self.holder = None

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

    def __init__(self, server: Server, offset: float) -> None:
        self.server = server
        self.offset = offset  # clocks of two machines never agree
        self.candidate = Candidate(TIMINGS, jitter=lambda: 0.3)
        self.session: Session | None = None
        self.request: Request | None = None
        self.term: Term | None = None
        self.promotion = "none"
        self.demotion = "none"
        self.works = False  # something of the term is still running
        self.terms = 0

    def clock(self) -> float:
        return self.server.now + self.offset

    def leads(self) -> bool:
        return self.term is not None and self.term.is_current()

    def waits(self) -> int | None:
        """The session that the server works for, and which is not idle."""
        if self.request is None or self.request.kind is not Do.WAIT:
            return None
        if self.request.served or self.session is None:
            return None
        return self.session.number

    def decide(self) -> None:
        if self.request is not None:
            return
        step = self.candidate.decide(self.clock(), self.promotion != "none")
        if step.do in (Do.CONNECT, Do.TRY, Do.WAIT, Do.RENEW):
            limit = TIMINGS.trust_for if step.seconds is None else step.seconds
            assert limit > 0
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

    def serve(self) -> None:
        """The request reaches the server."""
        request = self.request
        if request is None or request.served:
            return
        if request.kind is Do.CONNECT:
            request.answer = self.server.open()
            request.served = True
            return
        if self.session not in self.server.sessions:
            return  # silence
        assert self.session is not None
        if request.kind in (Do.TRY, Do.WAIT):
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
            assert isinstance(request.answer, Session)
            self.session = request.answer
            self.candidate.connected(TIMINGS)
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


class Elections(RuleBasedStateMachine):
    @initialize(offsets=st.tuples(*[st.floats(-1e6, 1e6)] * 2))
    def start(self, offsets: tuple[float, float]) -> None:
        self.server = Server()
        self.workers = [Worker(self.server, offset) for offset in offsets]

    who = st.integers(0, 1)

    @rule(who=who, rounds=st.integers(1, 8))
    def goes_well(self, who: int, rounds: int) -> None:
        worker = self.workers[who]
        for _ in range(rounds):
            worker.decide()
            worker.serve()
            worker.receive()
            if worker.promotion == "running":
                self.promotion_ends(who, True)

    @rule(who=who)
    def decides(self, who: int) -> None:
        self.workers[who].decide()

    @rule(who=who)
    def request_arrives(self, who: int) -> None:
        self.workers[who].serve()

    @rule(who=who)
    def answer_arrives(self, who: int) -> None:
        self.workers[who].receive()

    @rule(who=who)
    def gives_up_waiting(self, who: int) -> None:
        worker = self.workers[who]
        request = worker.request
        if request is not None and worker.clock() >= request.give_up_at:
            worker.lose()

    # A pause of a worker is time that passes without a step of it.
    @rule(seconds=st.floats(0.001, LEASE * 1.5))
    def time_passes(self, seconds: float) -> None:
        waiting = {worker.waits() for worker in self.workers} - {None}
        self.server.advance(seconds, waiting)

    @rule(seconds=st.sampled_from([1.0, 2.9, 3.0, 5.9, 6.0, 8.9, 9.0]))
    def time_passes_to_a_limit(self, seconds: float) -> None:
        self.time_passes(seconds)

    @rule(who=who)
    def server_ends_session(self, who: int) -> None:
        session = self.workers[who].session
        if session is not None:
            self.server.end(session)  # its last word comes before that

    @rule(who=who)
    def worker_notices_the_end(self, who: int) -> None:
        worker = self.workers[who]
        if worker.session is not None and worker.session.over:
            worker.lose()

    @rule(who=who)
    def connection_is_reset(self, who: int) -> None:
        self.workers[who].lose()

    @rule(who=who, well=st.booleans())
    def promotion_ends(self, who: int, well: bool) -> None:
        worker = self.workers[who]
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
        worker = self.workers[who]
        if worker.demotion == "running":
            worker.promotion = worker.demotion = "ended"
            worker.works = False
            worker.candidate.demoted()

    @rule(who=who)
    def step_down(self, who: int) -> None:
        self.workers[who].candidate.step_down("asked to")

    @rule(who=who)
    def restarts(self, who: int) -> None:
        """SIGKILL, and the same command once more."""
        worker = self.workers[who]
        if worker.session is not None:
            self.server.end(worker.session)
        self.workers[who] = Worker(self.server, worker.offset + 17)

    @rule(who=who)
    def stops(self, who: int) -> None:
        worker = self.workers[who]
        worker.candidate.stop()
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
        if worker.session is None:
            self.workers[who] = Worker(self.server, worker.offset)

    @invariant()
    def one_leader_who_holds_the_lock(self) -> None:
        if not hasattr(self, "workers"):
            return
        leaders = [worker for worker in self.workers if worker.leads()]
        assert len(leaders) <= 1
        for leader in leaders:
            # Whoever is trusted: the server must not have freed its lock,
            # even if nobody has asked for it since.
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
        for _ in range(300):
            for who, worker in enumerate(self.workers):
                if worker.session is not None and (
                    worker.session.over
                    or worker.session not in self.server.sessions
                ):
                    worker.lose()
                worker.serve()
                worker.receive()
                worker.decide()
                self.one_leader_who_holds_the_lock()
                if worker.promotion == "running":
                    self.promotion_ends(who, True)
                self.demotion_ends(who)
            self.time_passes(0.2)
            gave_up = [worker.candidate.gave_up for worker in self.workers]
            if any(worker.leads() for worker in self.workers) or all(gave_up):
                return
        raise AssertionError(f"nobody leads: {self.workers}")


TestElections = Elections.TestCase
TestElections.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
