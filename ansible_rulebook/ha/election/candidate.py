"""What a worker decides in the election, apart from doing it.

A :class:`Candidate` is told what happened and when, and :meth:`decide` says
what to do next. It has no clock, no socket and no task, so each transition,
and each interrupted one, can be tested without sleeping::

    OFFLINE --> CONTENDING --> PROMOTING --> LEADING
       ^            |              |            |
       |            v              v            v
       +--------- (lost) <------- DEMOTING <----+

The page ``docs/trust/how_it_works.rst`` says which phase goes with which state
of the worker.

The invariant is the order in which things end: trust in the lease first,
then everything that the leader does, then the lock.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Callable

from .lease import Timings
from .lock_delay import LockDelay, ServerLife
from .reasons import Reason

FIRST_LOOK = 0.1  # seconds from the first look at the lock to the next one
LAST_LOOK = 1.0  # seconds, the longest such pause
FIRST_BACKOFF = 0.1  # seconds, upper bound of the second try's delay
YIELD = 0.25  # seconds that a worker leaves the lock to a nominated one
LONGEST_DEMOTION = 60.0  # seconds, while the lock is still held
GIVE_UP_AFTER = 3  # promotions that failed in a row


class Phase(enum.Enum):
    """Where a candidate stands, and what may be assumed there."""

    OFFLINE = "offline"
    """No session. Another worker may lead."""
    CONTENDING = "contending"
    """A session without the lock. Another worker may lead."""
    PROMOTING = "promoting"
    """The lock is ours while the term is current; not announced yet."""
    LEADING = "leading"
    """As in PROMOTING, and announced."""
    DEMOTING = "demoting"
    """The term is over. The lock may or may not be gone."""
    STOPPED = "stopped"
    """No session, for good."""


class Do(enum.Enum):
    """The kinds of steps."""

    CONNECT = "open a session"
    LOOK = "see whether another worker holds the lock"
    TRY = "take the lock if it is free"
    WAIT = "queue for the lock"
    PROMOTE = "begin the term"
    RENEW = "prove that the lock is held"
    DEMOTE = "end the term, then all that it started"
    OVERDUE = "say that the demotion takes too long"
    RELEASE = "give up the session and the lock in it"
    REST = "wait until something happens"
    STOP = "end"


@dataclass(frozen=True)
class Step:
    """What to do next, for at most how many seconds, and why."""

    do: Do
    seconds: float | None = None
    reason: str = ""


class Backoff:
    """Delays between tries: none at first, then growing and jittered.

    "Full jitter" (M. Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015), so that workers do not come back in step.

    :param limit: the longest delay in seconds.
    :param jitter: gives a number in [0, 1).
    """

    def __init__(
        self, limit: float, jitter: Callable[[], float] = random.random
    ) -> None:
        self._limit = limit
        self._jitter = jitter
        self._tries = 0

    def next_at(self, now: float) -> float:
        """When to try again after a failure at ``now``."""
        if not self._tries:
            self._tries = 1
            return now
        growth = 2.0 ** min(self._tries - 1, 30)
        most = min(self._limit, FIRST_BACKOFF * growth)
        self._tries += 1
        return now + most * (0.1 + 0.9 * self._jitter())

    def reset(self) -> None:
        """The server answered: start over at the next failure."""
        self._tries = 0


class Candidate:
    """One worker's part in the election.

    :param timings: poll interval and lease duration.
    :param jitter: see :class:`Backoff`.
    :param leads_never: it only looks who leads.
    """

    def __init__(
        self,
        timings: Timings,
        jitter: Callable[[], float] = random.random,
        leads_never: bool = False,
    ) -> None:
        self.timings = self._wanted = timings
        self.leads_never = leads_never
        self.phase = Phase.OFFLINE
        self.failed_promotions = 0
        self._backoff = Backoff(timings.poll_interval, jitter)
        self._retry_at = float("-inf")
        self._withdrawn = False
        self._suspended = False
        self._end_term: str | None = None  # why it has to end
        self.reason = Reason.UNKNOWN
        """Why the term ends or has ended."""
        self.lost_unasked = False
        """Whether the last term ended without being asked to."""
        self._session = False
        self._lock_delay = LockDelay()
        self._lock_delay_until = float("-inf")
        self._look_at = float("-inf")
        self._looks = 0
        self._yield_until = float("-inf")
        self._tried = False
        self._sent_at = float("-inf")  # the last renewal that succeeded
        self._renew_now = False
        self._demote_by = float("inf")
        self._demote_latest = float("inf")
        self._demoted = False

    def __repr__(self) -> str:
        return f"<Candidate {self.phase.value}>"

    # -- what holds now --------------------------------------------------

    @property
    def trusted_until(self) -> float:
        """When trust in the lock ends, if a term is current."""
        return self._sent_at + self.timings.trust_for

    @property
    def confirmed_at(self) -> float:
        """When the last renewal that succeeded was sent."""
        return self._sent_at

    @property
    def in_session(self) -> bool:
        """Whether a session is open, as far as is known."""
        return self._session

    @property
    def gave_up(self) -> bool:
        """Whether too many promotions failed in a row."""
        return self.failed_promotions >= GIVE_UP_AFTER

    # -- what happened ---------------------------------------------------

    def connected(
        self,
        timings: Timings,
        now: float = 0.0,
        life: ServerLife | None = None,
        led_last: bool = False,
    ) -> float:
        """A session is open; the server may have shortened the lease.

        :param life: which life of the server it belongs to, if known.
        :param led_last: see :meth:`.LockDelay.until`.
        :returns: seconds of lock delay: until a free lock may be taken.
        """
        self.timings = timings
        self.phase = Phase.CONTENDING
        self._session = True
        self._tried = False
        if life is None:
            return 0.0
        self._lock_delay_until = self._lock_delay.until(
            life, now, self._wanted.lease_duration, led_last
        )
        self._look_at, self._looks = now, 0
        return max(0.0, self._lock_delay_until - now)

    def yielded(self, now: float) -> None:
        """The lock was free, and was left to a worker that is nominated."""
        self._yield_until = now + YIELD

    def unreachable(self, now: float) -> None:
        """No session could be opened."""
        self._retry_at = self._backoff.next_at(now)

    def looked(self, now: float, held: bool) -> None:
        """The server answered whether another worker holds the lock.

        That worker had good reason to take it in this life of the server, so
        its lock ends the delay for all.
        """
        if self.leads_never:
            self._backoff.reset()
            self._look_at = now + self.timings.poll_interval
            return
        if held:
            self._lock_delay_until = float("-inf")
            self.not_locked()
            return
        pause = FIRST_LOOK * 2.0 ** min(self._looks, 30)
        pause = min(pause, LAST_LOOK, self.timings.poll_interval)
        self._looks += 1
        self._look_at = min(now + pause, self._lock_delay_until)

    def not_locked(self) -> None:
        """The server answered that another worker holds the lock."""
        if self._tried:
            # A session that ends after its first answer is no recovery.
            self._backoff.reset()
        self._tried = True

    def proved(self, sent_at: float) -> None:
        """The server confirmed the lock; it was asked at ``sent_at``."""
        self._sent_at = sent_at
        self._renew_now = False
        if self.phase is not Phase.CONTENDING:
            self._backoff.reset()
            if self.phase is Phase.DEMOTING:
                self._allow_demotion_until(sent_at)
            return
        # A withdrawal may have crossed with the answer that gave the lock.
        self._end_term = None
        if self._withdrawn:
            self._end("no longer contending", Reason.STOPPED)
        self._demoted = self.lost_unasked = False
        self.phase = Phase.PROMOTING

    def _allow_demotion_until(self, sent_at: float) -> None:
        # No other worker can lead meanwhile, so it must not take for ever.
        end = min(sent_at + self.timings.lease_duration, self._demote_latest)
        self._demote_by = max(self._demote_by, end)

    def promoted(self) -> None:
        """All that a leader needs is up."""
        self.failed_promotions = 0
        if self.phase is Phase.PROMOTING:
            self.phase = Phase.LEADING
            self._renew_now = True  # says at once that it leads

    def promotion_failed(self, reason: str) -> None:
        """Something that a leader needs did not come up."""
        self.failed_promotions += 1
        self._end(reason, Reason.PROMOTION_FAILED)

    def session_lost(self, now: float, reason: str) -> None:
        """The session ended, or its last statement's outcome is unknown."""
        self._session = False
        if self.phase is Phase.CONTENDING:
            self.phase = Phase.OFFLINE
            self._retry_at = self._backoff.next_at(now)
        elif self.phase in (Phase.PROMOTING, Phase.LEADING):
            self.lost_unasked |= self._end_term is None
            self._end(reason, Reason.SESSION_LOST)

    def demoted(self) -> None:
        """Everything that the term started has ended."""
        self._demoted = True

    def released(self, now: float) -> None:
        """Session and lock are gone."""
        planned = self._session  # then others have a poll interval
        self._session = False
        self.phase = Phase.OFFLINE
        if planned:
            self._retry_at = now + self.timings.poll_interval
        else:
            self._retry_at = self._backoff.next_at(now)

    # -- what is wanted --------------------------------------------------

    def _end(self, why: str, reason: Reason) -> None:
        """The term has to end; what was said first holds."""
        if self._end_term is None:
            self._end_term, self.reason = why, reason

    def step_down(
        self, why: str, reason: Reason = Reason.STEPPED_DOWN
    ) -> None:
        """Give up leadership. Does nothing on a follower."""
        if self.phase in (Phase.PROMOTING, Phase.LEADING):
            self._end(why, reason)

    def suspend(self, why: str) -> None:
        """Give up leadership, and do not contend for now."""
        self._suspended = True
        self.step_down(why, Reason.STATE_FAILED)

    def resume(self) -> None:
        """Contend again."""
        self._suspended = False

    def renew_now(self) -> None:
        """Prove that the lock is held before the next renewal is due."""
        self._renew_now = True

    def withdraw(self) -> None:
        """Never contend again. A term that is announced goes on."""
        self._withdrawn = True
        if self.phase is Phase.PROMOTING:
            self.step_down("no longer contending", Reason.STOPPED)

    def quit(self) -> None:
        """Never contend again, and give up leadership."""
        self._withdrawn = True
        self.step_down("stopping", Reason.STOPPED)

    # -- what to do ------------------------------------------------------

    def decide(self, now: float, promoting: bool = False) -> Step:
        """The next step.

        :param now: seconds of the lease clock.
        :param promoting: the promotion has been started already.
        """
        if self.phase is Phase.OFFLINE:
            return self._decide_offline(now)
        if self.phase is Phase.CONTENDING:
            if self._withdrawn or self._suspended:
                return Step(Do.RELEASE)
            if self.leads_never:
                if now < self._look_at:
                    return Step(Do.REST, self._look_at - now)
                return Step(Do.LOOK)
            if now < min(self._look_at, self._lock_delay_until):
                return Step(Do.REST, self._look_at - now)
            if now < self._lock_delay_until:
                return Step(Do.LOOK)
            if now < self._yield_until:
                return Step(Do.REST, self._yield_until - now)
            return Step(Do.WAIT if self._tried else Do.TRY)
        if self.phase in (Phase.PROMOTING, Phase.LEADING):
            return self._decide_holding(now, promoting)
        if self.phase is Phase.DEMOTING:
            return self._decide_demoting(now)
        return Step(Do.STOP)

    def _decide_offline(self, now: float) -> Step:
        if self._withdrawn or self.gave_up:
            self.phase = Phase.STOPPED
            return Step(Do.STOP)
        if self._suspended:
            return Step(Do.REST)
        if now < self._retry_at:
            return Step(Do.REST, self._retry_at - now)
        return Step(Do.CONNECT)

    def _decide_holding(self, now: float, promoting: bool) -> Step:
        if self._end_term is None and now >= self.trusted_until:
            silence = now - self._sent_at
            self._session = False
            self.lost_unasked = True
            self._end(
                f"lease expired: no answer for {silence:.1f} s",
                Reason.LEASE_EXPIRED,
            )
        if self._end_term is not None:
            # After a pause of the process, its share of time begins here.
            self._demote_by = max(
                self._sent_at + self.timings.lease_duration,
                now + self.timings.demote_within,
            )
            self._demote_latest = now + LONGEST_DEMOTION
            self.phase = Phase.DEMOTING
            return Step(Do.DEMOTE, self._demote_by - now, self._end_term)
        if self.phase is Phase.PROMOTING and not promoting:
            return Step(Do.PROMOTE)
        renew_at = self._sent_at + self.timings.renew_every
        if now >= renew_at or self._renew_now:
            return Step(Do.RENEW, self.trusted_until - now)
        return Step(Do.REST, renew_at - now)

    def _decide_demoting(self, now: float) -> Step:
        if self._demoted:
            return Step(Do.RELEASE)
        if now >= self._demote_by:
            self._demote_by = float("inf")
            return Step(Do.OVERDUE)
        if self._demote_by == float("inf"):
            # Overdue, and reported: the lease may run out.
            return Step(Do.REST)
        # The lock stays ours until the last action has ended.
        wake_at = self._demote_by
        if self._session and now < self.trusted_until:
            renew_at = self._sent_at + self.timings.renew_every
            if now >= renew_at:
                return Step(Do.RENEW, self.trusted_until - now)
            wake_at = min(wake_at, renew_at)
        return Step(Do.REST, wake_at - now)
