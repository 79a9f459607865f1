"""An event that a source is putting when a handover begins."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

import pytest
from small_worker import SmallWorker

from ansible_rulebook.ha.log import WorkerLog
from ansible_rulebook.ha.rulebook.handover import Handover
from ansible_rulebook.ha.rulebook.sources import Sources

pytestmark = pytest.mark.asyncio


class Queue:
    def __init__(self, queue: Any) -> None:
        self.queue = queue

    async def put(self, event: Any) -> None:
        await self.queue.put(event)


async def test_a_handover_takes_the_event_that_is_being_put() -> None:
    worker = SmallWorker()
    queue: asyncio.Queue[Any] = asyncio.Queue(1)
    gate = worker.gates.of(queue)
    sources = Sources(worker.leadership, worker.gates.of)
    broker = [{"n": 1}, {"n": 2}]  # what is taken from it is gone

    async def main(queue: Any, args: dict[str, Any]) -> None:
        while broker:
            await queue.put(broker.pop(0))
        await asyncio.sleep(60)

    source = asyncio.ensure_future(
        sources.wrap(main, "plain", False)(Queue(queue), {})
    )
    while broker:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    processed = []

    async def read() -> None:
        while True:
            processed.append((await gate.get())["n"])

    handover = Handover(
        worker.leadership,
        sources,
        worker.gates,
        worker.rulesets,
        60.0,
        lambda why, reason: None,
        WorkerLog(logging.getLogger(__name__), "w", uuid.uuid4()),
    )
    handing = asyncio.ensure_future(handover.prepare())
    await asyncio.sleep(0)
    reader = asyncio.ensure_future(read())
    await handing
    source.cancel()
    reader.cancel()
    assert processed == [1, 2]
