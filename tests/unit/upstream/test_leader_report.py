"""What a controller is told, and when."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from small_worker import SmallWorker

from ansible_rulebook.ha.upstream.leader_report import run_reporting

PATIENCE = 10.0  # seconds
UUID = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")


def named_worker() -> Any:
    worker: Any = SmallWorker()
    worker.worker_id = "alpha"
    worker.options = SimpleNamespace(ha_uuid=UUID)
    worker.end_term()
    return worker


async def next_report(event_log: asyncio.Queue[Any]) -> dict[str, Any]:
    message = await asyncio.wait_for(event_log.get(), PATIENCE)
    assert message["type"] == "HighAvailabilityStats"
    stats: dict[str, Any] = message["stats"]
    return stats


async def turns() -> None:
    """Let all tasks do what they can."""
    for _ in range(20):
        await asyncio.sleep(0)


def begin(
    worker: Any, event_log: asyncio.Queue[Any], ended: asyncio.Event
) -> asyncio.Task[Any]:
    async def run_rulesets(given: Any, reload: bool) -> bool:
        assert given is event_log
        await ended.wait()
        return reload

    return asyncio.ensure_future(
        run_reporting(worker, 0, run_rulesets, event_log, True)
    )


@pytest.mark.asyncio
async def test_each_term_is_told_once():
    worker, ended = named_worker(), asyncio.Event()
    event_log: asyncio.Queue[Any] = asyncio.Queue()
    running = begin(worker, event_log, ended)
    await turns()
    assert event_log.empty()  # a follower says nothing
    for number in (3, 5):
        worker.begin_term(number)
        assert await next_report(event_log) == {
            "ha_uuid": str(UUID),
            "current_leader": "alpha",
            "term": number,
        }
        await turns()
        assert event_log.empty()
        worker.end_term()
        await turns()
    ended.set()
    assert await asyncio.wait_for(running, PATIENCE) is True


@pytest.mark.asyncio
async def test_a_report_that_waits_for_room_ends_with_its_term():
    worker, ended = named_worker(), asyncio.Event()
    event_log: asyncio.Queue[Any] = asyncio.Queue(1)
    event_log.put_nowait("an event that the websocket has not taken")
    running = begin(worker, event_log, ended)
    worker.begin_term(3)
    await turns()
    worker.end_term()
    await turns()
    event_log.get_nowait()
    await turns()
    assert event_log.empty()
    worker.begin_term(5)
    assert (await next_report(event_log))["term"] == 5
    ended.set()
    await asyncio.wait_for(running, PATIENCE)


@pytest.mark.asyncio
async def test_a_report_that_waits_does_not_keep_the_rulebook():
    worker, ended = named_worker(), asyncio.Event()
    event_log: asyncio.Queue[Any] = asyncio.Queue(1)
    event_log.put_nowait("an event that the websocket has not taken")
    running = begin(worker, event_log, ended)
    worker.begin_term(3)
    await turns()
    ended.set()
    await asyncio.wait_for(running, PATIENCE)
    event_log.get_nowait()
    await turns()
    assert event_log.empty()
