"""The time in sessions is the server's, and goes on by a steady clock."""

from __future__ import annotations

import time

import pytest

from ansible_rulebook.ha.election import clock
from ansible_rulebook.ha.engine.session_times import SessionTimes

SESSION, OTHER = 1, 2
BEGAN = 1_700_000_000_000  # ms


@pytest.fixture
def pass_seconds(monkeypatch: pytest.MonkeyPatch):
    """Lets time pass by the steady clock; the wall clock is of no use."""
    steady = [5.0]

    def go_on(seconds: float) -> None:
        steady[0] += seconds

    monkeypatch.setattr(clock, "now", lambda: steady[0])
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    return go_on


def test_it_goes_on_from_where_the_term_began(pass_seconds) -> None:
    times = SessionTimes()
    pass_seconds(7)
    times.begin(BEGAN)
    pass_seconds(1.5)
    assert times.now(SESSION) == BEGAN + 1500


def test_a_session_that_is_ahead_stays_ahead(pass_seconds) -> None:
    times = SessionTimes()
    times.begin(BEGAN)
    assert times.restored(SESSION, BEGAN + 60_000) == BEGAN + 60_000
    assert times.restored(OTHER, BEGAN - 60_000) == BEGAN
    pass_seconds(1)
    assert times.now(SESSION) == BEGAN + 61_000
    assert times.now(OTHER) == BEGAN + 1000


def test_the_next_term_begins_anew(pass_seconds) -> None:
    times = SessionTimes()
    times.begin(BEGAN)
    times.restored(SESSION, BEGAN + 60_000)
    times.begin(BEGAN + 30_000)
    assert times.now(SESSION) == BEGAN + 30_000
