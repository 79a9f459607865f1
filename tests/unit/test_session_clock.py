"""When a leader moves its sessions' time, and what it does if it cannot."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Iterator

import pytest

from ansible_rulebook.ha.session_clock import (
    LATE,
    NEVER,
    SessionClock,
    without_clock,
)


class Engine:
    def __init__(self) -> None:
        self.ticks = 0
        self.moved = asyncio.Event()
        self.due: list[tuple[int, Any]] = []
        self.delivered: list[tuple[int, Any]] = []
        self.trouble: Exception | None = None
        self.failures: list[Exception] = []
        self.clock = SessionClock(self.advance, self.deliver, self.failed)

    def advance(self) -> Iterator[tuple[int, Any]]:
        self.ticks += 1
        self.moved.set()
        if self.trouble is not None:
            raise self.trouble
        due, self.due = self.due, []
        yield from due

    def deliver(self, session: int, match: Any) -> None:
        if match == "bad":
            raise KeyError(match)
        self.delivered.append((session, match))

    def failed(self, error: Exception) -> Exception:
        self.failures.append(error)
        return ValueError(f"told of {error}")

    async def next_tick(self) -> None:
        self.moved.clear()
        await asyncio.wait_for(self.moved.wait(), 30)


@pytest.mark.asyncio
async def test_matches_are_delivered_at_the_start_and_later() -> None:
    engine = Engine()
    engine.due = [(1, "a")]
    engine.clock.start()
    assert engine.delivered == [(1, "a")]
    engine.due = [(2, "b")]
    await engine.next_tick()
    await engine.next_tick()
    engine.clock.stop()
    assert engine.delivered == [(1, "a"), (2, "b")]


@pytest.mark.asyncio
async def test_a_match_that_cannot_be_delivered_does_not_stop_the_next() -> (
    None
):
    engine = Engine()
    engine.due = [(1, "bad"), (1, "good")]
    engine.clock.start()
    engine.clock.stop()
    assert engine.delivered == [(1, "good")]


@pytest.mark.asyncio
async def test_time_stands_still_after_one_stop_of_two_starts() -> None:
    engine = Engine()
    engine.clock.start()
    engine.clock.start()
    engine.clock.stop()
    ticks = engine.ticks
    with pytest.raises(asyncio.TimeoutError):
        engine.moved.clear()
        await asyncio.wait_for(engine.moved.wait(), 0.5)
    assert engine.ticks == ticks


@pytest.mark.asyncio
async def test_a_start_that_fails_is_told_and_starts_nothing() -> None:
    engine = Engine()
    engine.trouble = RuntimeError("no")
    with pytest.raises(ValueError, match="told of no"):
        engine.clock.start()
    assert engine.failures == [engine.trouble]
    engine.clock.catch_up()
    assert engine.ticks == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("trouble", [RuntimeError("a"), LookupError("b")])
async def test_a_tick_that_fails_is_told_and_others_follow(
    trouble: Exception,
) -> None:
    engine = Engine()
    engine.clock.start()
    engine.trouble = trouble
    await engine.next_tick()
    engine.trouble = None
    engine.due = [(1, "a")]
    await engine.next_tick()
    await engine.next_tick()
    engine.clock.stop()
    assert engine.failures == [trouble]
    assert engine.delivered == [(1, "a")]


@pytest.mark.asyncio
async def test_catching_up_is_for_who_is_late_and_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    engine = Engine()
    engine.clock.catch_up()
    assert engine.ticks == 0, "it does not run"
    engine.clock.start()
    now[0] += LATE / 2
    engine.clock.catch_up()
    assert engine.ticks == 1, "it is not late"
    now[0] += LATE
    engine.clock.catch_up()
    assert engine.ticks == 2
    engine.clock.stop()
    now[0] += 2 * LATE
    engine.clock.catch_up()
    assert engine.ticks == 2, "it does not run any more"


def test_the_engines_own_clock_is_stopped_and_the_rules_are_kept() -> None:
    rules = {"name": "x", "rules": [{"Rule": {"name": "r"}}]}
    text = without_clock(json.dumps(rules))
    assert json.loads(text) == {**rules, "clock_period": NEVER}
