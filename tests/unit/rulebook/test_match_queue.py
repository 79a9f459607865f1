"""Matches leave their queue in order, and once they are durable."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from written_marks import Writes, turns

from ansible_rulebook.ha.rulebook.match_queue import MatchQueue

PATIENCE = 10.0  # seconds


def nothing() -> None:
    raise AssertionError("a match was dropped")


@pytest.mark.asyncio
async def test_a_match_leaves_once_it_is_durable() -> None:
    writes = Writes()
    queue = MatchQueue(writes.last_write, nothing)
    taking = asyncio.ensure_future(queue.get())
    for name in "ab":
        writes.wrote()
        queue.put_nowait(name)
    await turns()
    assert not taking.done()
    # A drain has to wait for these, and the engine's reader has not.
    assert not queue.empty()
    assert queue.qsize() == 0
    writes.reach(1)
    assert await asyncio.wait_for(taking, PATIENCE) == "a"
    assert not queue.empty()
    taking = asyncio.ensure_future(queue.get())
    await turns()
    assert not taking.done()
    writes.reach(2)
    assert await asyncio.wait_for(taking, PATIENCE) == "b"
    assert queue.empty()


@pytest.mark.asyncio
async def test_a_match_that_may_be_lost_never_leaves() -> None:
    writes = Writes()
    told: list[bool] = []
    queue = MatchQueue(writes.last_write, lambda: told.append(queue.empty()))
    writes.wrote()
    queue.put_nowait("lost")
    taking = asyncio.ensure_future(queue.get())
    await turns()
    writes.lose()
    await turns()
    assert queue.empty()
    assert told == [True]  # else a drain would look too early
    assert not taking.done()
    taking.cancel()


@pytest.mark.asyncio
async def test_those_that_are_durable_and_wait_are_counted() -> None:
    writes = Writes()
    queue = MatchQueue(writes.last_write, nothing)
    for name in "ab":
        writes.wrote()
        queue.put_nowait(name)
    writes.reach(1)
    assert queue.qsize() == 2
    assert await asyncio.wait_for(queue.get(), PATIENCE) == "a"
    assert queue.qsize() == 0
    writes.reach(2)
    assert queue.qsize() == 1


@pytest.mark.asyncio
async def test_one_that_was_taken_out_meanwhile_is_not_given_twice() -> None:
    writes = Writes()
    queue = MatchQueue(writes.last_write, nothing)
    writes.wrote()
    queue.put_nowait("dropped")
    taking = asyncio.ensure_future(queue.get())
    await turns()
    assert queue.get_nowait() == "dropped"
    writes.wrote()
    await queue.put("next")
    writes.reach(2)
    assert await asyncio.wait_for(taking, PATIENCE) == "next"


@pytest.mark.asyncio
async def test_nothing_is_waited_for_where_nothing_is_written() -> None:
    found: list[Any] = []
    queue = MatchQueue(lambda: None, nothing)
    for number in range(3):
        queue.put_nowait(number)
        found.append(await asyncio.wait_for(queue.get(), PATIENCE))
    assert found == [0, 1, 2]


@pytest.mark.asyncio
async def test_a_reader_that_is_cancelled_takes_nothing_with_it() -> None:
    writes = Writes()
    queue = MatchQueue(writes.last_write, nothing)
    writes.wrote()
    queue.put_nowait("match")
    taking = asyncio.ensure_future(queue.get())
    await turns()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    writes.reach(1)
    assert await asyncio.wait_for(queue.get(), PATIENCE) == "match"
