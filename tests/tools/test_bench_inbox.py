"""What is made of the logs of workers with an inbox."""

from __future__ import annotations

import pytest

pytest.importorskip("rich")

from bench.inbox import (
    CLIENTS,
    KINDS,
    LEADER,
    Act,
    Turn,
    acts_in,
    acts_of,
    delays_of,
    figures_of,
    goals_of,
)
from bench.poster import Posted
from rig.process import ProcessError

AT_RATE = "at a rate"


def turns(kind: str, group: str, began: float) -> Turn:
    """Two posts in a second, processed in two."""
    return Turn(kind, group, Posted(began, 1.0, [0.1, 0.2]), began + 5)


def all_turns() -> list[Turn]:
    groups = [f"{n} client{'s' if n > 1 else ''}" for n in CLIENTS]
    return [
        turns(kind, group, 100.0 * place + 10.0 * at)
        for place, kind in enumerate(KINDS)
        for at, group in enumerate([*groups, AT_RATE])
    ]


def acts(of: list[Turn]) -> dict[str, list[Act]]:
    return {
        kind: [
            Act(each.posted.began + after, each.posted.began + after + 1.5)
            for each in of
            if each.kind == kind
            for after in (0.0, 0.5)
        ]
        for kind in KINDS
    }


def test_acknowledged_and_processed_are_two_figures():
    of = all_turns()
    figures = figures_of(of, acts(of))
    found = {(f.group, f.name): f.values for f in figures}
    assert found["32 clients", "follower: acknowledged"] == [2.0]
    assert found["32 clients", "follower: processed"] == [1.0]
    goals = goals_of(figures)
    assert [goal.value for goal in goals] == [1.0] * 4
    assert all(goal.met for goal in goals)


def test_the_time_to_the_action_is_not_that_to_the_answer():
    of = all_turns()
    found = {f.name: f.values for f in delays_of(of, acts(of), AT_RATE)}
    assert found["leader: post to action, median"] == [1.5]
    assert found["leader: post to answer, p99"] == [0.2]


def test_a_post_without_an_action_fails_the_run():
    of = all_turns()
    known = acts(of)[LEADER]
    assert len(acts_of(of[0], known)) == 2
    with pytest.raises(ProcessError, match="1 actions for 2 posts"):
        acts_of(of[0], known[1:])


def test_an_action_tells_which_post_it_is_for():
    text = (
        "** 2026-01-02 03:04:05.250000 [debug] *****\n"
        "posted at 1767323045.125 of the clock\n*****\n"
    )
    (found,) = acts_in(text)
    assert found.posted_at == 1767323045.125
    assert found.at % 1 == 0.25
