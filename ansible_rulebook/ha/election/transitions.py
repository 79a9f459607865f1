"""How a term begins and ends, with all that runs in it."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Awaitable, Callable, TypeVar, Union

from ..errors import LeadershipLost, ServerUnavailable
from .candidate import Candidate, Phase
from .election_log import ElectionLog
from .observer import Observer
from .reasons import Reason
from .term import Term

T = TypeVar("T")
OnPromotion = Callable[[Term], Union[Awaitable[None], None]]
OnDemotion = Callable[[str], Union[Awaitable[None], None]]


class Transitions:
    """Promotes and demotes a worker, and sets the events that tell of it.

    Each transition is a task, since the lease is renewed meanwhile.

    :param candidate: is told how each transition ended.
    :param on_promotion: starts what a leader needs.
    :param on_demotion: ends everything that the term started.
    :param ended: called when a transition has ended.
    :param observer: told of each.
    :param clock: seconds that never step back.
    """

    def __init__(
        self,
        candidate: Candidate,
        log: ElectionLog,
        on_promotion: OnPromotion | None,
        on_demotion: OnDemotion | None,
        ended: Callable[[], None],
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self.leader_event = asyncio.Event()
        self.follower_event = asyncio.Event()
        self.follower_event.set()
        self.term: Term | None = None
        """The present term, until its demotion has ended."""
        self._candidate = candidate
        self._log = log
        self._on_promotion = on_promotion
        self._on_demotion = on_demotion
        self._ended = ended
        self._observer = observer
        self._clock = clock
        self._began = 0.0  # the promotion, on the clock
        self.since = time.time()
        """When this worker's role began, in seconds of the epoch."""
        self._announced = False
        self._promotion: asyncio.Task[None] | None = None
        self._demotion: asyncio.Task[None] | None = None

    def is_leader(self) -> bool:
        """Whether a term is current and announced."""
        term = self.term
        return term is not None and self._announced and term.is_current()

    @property
    def is_announced(self) -> bool:
        """Whether the present term is announced, and its end is not yet."""
        return self._announced

    @property
    def has_promotion(self) -> bool:
        """Whether the term's promotion has been started."""
        return self._promotion is not None

    @property
    def has_demotion(self) -> bool:
        """Whether the term's demotion has been started."""
        return self._demotion is not None

    def promote(self, term: Term) -> None:
        """Start what a leader needs, then announce the term."""
        self.term = term
        self._began = self._clock()
        self._promotion = asyncio.ensure_future(self._promote(term))
        self._promotion.add_done_callback(lambda _: self._ended())

    def demote(self, reason: str) -> None:
        """End the term, then everything that it started."""
        led, self._announced = self._announced, False
        if self.term is not None:
            self.term.end()
        self.leader_event.clear()
        self.follower_event.set()
        if led:
            self.since = time.time()
        if led and self.term is not None:
            unasked = self._candidate.lost_unasked
            confirmed_at = self._candidate.confirmed_at if unasked else None
            self._log.lost(self.term, reason, confirmed_at)
            self._observer.lost(self.term, self._candidate.reason)
        else:
            self._log.info("Not promoted", reason)
        self._demotion = asyncio.ensure_future(self._demote(reason))
        self._demotion.add_done_callback(lambda _: self._ended())

    async def demoted_within(self, seconds: float) -> bool:
        """Wait for a demotion that is under way.

        :returns: whether it ended in time; true if there is none.
        """
        if self._demotion is None:
            return True
        _, late = await asyncio.wait({self._demotion}, timeout=seconds)
        return not late

    def forget(self) -> None:
        """The lock is given up: ready for another term."""
        self.term = self._promotion = self._demotion = None

    async def _promote(self, term: Term) -> None:
        try:
            await _call(self._on_promotion, term)
        except (ServerUnavailable, LeadershipLost) as error:
            # An outage: the worker goes on to try, for as long as it takes.
            self._log.warning("Promotion failed", str(error))
            self._candidate.step_down(
                "promotion failed", Reason.PROMOTION_FAILED
            )
            return
        except Exception as error:
            self._log.exception("Promotion failed")
            self._candidate.promotion_failed(f"promotion failed: {error}")
            return
        except asyncio.CancelledError:
            # Not by a demotion, which would have changed the phase before.
            if self._candidate.phase is Phase.PROMOTING:
                self._candidate.promotion_failed("promotion was cancelled")
            raise
        if self._candidate.phase is not Phase.PROMOTING:
            return
        if not term.is_current():
            # After a late renewal, nothing else would announce the term.
            self._candidate.step_down(
                "the lease ended during promotion", Reason.LEASE_EXPIRED
            )
            return
        self._candidate.promoted()
        self._announced = True
        self.since = time.time()
        self.follower_event.clear()
        self.leader_event.set()
        term.gap = self._log.acquired(term)
        self._observer.acquired(term, term.gap, self._clock() - self._began)

    async def _demote(self, reason: str) -> None:
        try:
            if self._promotion is not None:
                self._promotion.cancel()
                await asyncio.wait({self._promotion})
            await _call(self._on_demotion, reason)
        except Exception:
            self._log.exception("Demotion failed")
        finally:
            # Cancelled, too: no candidate may be stuck with the lock.
            self._candidate.demoted()


async def _call(
    callback: Callable[[T], Union[Awaitable[None], None]] | None, value: T
) -> None:
    result = callback(value) if callback is not None else None
    if inspect.isawaitable(result):
        await result
