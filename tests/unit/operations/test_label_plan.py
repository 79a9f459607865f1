"""What is done about the leader's label, decided without a server."""

from __future__ import annotations

import pytest

from ansible_rulebook.ha.operations.label_plan import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    LOOK_EVERY,
    LabelPlan,
    Step,
)


@pytest.fixture
def plan() -> LabelPlan:
    return LabelPlan()


@pytest.fixture
def leader(plan: LabelPlan) -> LabelPlan:
    """Has set its label and looked at the others, at 0."""
    assert plan.next(True, 0.0) is Step.SET
    plan.done(Step.SET, 0.0)
    assert plan.next(True, 0.0) is Step.LOOK
    plan.done(Step.LOOK, 0.0)
    return plan


def test_a_follower_clears_what_was_there_before_it_once(
    plan: LabelPlan,
) -> None:
    assert not plan.is_clear
    assert plan.next(False, 0.0) is Step.CLEAR
    plan.done(Step.CLEAR, 0.0)
    assert plan.is_clear
    assert plan.next(False, 1e6) is None


def test_a_leader_looks_again_from_time_to_time(leader: LabelPlan) -> None:
    assert leader.next(True, LOOK_EVERY - 0.1) is None
    assert leader.next(True, LOOK_EVERY) is Step.LOOK


def test_a_label_that_somebody_took_away_is_set_again(
    leader: LabelPlan,
) -> None:
    assert leader.next(True, LOOK_EVERY) is Step.LOOK
    leader.done(Step.LOOK, LOOK_EVERY, has_label=False)
    assert leader.next(True, LOOK_EVERY) is Step.SET


def test_an_end_of_the_lead_is_dealt_with_at_once(leader: LabelPlan) -> None:
    assert leader.next(False, 1.0) is Step.CLEAR
    leader.done(Step.CLEAR, 1.0)
    assert leader.next(True, 2.0) is Step.SET


def test_a_label_that_was_perhaps_set_is_cleared(plan: LabelPlan) -> None:
    plan.next(False, 0.0)
    plan.done(Step.CLEAR, 0.0)
    assert plan.next(True, 1.0) is Step.SET
    plan.failed(Step.SET, 1.0)
    assert not plan.is_clear
    assert plan.next(False, 1.0) is Step.CLEAR


def test_a_look_that_fails_leaves_the_own_label_as_it_is(
    leader: LabelPlan,
) -> None:
    leader.next(True, LOOK_EVERY)
    leader.failed(Step.LOOK, LOOK_EVERY)
    assert leader.next(True, LOOK_EVERY + LONGEST_PAUSE) is Step.LOOK


def test_pauses_grow_up_to_a_limit_and_end_with_success(
    plan: LabelPlan,
) -> None:
    now, pauses = 0.0, []
    for _ in range(9):
        assert plan.next(True, now) is Step.SET
        plan.failed(Step.SET, now)
        began = now
        while plan.next(True, now) is None:
            now += FIRST_PAUSE / 2
        pauses.append(now - began)
    assert pauses[0] == FIRST_PAUSE
    assert pauses == sorted(pauses) and pauses[-1] == LONGEST_PAUSE
    plan.done(Step.SET, now)
    plan.failed(Step.LOOK, now)
    assert plan.next(True, now + FIRST_PAUSE) is Step.LOOK


def test_a_change_of_role_waits_for_no_pause(plan: LabelPlan) -> None:
    for _ in range(9):
        plan.next(False, 0.0)
        plan.failed(Step.CLEAR, 0.0)
    assert plan.next(False, 1.0) is None
    assert plan.next(True, 1.0) is Step.SET
