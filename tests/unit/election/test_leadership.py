"""Who is told that this worker leads."""

from __future__ import annotations

import asyncio

import pytest

from ansible_rulebook.ha.election.leadership import Leadership
from ansible_rulebook.ha.election.term import Term

PATIENCE = 10.0  # seconds


async def confirmed() -> bool:
    return True


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.asyncio
async def test_all_are_told_when_a_promotion_ends() -> None:
    leadership = Leadership(confirmed)
    waiting = asyncio.ensure_future(leadership.next_term())
    leadership.begin(Term(1, 1.0, lambda: False, Clock()))
    assert not leadership.takes_events()
    leadership.announce()
    await asyncio.wait_for(waiting, PATIENCE)
    assert leadership.takes_events()
    assert leadership.leader_event.is_set()
    assert not leadership.follower_event.is_set()


@pytest.mark.asyncio
async def test_nobody_is_told_of_a_term_that_has_run_out() -> None:
    """It was paused after the last step of its promotion."""
    clock = Clock()
    leadership = Leadership(confirmed)
    waiting = asyncio.ensure_future(leadership.next_term())
    leadership.begin(Term(1, 1.0, lambda: False, clock))
    clock.now = 1.0
    leadership.announce()
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not leadership.leader_event.is_set()
    assert leadership.follower_event.is_set()
    # The next one is told of as ever.
    leadership.end()
    leadership.begin(Term(2, 2.0, lambda: False, clock))
    leadership.announce()
    await asyncio.wait_for(waiting, PATIENCE)
    assert leadership.leader_event.is_set()
