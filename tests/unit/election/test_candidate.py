"""What a candidate decides, in each phase and when a phase is interrupted."""

from __future__ import annotations

import pytest

from ansible_rulebook.ha.election.candidate import (
    FIRST_BACKOFF,
    FIRST_LOOK,
    GIVE_UP_AFTER,
    LAST_LOOK,
    LONGEST_DEMOTION,
    Backoff,
    Candidate,
    Do,
    Phase,
    Step,
)
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.lock_delay import LockDelay, ServerLife

POLL = 3.0
LEASE = 9.0  # so: trusted for 6, renewed every 3, 3 left to demote
TRUST = 6.0
# Nobody who reads a clock of his own gets a figure near this one.
T0 = 7_654_321.0


def offline() -> Candidate:
    return Candidate(Timings(POLL, LEASE), jitter=lambda: 0.5)


def contending() -> Candidate:
    one = offline()
    assert one.decide(T0).do is Do.CONNECT
    one.connected(one.timings)
    return one


def promoting(sent_at: float = T0) -> Candidate:
    one = contending()
    assert one.decide(T0).do is Do.TRY
    one.proved(sent_at)
    assert one.decide(T0) == Step(Do.PROMOTE)
    return one


def leading(sent_at: float = T0) -> Candidate:
    one = promoting(sent_at)
    one.promoted()
    assert one.phase is Phase.LEADING
    one.proved(sent_at)  # which says to everybody that it leads
    return one


def demoting(sent_at: float = T0, lost: bool = False) -> Candidate:
    one = leading(sent_at)
    if lost:
        one.session_lost(sent_at, "gone")
    else:
        one.step_down("asked to")
    assert decide(one, sent_at).do is Do.DEMOTE
    return one


def decide(one: Candidate, now: float) -> Step:
    """Decide as the loop does once the promotion has been started."""
    return one.decide(now, promoting=True)


HOLDING = pytest.mark.parametrize(
    "holding", [promoting, leading], ids=["promoting", "leading"]
)


# -- the way up ----------------------------------------------------------


def test_the_way_from_offline_to_leading_and_back():
    one = offline()
    assert repr(one) == "<Candidate offline>"
    assert one.decide(T0) == Step(Do.CONNECT)
    one.connected(one.timings)
    assert repr(one) == "<Candidate contending>"
    assert one.decide(T0) == Step(Do.TRY)
    one.not_locked()
    assert one.decide(T0) == Step(Do.WAIT)
    one.not_locked()
    assert one.decide(T0 + 100) == Step(Do.WAIT)
    one.proved(T0 + 101)
    assert repr(one) == "<Candidate promoting>"
    assert one.decide(T0 + 101) == Step(Do.PROMOTE)
    one.promoted()
    assert repr(one) == "<Candidate leading>"
    assert decide(one, T0 + 101) == Step(Do.RENEW, 6.0)
    one.proved(T0 + 101)
    assert decide(one, T0 + 102) == Step(Do.REST, 2.0)
    one.step_down("asked to")
    assert decide(one, T0 + 102).do is Do.DEMOTE
    assert repr(one) == "<Candidate demoting>"
    one.demoted()
    assert decide(one, T0 + 103) == Step(Do.RELEASE)
    one.released(T0 + 103)
    assert repr(one) == "<Candidate offline>"


def test_deciding_twice_changes_nothing_while_nothing_happens():
    for one in (offline(), contending(), promoting(), leading()):
        phase = one.phase
        assert one.decide(T0) == one.decide(T0)
        assert one.phase is phase


def test_the_server_may_shorten_the_lease_of_each_session():
    one = offline()
    one.connected(one.timings.shortened(3.0))
    one.proved(T0)
    assert one.trusted_until == T0 + 2.0
    assert decide(one, T0) == Step(Do.REST, 1.0)


def test_the_promotion_is_started_once():
    one = promoting()
    assert decide(one, T0 + 1) == Step(Do.REST, 2.0)
    assert one.phase is Phase.PROMOTING


def test_a_promotion_that_ends_after_the_term_does_not_lead():
    one = promoting()
    one.session_lost(T0 + 1, "gone")
    assert decide(one, T0 + 1).do is Do.DEMOTE
    one.promoted()
    assert one.phase is Phase.DEMOTING


# -- the lease -----------------------------------------------------------


@HOLDING
def test_renewals_are_counted_from_when_they_were_sent(holding):
    one = holding(T0)
    assert decide(one, T0 + 2.9).do is Do.REST
    assert decide(one, T0 + 3.0) == Step(Do.RENEW, 3.0)
    one.proved(T0 + 3.0)  # whenever that answer came
    assert one.trusted_until == T0 + 9.0
    assert decide(one, T0 + 5.5) == Step(Do.REST, 0.5)
    assert decide(one, T0 + 6.0) == Step(Do.RENEW, 3.0)


@HOLDING
def test_a_late_renewal_is_awaited_only_as_long_as_the_lock_is_trusted(
    holding,
):
    one = holding(T0)
    assert decide(one, T0 + 5.75) == Step(Do.RENEW, 0.25)


@HOLDING
def test_trust_ends_at_its_very_last_instant_and_not_later(holding):
    one = holding(T0)
    assert decide(one, T0 + 5.999).do is Do.RENEW
    step = decide(one, T0 + TRUST)
    assert step.do is Do.DEMOTE
    assert "lease expired" in step.reason
    assert step.seconds == pytest.approx(LEASE - TRUST)


def test_a_proof_that_took_longer_than_the_trust_promotes_nobody():
    one = contending()
    one.proved(T0)
    assert one.decide(T0 + TRUST).do is Do.DEMOTE


def test_a_paused_process_is_fenced_and_gets_its_share_to_demote():
    one = leading(T0)
    step = decide(one, T0 + 500)
    assert step.do is Do.DEMOTE
    assert step.seconds == pytest.approx(LEASE / 3)
    assert decide(one, T0 + 500 + 2.9).do is Do.REST
    assert decide(one, T0 + 500 + 3.0).do is Do.OVERDUE


def test_nothing_is_renewed_once_the_lease_has_expired():
    one = leading(T0)
    assert decide(one, T0 + TRUST).do is Do.DEMOTE
    assert decide(one, T0 + TRUST + 0.5) == Step(Do.REST, 2.5)


def test_the_poll_interval_renews_earlier_than_a_third_of_the_lease():
    one = Candidate(Timings(1.0, 9.0))
    one.connected(one.timings)
    one.proved(T0)
    assert decide(one, T0) == Step(Do.REST, 1.0)


# -- the session is lost -------------------------------------------------


@HOLDING
def test_a_lost_session_ends_the_term_at_once(holding):
    one = holding(T0)
    one.session_lost(T0 + 1, "the server said goodbye")
    step = decide(one, T0 + 1)
    assert step.do is Do.DEMOTE
    assert step.reason == "the server said goodbye"


def test_after_a_lost_session_the_next_one_is_opened_at_once():
    one = demoting(T0, lost=True)
    one.demoted()
    assert decide(one, T0 + 1) == Step(Do.RELEASE)
    one.released(T0 + 1)
    assert one.decide(T0 + 1) == Step(Do.CONNECT)


def test_a_contender_that_lost_its_session_reconnects_at_once():
    one = contending()
    one.not_locked()
    one.session_lost(T0, "gone")
    assert one.phase is Phase.OFFLINE
    assert one.decide(T0) == Step(Do.CONNECT)


def test_a_session_lost_while_demoting_does_not_cut_the_demotion_short():
    one = demoting(T0)
    one.session_lost(T0 + 1, "gone")
    assert decide(one, T0 + 1).do is Do.REST
    assert one.phase is Phase.DEMOTING
    one.demoted()
    assert decide(one, T0 + 2) == Step(Do.RELEASE)


def test_a_session_lost_while_demoting_is_renewed_no_more():
    one = demoting(T0)
    one.session_lost(T0 + 1, "gone")
    assert decide(one, T0 + 4).do is Do.REST


def test_what_ended_the_term_first_is_the_reason():
    one = leading(T0)
    one.step_down("asked to")
    one.session_lost(T0, "gone")
    one.quit()
    assert decide(one, T0).reason == "asked to"


def test_a_session_that_ends_after_its_first_answer_is_not_reopened_hotly():
    # A server that answers the first question and then fails each time.
    one = offline()
    waits = []
    for _ in range(6):
        now = T0
        step = one.decide(now)
        if step.do is Do.REST:
            now += step.seconds
            waits.append(step.seconds)
            step = one.decide(now)
        assert step.do is Do.CONNECT
        one.connected(one.timings)
        one.not_locked()
        one.session_lost(T0, "language plpgsql is not trusted here")
    assert len(waits) == 4  # the first retry is immediate
    assert waits == sorted(waits)


def test_a_term_that_ends_at_once_each_time_is_not_retried_hotly():
    one = offline()
    waits = []
    for _ in range(4):
        step = one.decide(T0)
        waits.append(step.seconds or 0.0)
        one.decide(T0 + waits[-1])
        one.connected(one.timings)
        one.proved(T0)
        one.session_lost(T0, "gone")
        assert decide(one, T0).do is Do.DEMOTE
        one.demoted()
        one.released(T0)
    assert waits[0] == 0.0
    assert waits[-1] > 0.0


# -- another life of the server ------------------------------------------

FIRST = ServerLife("monday", "a/1")
RESTARTED = ServerLife("tuesday", "a/1")
PROMOTED = ServerLife("monday", "a/2")
NOT_TOLD = ServerLife("tuesday", "")
GOES_FIRST = float("-inf")


@pytest.mark.parametrize("life", [RESTARTED, PROMOTED, NOT_TOLD])
def test_who_did_not_lead_leaves_the_lock_to_others_for_one_lease(
    life: ServerLife,
) -> None:
    delay = LockDelay()
    assert delay.until(FIRST, T0, LEASE) == GOES_FIRST
    until = delay.until(life, T0 + 1.0, LEASE)
    assert until == T0 + 1.0 + LEASE


def test_a_life_that_was_met_before_does_not_begin_again() -> None:
    delay = LockDelay()
    delay.until(FIRST, T0, LEASE)
    until = delay.until(PROMOTED, T0 + 1, LEASE)
    assert delay.until(FIRST, T0 + 2, LEASE) == GOES_FIRST
    assert delay.until(PROMOTED, T0 + 3, LEASE) == until


def test_only_a_durable_claim_tells_that_there_was_no_other() -> None:
    delay = LockDelay()
    delay.until(FIRST, T0, LEASE)
    until = delay.until(RESTARTED, T0 + 1.0, LEASE, led_last=True)
    assert until == GOES_FIRST


def meets(one: Candidate, life: ServerLife, now: float) -> float:
    assert one.decide(now).do is Do.CONNECT
    return one.connected(one.timings.shortened(3.0), now, life)


def test_the_lock_delay_is_spent_looking_and_ends() -> None:
    one = offline()
    assert meets(one, FIRST, T0) == 0
    one.session_lost(T0, "restarted")
    # The lease that everybody was given, not what this server makes of it.
    assert meets(one, RESTARTED, T0) == LEASE
    now, end, pauses = T0, T0 + LEASE, []
    while one.decide(now) == Step(Do.LOOK):
        one.looked(now, held=False)
        step = one.decide(now)
        assert step.do is Do.REST
        assert step.seconds is not None
        pauses.append(step.seconds)
        now += step.seconds
    assert now == pytest.approx(end)
    assert one.decide(now + 1e-6) == Step(Do.TRY)
    assert pauses[0] == pytest.approx(FIRST_LOOK)
    assert max(pauses) == pytest.approx(LAST_LOOK)


def test_a_leader_in_the_new_life_ends_the_lock_delay() -> None:
    one = offline()
    meets(one, FIRST, T0)
    one.session_lost(T0, "restarted")
    meets(one, RESTARTED, T0)
    assert one.decide(T0) == Step(Do.LOOK)
    one.looked(T0, held=True)
    assert one.decide(T0) == Step(Do.WAIT)


def test_who_stands_back_can_lose_its_session_and_leave() -> None:
    one = offline()
    meets(one, FIRST, T0)
    one.session_lost(T0, "restarted")
    meets(one, RESTARTED, T0)
    one.looked(T0, held=False)
    one.session_lost(T0, "gone")
    assert one.decide(T0).do is Do.REST
    assert meets(one, RESTARTED, T0 + POLL) == LEASE - POLL
    assert one.decide(T0 + POLL) == Step(Do.LOOK), "it still does"
    one.withdraw()
    assert one.decide(T0 + POLL) == Step(Do.RELEASE)


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("told", [True, False])
def test_the_last_leader_goes_first_if_it_can_prove_that(
    told: bool, claimed: bool
) -> None:
    one = offline()
    meets(one, FIRST, T0)
    one.decide(T0)
    one.proved(T0)
    one.promoted()
    at = T0 + TRUST
    if told:
        at = T0
        one.session_lost(at, "restarted")
    assert one.decide(at).do is Do.DEMOTE
    one.demoted()
    one.session_lost(at, "if it was not before")
    one.released(at)
    assert one.decide(at).do is Do.CONNECT
    seconds = one.connected(one.timings, at, RESTARTED, claimed)
    assert seconds == (0 if claimed else LEASE)
    assert one.decide(at).do is (Do.TRY if claimed else Do.LOOK)


# -- a wish to end -------------------------------------------------------


@pytest.mark.parametrize("make", [offline, contending])
def test_step_down_has_no_effect_on_who_does_not_lead(make):
    one = make()
    before = one.decide(T0)
    one.step_down("asked to")
    assert one.decide(T0) == before
    one.connected(one.timings)
    one.proved(T0)
    assert one.decide(T0) == Step(Do.PROMOTE)


@HOLDING
def test_step_down_demotes_and_keeps_the_lock_until_demoted(holding):
    one = holding(T0)
    one.step_down("asked to")
    assert decide(one, T0) == Step(Do.DEMOTE, LEASE, "asked to")
    assert decide(one, T0 + 1).do is Do.REST
    assert decide(one, T0 + 3) == Step(Do.RENEW, 3.0)
    one.proved(T0 + 3)
    assert one.phase is Phase.DEMOTING
    assert decide(one, T0 + 6).do is Do.RENEW
    one.demoted()
    assert decide(one, T0 + 6) == Step(Do.RELEASE)


def test_after_a_step_down_the_others_go_first():
    one = demoting(T0)
    one.demoted()
    one.released(T0 + 1)
    assert one.decide(T0 + 1) == Step(Do.REST, POLL)
    assert one.decide(T0 + 1 + POLL) == Step(Do.CONNECT)


def test_stop_while_offline_connects_no_more():
    one = offline()
    one.unreachable(T0)
    one.unreachable(T0)
    assert one.decide(T0).do is Do.REST
    one.quit()
    assert one.decide(T0) == Step(Do.STOP)
    assert one.decide(T0) == Step(Do.STOP)
    assert one.phase is Phase.STOPPED


@pytest.mark.parametrize("tried", [False, True])
def test_stop_while_contending_leaves_without_the_lock(tried):
    one = contending()
    if tried:
        one.not_locked()
    one.quit()
    assert one.decide(T0) == Step(Do.RELEASE)
    one.released(T0)
    assert one.decide(T0) == Step(Do.STOP)


def test_stop_while_the_lock_query_is_under_way_leads_no_more():
    one = contending()
    assert one.decide(T0).do is Do.TRY
    one.quit()
    one.proved(T0)  # the answer to the query crossed with the stop
    step = one.decide(T0)
    assert (step.do, step.reason) == (Do.DEMOTE, "no longer contending")
    one.demoted()
    assert one.decide(T0) == Step(Do.RELEASE)
    one.released(T0)
    assert one.decide(T0) == Step(Do.STOP)


def test_who_withdraws_goes_on_with_the_term_and_begins_no_other():
    one = leading(T0)
    one.withdraw()
    assert decide(one, T0 + 1).do is Do.REST
    assert decide(one, T0 + 3).do is Do.RENEW
    one.proved(T0 + 3)
    assert one.phase is Phase.LEADING
    one.session_lost(T0 + 4, "gone")
    assert decide(one, T0 + 4).do is Do.DEMOTE
    one.demoted()
    one.released(T0 + 4)
    assert one.decide(T0 + 4) == Step(Do.STOP)


@pytest.mark.parametrize("make", [offline, contending, promoting])
def test_who_withdraws_before_the_term_is_announced_never_leads(make):
    one = make()
    one.withdraw()
    step = decide(one, T0)
    if step.do is Do.DEMOTE:
        assert one.in_session
        one.demoted()
        step = decide(one, T0)
    if step.do is Do.RELEASE:
        one.released(T0)
        step = decide(one, T0)
    assert step == Step(Do.STOP)
    assert not one.in_session


def test_stop_while_a_session_is_being_opened_gives_it_back():
    one = offline()
    assert one.decide(T0).do is Do.CONNECT
    one.quit()
    one.connected(one.timings)
    assert one.decide(T0) == Step(Do.RELEASE)


@HOLDING
def test_stop_while_holding_demotes_before_it_releases(holding):
    one = holding(T0)
    one.quit()
    assert decide(one, T0).do is Do.DEMOTE
    assert decide(one, T0).do is Do.REST
    one.demoted()
    assert decide(one, T0) == Step(Do.RELEASE)
    one.released(T0)
    assert one.decide(T0) == Step(Do.STOP)


def test_stop_while_demoting_waits_for_the_demotion():
    one = demoting(T0)
    one.quit()
    assert decide(one, T0).do is Do.REST
    one.demoted()
    one.released(T0)
    assert one.decide(T0) == Step(Do.STOP)


# -- demotion ------------------------------------------------------------


def test_an_overdue_demotion_is_said_once_and_still_awaited():
    one = leading(T0)
    assert decide(one, T0 + TRUST).do is Do.DEMOTE
    assert decide(one, T0 + LEASE) == Step(Do.OVERDUE)
    assert decide(one, T0 + LEASE) == Step(Do.REST)
    one.demoted()
    assert decide(one, T0 + LEASE + 50) == Step(Do.RELEASE)


def test_a_demotion_that_keeps_its_lock_may_take_longer_than_a_lease():
    # Nobody else can lead meanwhile; but it must not go on for ever.
    one = demoting(T0)
    now = T0
    while True:
        step = decide(one, now)
        if step.do is Do.RENEW:
            one.proved(now)
        elif step.do is Do.REST:
            now += step.seconds
        else:
            break
    assert step == Step(Do.OVERDUE)
    assert now == T0 + LONGEST_DEMOTION
    assert LONGEST_DEMOTION > 2 * LEASE
    # Who hangs for ever must not keep the lock for ever.
    assert decide(one, now) == Step(Do.REST)
    assert decide(one, now + LEASE) == Step(Do.REST)


def test_a_demotion_without_its_session_is_overdue_with_the_lease():
    one = demoting(T0)
    assert decide(one, T0 + 3).do is Do.RENEW
    one.proved(T0 + 3)
    one.session_lost(T0 + 4, "gone")
    assert decide(one, T0 + 11.9).do is Do.REST
    assert decide(one, T0 + 3 + LEASE) == Step(Do.OVERDUE)


def test_a_lease_that_expires_while_demoting_is_renewed_no_more():
    one = demoting(T0)
    assert decide(one, T0 + TRUST) == Step(Do.REST, LEASE - TRUST)


def test_the_end_of_one_demotion_does_not_release_the_next_term():
    one = demoting(T0, lost=True)
    one.demoted()
    one.released(T0)
    one.connected(one.timings)
    one.proved(T0 + 1)
    one.promoted()
    one.step_down("asked to")
    assert decide(one, T0 + 1).do is Do.DEMOTE
    assert decide(one, T0 + 1).do is Do.REST


def test_a_session_lost_just_before_the_lease_ends_leaves_its_third():
    one = leading(T0)
    one.session_lost(T0 + 5.5, "gone")
    step = decide(one, T0 + 5.5)
    assert step.seconds == pytest.approx(LEASE - 5.5)


# -- promotions that fail ------------------------------------------------


def fail_a_promotion(one: Candidate, now: float) -> None:
    one.promotion_failed("no JVM")
    step = decide(one, now)
    assert (step.do, step.reason) == (Do.DEMOTE, "no JVM")
    one.demoted()
    assert decide(one, now) == Step(Do.RELEASE)
    one.released(now)


def test_a_promotion_that_failed_lets_the_others_go_first():
    one = promoting(T0)
    fail_a_promotion(one, T0)
    assert not one.gave_up
    assert one.decide(T0) == Step(Do.REST, POLL)


def test_three_failed_promotions_in_a_row_are_the_end():
    one = promoting(T0)
    for tries in range(1, GIVE_UP_AFTER):
        fail_a_promotion(one, T0)
        assert (one.failed_promotions, one.gave_up) == (tries, False)
        assert one.decide(T0 + POLL).do is Do.CONNECT
        one.connected(one.timings)
        one.proved(T0)
    fail_a_promotion(one, T0)
    assert one.gave_up
    assert one.decide(T0) == Step(Do.STOP)


def test_a_promotion_that_succeeds_forgives_those_that_failed():
    one = promoting(T0)
    fail_a_promotion(one, T0)
    one.connected(one.timings)
    one.proved(T0)
    one.promoted()
    assert one.failed_promotions == 0


def test_a_term_lost_while_promoting_is_no_failed_promotion():
    one = promoting(T0)
    one.session_lost(T0, "gone")
    assert decide(one, T0).do is Do.DEMOTE
    assert one.failed_promotions == 0


def test_the_reason_of_one_term_does_not_end_the_next():
    one = promoting(T0)
    fail_a_promotion(one, T0)
    one.connected(one.timings)
    one.proved(T0)
    assert one.decide(T0) == Step(Do.PROMOTE)


# -- backoff -------------------------------------------------------------


def delays(backoff: Backoff, count: int) -> list[float]:
    return [backoff.next_at(T0) - T0 for _ in range(count)]


def test_the_first_retry_is_immediate_and_the_others_are_not():
    first, second, third, *_ = delays(Backoff(5.0, lambda: 0.9999), 5)
    assert first == 0
    assert second == pytest.approx(FIRST_BACKOFF, rel=0.01)
    assert third == pytest.approx(2 * FIRST_BACKOFF, rel=0.01)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.9999])
def test_delays_never_exceed_the_poll_interval_nor_vanish(jitter):
    found = delays(Backoff(5.0, lambda: jitter), 2000)[1:]
    assert max(found) <= 5.0
    assert min(found) > 0
    assert found[-1] >= 0.5


def test_two_workers_do_not_come_back_in_step():
    assert delays(Backoff(5.0), 20)[1:] != delays(Backoff(5.0), 20)[1:]


def test_an_answer_of_the_server_starts_the_backoff_anew():
    backoff = Backoff(5.0, lambda: 0.5)
    delays(backoff, 10)
    backoff.reset()
    assert backoff.next_at(T0) == T0


def test_an_outage_backs_off_up_to_the_poll_interval():
    one = offline()
    for _ in range(20):
        one.unreachable(T0)
    step = one.decide(T0)
    assert step.do is Do.REST
    assert POLL / 10 <= step.seconds <= POLL


def test_a_session_that_lasts_ends_the_outage():
    one = offline()
    for _ in range(20):
        one.unreachable(T0)
    assert one.decide(T0 + POLL).do is Do.CONNECT
    one.connected(one.timings)
    one.not_locked()  # to the try
    one.not_locked()  # to the wait
    one.session_lost(T0 + 60, "gone")
    assert one.decide(T0 + 60) == Step(Do.CONNECT)
