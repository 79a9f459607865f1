"""Matches leave their queue in order, and once they are durable."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from written_marks import Writes, turns

from ansible_rulebook.ha.rulebook.match_queue import MOST_WAITING, MatchQueue

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
    assert not queue.empty()  # a drain has to wait for these
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
@pytest.mark.parametrize("take", ["read", "drop"])
async def test_no_event_is_read_while_many_matches_wait(take: str) -> None:
    queue = MatchQueue(lambda: None, nothing)
    for number in range(MOST_WAITING):
        queue.put_nowait(number)
    await asyncio.wait_for(queue.wait_for_room(), PATIENCE)
    queue.put_nowait("one more")
    queue.put_nowait("and another")
    waiting = asyncio.ensure_future(queue.wait_for_room())
    await turns()
    assert not waiting.done()
    for left in (1, 0):
        if take == "read":
            await asyncio.wait_for(queue.get(), PATIENCE)
        else:
            queue.get_nowait()
        await turns()
        assert waiting.done() == (left == 0)
    assert queue.qsize() == 0  # upstream would spin


@pytest.mark.asyncio
async def test_what_waits_for_the_journal_leaves_room() -> None:
    writes = Writes()
    queue = MatchQueue(writes.last_write, nothing)
    for number in range(MOST_WAITING + 1):
        writes.wrote()
        queue.put_nowait(number)
    # Else each write would hold few events.
    await asyncio.wait_for(queue.wait_for_room(), PATIENCE)
    writes.reach(1)
    waiting = asyncio.ensure_future(queue.wait_for_room())
    await turns()
    assert not waiting.done()
    assert await asyncio.wait_for(queue.get(), PATIENCE) == 0
    await asyncio.wait_for(waiting, PATIENCE)


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
