"""One worker's part in the election: the loop that does the I/O."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import Any, Callable

from ..errors import (
    HaError,
    PromotionFailed,
    ServerRefused,
    ServerUnavailable,
    SessionLost,
)
from . import clock as lease_clock
from . import priority as priorities
from .beacon import Beacon
from .candidate import Candidate, Do, Phase, Step
from .cause import Cause
from .confirmations import Confirmations
from .election_log import ElectionLog
from .hearing import Hearing
from .lease import Timings
from .lock import AdvisoryLock
from .namesakes import NamesakeWatch
from .observer import Observer, SafeObserver, View
from .reasons import Reason
from .requests import Request
from .session import LockSession
from .term import Term
from .transitions import OnDemotion, OnPromotion, Transitions
from .witness import Witness

LOOK_EVERY = 1.0  # seconds, at most, between two looks at the lease's clock
# Seconds for which the session of a leader that gave the lock up stays open,
# so that the next one can read why.
LAST_WORD = 0.3


class Elector:
    """Has one worker take part in the election on one lock.

    Everything belongs to the event loop that it is made in (a running one:
    Python 3.9 binds events to it), but
    :meth:`is_leader` may be asked from any thread. A callback that blocks
    the loop blocks the renewal of the lease, too.

    :param lock: what to contend for.
    :param log: says what happens; the one that :func:`.check_server` had.
    :param claims_terms: see :meth:`.AdvisoryLock.open`.
    :param about: what this worker says of itself, but for its role.
    :param on_outranked: called with what the leader says of itself if this
        worker has a higher priority and has been ready for long enough.
    :param observer: told what happens.
    :param clock: seconds that never step back.

    The callbacks are those of :class:`.LeaderElection`.
    """

    def __init__(
        self,
        lock: AdvisoryLock,
        log: ElectionLog,
        *,
        on_promotion: OnPromotion | None = None,
        on_demotion: OnDemotion | None = None,
        on_renewal: Callable[[Term], None] | None = None,
        on_overdue: Callable[[], None] | None = None,
        on_request: Callable[[Request], None] | None = None,
        on_outranked: Callable[[Beacon], None] | None = None,
        claims_terms: bool = False,
        about: Beacon | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = lease_clock.now,
    ) -> None:
        self.ha_uuid = lock.ha_uuid
        self.worker_id = lock.worker_id
        self.shutdown_event = asyncio.Event()
        self._lock = lock
        self._log = log
        self._on_renewal = on_renewal
        self._on_overdue = on_overdue
        self._on_request = on_request
        self._claims_terms = claims_terms
        self._clock = clock
        self._wake = asyncio.Event()
        self._about = about or Beacon(worker=lock.worker_id)
        priority = self._about.priority
        self._candidate = Candidate(
            lock.timings, leads_never=priority == priorities.NEVER
        )
        self._preference = priorities.Preference(priority)
        self._on_outranked = on_outranked
        self._observer = SafeObserver(observer or Observer())
        self._transitions = Transitions(
            self._candidate,
            log,
            on_promotion,
            on_demotion,
            self._wake.set,
            self._observer,
            clock,
        )
        self.leader_event = self._transitions.leader_event
        self.follower_event = self._transitions.follower_event
        self._confirmations = Confirmations()
        self._namesakes = NamesakeWatch(lock, log)
        self._hearing = Hearing(lock, log, self._grant)
        self._session: LockSession | None = None
        self._terms = 0
        self._witness = Witness(lock.worker_id)
        self._cause = Cause()
        self._why_over = ""
        self._closing: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # no term, and none being ended
        self._settled.set()
        self._leaving = asyncio.Event()

    def __repr__(self) -> str:
        phase = self._candidate.phase.value
        return f"<{type(self).__name__} {self.worker_id!r} {phase}>"

    # -- for users -------------------------------------------------------

    def is_leader(self) -> bool:
        """Whether this worker leads at this very instant.

        Ask before each thing that only a leader may do. ``leader_event``
        can be waited for, but a process that was paused sees it a moment
        late. This compares the clock with the lease.
        """
        return self._transitions.is_leader()

    @property
    def term(self) -> Term | None:
        """The term that this worker is in, promotion included."""
        return self._transitions.term

    @property
    def timings(self) -> Timings:
        """Poll interval and lease, as the server allows them."""
        return self._candidate.timings

    def view(self) -> View:
        """What this worker sees of the election now. For any thread."""
        term, confirmed_at = self.term, self._candidate.confirmed_at
        ago = self._clock() - confirmed_at
        return View(
            self._candidate.phase.value,
            0 if term is None else term.number,
            self._transitions.since,
            self.is_leader(),
            self._candidate.in_session,
            self._leader(),
            self.timings.lease_duration,
            time.time() - ago if math.isfinite(ago) else None,
            self._pause(),
        )

    def _leader(self) -> str:
        holder = self._witness.holder
        if holder is None or self._transitions.is_announced:
            return self._log.leader
        return "" if holder.is_pause else holder.worker

    def _pause(self) -> Beacon | None:
        holder = self._witness.holder
        if holder is None or not holder.is_pause or self.term is not None:
            return None
        said = holder.said or Beacon()
        return said._replace(worker=holder.worker)

    async def step_down(self) -> None:
        """Give up leadership (a switchover) and wait until it is given up.

        This worker contends again after one poll interval, so that another
        one can lead. Does nothing on a follower.
        """
        self.request_step_down()
        await self._settled.wait()

    def request_step_down(
        self,
        why: str = "stepped down",
        reason: Reason = Reason.STEPPED_DOWN,
    ) -> None:
        """Give up leadership, without waiting. Does nothing on a follower.

        Call it in the election's loop.
        """
        self._candidate.step_down(why, reason)
        self._wake.set()

    def describe(self, about: Beacon) -> None:
        """Say this of itself from the next statement on."""
        self._about = about

    def contend(self) -> None:
        """Take part from now on. The server is not checked before."""
        self._task = asyncio.ensure_future(self._run())
        self._task.add_done_callback(lambda _: self.shutdown_event.set())

    async def confirm(self) -> bool:
        """Ask the server now whether this worker holds the lock.

        For what must not happen twice. :meth:`is_leader` costs nothing but
        relies on the machine's clock, which does not notice that a hypervisor
        has paused the machine.

        :returns: false if it does not, or if that cannot be known.
        """
        term = self.term
        if term is None or not term.is_current():
            return False
        answer = self._confirmations.add()
        self._candidate.renew_now()
        self._wake.set()
        return await answer

    def suspend(self, why: str) -> None:
        """Give up leadership, and do not contend until :meth:`resume`.

        Call it in the election's loop.
        """
        self._candidate.suspend(why)
        self._wake.set()

    def resume(self) -> None:
        """Contend again. Call it in the election's loop."""
        self._candidate.resume()
        self._wake.set()

    def withdraw(self) -> None:
        """Never contend again. A leader goes on until :meth:`stop`.

        Call it in the election's loop.
        """
        self._candidate.withdraw()
        self._leaving.set()
        self._wake.set()

    async def stop(self) -> None:
        """Demote if leading, give up the lock, disconnect. Idempotent.

        :raises HaError: what ended the election before it was stopped.
        """
        self.shutdown_event.set()
        self._candidate.quit()
        self._leaving.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.shield(self._task)

    # -- the loop --------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                if self.shutdown_event.is_set():
                    self._candidate.quit()  # a user may have set it
                if self.term is not None and self.term.seen_over:
                    # It was reported as over, so it must not go on.
                    await self._read_news()
                    self._candidate.step_down(
                        "the lease had ended", Reason.LEASE_EXPIRED
                    )
                step = self._candidate.decide(
                    self._clock(), self._transitions.has_promotion
                )
                if step.do is Do.STOP:
                    break
                await self._perform(step)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._log.critical("The election has failed", exc_info=True)
            raise
        finally:
            await self._clean_up()
        self._log.info("Stopped")
        if self._candidate.gave_up:
            raise PromotionFailed(
                f"promotion failed {self._candidate.failed_promotions} "
                "times in a row"
            )

    async def _perform(self, step: Step) -> None:
        if step.do is Do.CONNECT:
            await self._connect()
        elif step.do is Do.LOOK:
            await self._look()
        elif step.do is Do.TRY:
            await self._try_lock()
        elif step.do is Do.WAIT:
            await self._wait_lock()
        elif step.do is Do.PROMOTE:
            self._promote()
        elif step.do is Do.RENEW:
            await self._prove(step.seconds)
        elif step.do is Do.DEMOTE:
            self._demote(step.reason)
        elif step.do is Do.OVERDUE:
            self._overdue()
        elif step.do is Do.RELEASE:
            await self._release()
        else:
            await self._rest(step.seconds)

    async def _connect(self) -> None:
        opening = asyncio.ensure_future(self._lock.open(self._claims_terms))
        try:
            if await self._stopped_before(opening):
                opening.cancel()
                await asyncio.wait({opening})  # it closes what it has opened
                return
            self._session = opening.result()
        except (ServerRefused, ServerUnavailable) as error:
            self._say_outage(error)
            self._candidate.unreachable(self._clock())
            return
        finally:
            opening.cancel()
        seconds = self._candidate.connected(
            self._session.timings,
            self._clock(),
            self._session.life,
            self._session.led_last,
        )
        self._observer.connected()
        if seconds:
            self._log.lock_delay(seconds)
        self._namesakes.saw(
            self._session.namesakes, self._session.timings.lease_duration
        )

    async def _look(self) -> None:
        try:
            session = self._open_session()
            self._show(session)
            leader = await session.holder()
        except SessionLost as error:
            await self._lose_session(error)
            return
        self._saw(session)
        self._candidate.looked(self._clock(), leader is not None)
        if leader is not None:
            again = self._candidate.leads_never
            self._log.following(leader.label, again, not leader.is_pause)

    async def _try_lock(self) -> None:
        session = self._open_session()
        try:
            if await session.try_acquire():
                await self._won(session, has_waited=False)
                return
            leader = await session.holder()
        except SessionLost as error:
            await self._lose_session(error)
            return
        self._candidate.not_locked()
        self._saw(session)
        if leader is None:
            self._log.following(None)
        else:
            self._log.following(leader.label, leads=not leader.is_pause)

    async def _wait_lock(self) -> None:
        session = self._open_session()
        self._show(session)
        waiting = asyncio.ensure_future(session.wait_acquire())
        try:
            if await self._stopped_before(waiting):
                # Leave the queue: others must not wait behind this one.
                await session.cancel()
                session.abort()
            acquired = await waiting
        except SessionLost as error:
            await self._lose_session(error)
            return
        finally:
            waiting.cancel()
        if acquired:
            await self._won(session, has_waited=True)
        else:
            self._candidate.not_locked()
            self._saw(session)
            if session.seen is None or not session.seen.is_pause:
                self._log.was_led()
            self._compare(session)

    def _saw(self, session: LockSession) -> None:
        self._witness.saw(session.seen, self._clock(), session.life)

    def _compare(self, session: LockSession) -> None:
        """Have a leader of a lower priority asked to hand over."""
        seen, lease = session.seen, self.timings.lease_duration
        leader = None if seen is None else seen.said
        if self._preference.outranks(leader, self._clock(), lease):
            assert leader is not None
            if self._on_outranked is not None:
                self._on_outranked(leader)

    async def _won(self, session: LockSession, has_waited: bool) -> None:
        """Lead, unless another worker is nominated to.

        :param has_waited: another session had the lock until now.
        """
        sent_at = self._clock()  # before it is sent: the server counts later
        try:
            self._show(session)
            is_proved, is_for_another = await session.prove_won(self.worker_id)
            if not is_proved:
                raise SessionLost("the server does not confirm the lock")
            if is_for_another:
                await session.release()
                self._candidate.yielded(self._clock())
                self._log.info("Leaving the lead to the nominated worker")
                return
        except SessionLost as error:
            await self._lose_session(error)
            return
        self._cause = self._witness.won(
            session.last_word,
            sent_at,
            session.life,
            self.timings.lease_duration,
            has_waited,
        )
        if has_waited and self._cause.reason is not Reason.PAUSED:
            self._log.was_led(sent_at)  # until the lock was free
        self._candidate.proved(sent_at)

    async def _prove(self, timeout: float | None) -> None:
        session = self._open_session()
        asking = self._confirmations.take()
        sent_at = self._clock()  # before it is sent: the server counts later
        try:
            self._show(session)
            if not await session.prove(timeout):
                raise SessionLost("the server does not confirm the lock")
        except SessionLost as error:
            asking.answer(False)
            self._observer.renewal_failed()
            await self._lose_session(error)
            return
        self._candidate.proved(sent_at)
        asking.answer(True)
        self._observer.renewed(self._clock() - sent_at)
        if self.term is not None:
            self.term.renewed(self._candidate.trusted_until)
            if not self.term.seen_over:
                self._tell_renewal(self.term)

    def _promote(self) -> None:
        self._log.reachable()
        session = self._open_session()
        self._terms += 1
        term = Term(
            self._terms,
            self._candidate.trusted_until,
            session.is_over,
            self._clock,
            session.backend_pid,
            "" if session.life is None else session.life.lineage,
        )
        term.cause = self._cause
        self._settled.clear()
        self._hearing.begin(session.backend_pid)
        self._transitions.promote(term)
        self._tell_renewal(term)

    def _tell_renewal(self, term: Term) -> None:
        if self._on_renewal is not None:
            self._on_renewal(term)

    def _demote(self, reason: str) -> None:
        self._hearing.end()
        self._confirmations.answer(False)
        self._why_over = reason
        if self._transitions.is_announced:
            life = None if self._session is None else self._session.life
            self._witness.led(self._candidate.reason, life)
        self._transitions.demote(reason)

    def _overdue(self) -> None:
        self._log.critical("Demotion takes too long")
        if self._on_overdue is not None:
            self._on_overdue()

    async def _release(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            if self.term is not None and not session.is_over():
                session.beacon = self._last_word()
                with suppress(SessionLost):
                    await session.release()
                self._close_later(session)
            else:
                await session.close()
        self._transitions.forget()
        self._candidate.released(self._clock())
        self._settled.set()

    def _close_later(self, session: LockSession) -> None:
        async def close() -> None:
            try:
                await asyncio.sleep(LAST_WORD)
            finally:
                await session.close()

        closing = asyncio.ensure_future(close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _rest(self, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        if self.term is not None:
            # While a machine is suspended the loop's clock stands still.
            seconds = min(LOOK_EVERY, seconds or LOOK_EVERY)
        socket_fd = -1
        if self._session is not None and self._candidate.in_session:
            socket_fd = self._session.fileno()
            loop.add_reader(socket_fd, self._wake.set)
        # Not wait_for(): before Python 3.12 it can swallow a cancellation.
        alarm = None
        if seconds is not None:
            alarm = loop.call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if alarm is not None:
                alarm.cancel()
            if socket_fd >= 0:
                loop.remove_reader(socket_fd)
        self._wake.clear()
        await self._read_news()

    async def _read_news(self) -> None:
        if self._session is not None and self._candidate.in_session:
            try:
                self._session.drain()
            except SessionLost as error:
                await self._lose_session(error)

    # -- what others see and ask ---------------------------------------

    def _show(self, session: LockSession) -> None:
        """Say in the next statement how this worker is."""
        term = self.term
        leads = self._candidate.phase is Phase.LEADING
        said = self._about._replace(
            role="leader" if leads else "follower",
            state=self._candidate.phase.value,
            term=0 if term is None else term.number,
            since=self._transitions.since,
            lease=self.timings.lease_duration,
        )
        if leads and term is not None:
            said = said._replace(
                cause=term.cause.reason.value,
                replaces=term.cause.replaces,
                gap=-1.0 if term.gap is None else term.gap,
            )
        session.beacon = said.text()

    def _last_word(self) -> str:
        """What is said with the lock's release: why."""
        return self._about._replace(
            role="follower",
            state=self._candidate.phase.value,
            since=self._transitions.since,
            lease=self.timings.lease_duration,
            ended=self._candidate.reason.value,
            reason=self._why_over,
        ).text()

    def _grant(self, request: Request) -> None:
        if self._on_request is not None:
            self._on_request(request)
        else:
            self.request_step_down(request.why, request.kind)

    # -- parts of it -----------------------------------------------------

    def _open_session(self) -> LockSession:
        if self._session is None:
            raise HaError("no session is open")
        return self._session

    async def _lose_session(self, error: SessionLost) -> None:
        self._preference.lost_session()
        self._candidate.session_lost(self._clock(), f"session ended: {error}")
        if self._candidate.phase is Phase.OFFLINE:
            self._say_outage(error)
        if self.term is not None:
            return  # closing it could free the lock: first the demotion
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _stopped_before(self, task: asyncio.Task[Any]) -> bool:
        """Wait for ``task``; true if this worker leaves before it is done."""
        stop = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait(
                {task, stop}, return_when=asyncio.FIRST_COMPLETED
            )
            return not task.done()
        finally:
            stop.cancel()

    async def _clean_up(self) -> None:
        """End what a crash or a cancellation of the loop left over."""
        self._namesakes.cancel()
        if self.term is not None and not self._transitions.has_demotion:
            self._demote("the election has failed")
        if not await self._transitions.demoted_within(
            self.timings.demote_within
        ):
            self._overdue()
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._transitions.term = None
        self._settled.set()
        if self._closing:
            await asyncio.wait(self._closing)

    def _say_outage(self, error: Exception) -> None:
        stopping = self._leaving.is_set() or self.shutdown_event.is_set()
        self._log.outage(error, expected=stopping)
