"""An event that a source is putting when a handover begins."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

import pytest
from small_worker import SmallWorker

from ansible_rulebook.ha.errors import LeadershipLost
from ansible_rulebook.ha.log import WorkerLog
from ansible_rulebook.ha.rulebook.drain import end_sources
from ansible_rulebook.ha.rulebook.handover import Handover
from ansible_rulebook.ha.rulebook.sources import Sources

pytestmark = pytest.mark.asyncio

LONG = 1.2  # seconds; no put is cut short after a second
PATIENCE = 30.0  # seconds


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

    handover = handover_of(worker, sources, 60.0)
    handing = asyncio.ensure_future(handover.prepare())
    await asyncio.sleep(0)
    reader = asyncio.ensure_future(read())
    await handing
    source.cancel()
    reader.cancel()
    assert processed == [1, 2]


class Broker:
    """A source whose events are gone from it when it puts them.

    It takes back those that are refused, since it sees that.
    """

    def __init__(self, worker: SmallWorker, is_aware: bool) -> None:
        self.left = [1, 2, 3]
        self.cancelled: list[int] = []
        self.queue: asyncio.Queue[Any] = asyncio.Queue(1)
        self.gate = worker.gates.of(self.queue)
        self.sources = Sources(worker.leadership, worker.gates.of)
        self.processed: list[int] = []
        main = self.sources.wrap(self._main, "broker", is_aware)
        self.source = asyncio.ensure_future(main(Queue(self.queue), {}))

    async def _main(self, queue: Any, args: dict[str, Any]) -> None:
        while self.left:
            number = self.left.pop(0)
            try:
                await queue.put({"n": number})
            except LeadershipLost:
                self.left.insert(0, number)
                break
            except asyncio.CancelledError:
                self.cancelled.append(number)
                raise
        await asyncio.Event().wait()

    async def waits(self) -> None:
        """1 is in the queue, and 2 waits for room."""
        while not self.gate.has_puts_under_way:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert self.left == [3]

    async def read(self) -> None:
        while True:
            self.processed.append((await self.gate.get())["n"])


def handover_of(
    worker: SmallWorker, sources: Sources, within: float
) -> Handover:
    return Handover(
        worker.leadership,
        sources,
        worker.gates,
        worker.rulesets,
        within,
        lambda why, reason: None,
        WorkerLog(logging.getLogger(__name__), "w", uuid.uuid4()),
    )


@pytest.mark.parametrize("is_aware", [False, True])
@pytest.mark.parametrize("kind", ["handover", "drain"])
async def test_a_put_under_way_is_let_in_however_long_that_takes(
    kind: str, is_aware: bool
) -> None:
    worker = SmallWorker()
    broker = Broker(worker, is_aware)
    await broker.waits()
    if kind == "handover":
        handover = handover_of(worker, broker.sources, PATIENCE)
        ending = asyncio.ensure_future(handover.prepare())
    else:
        ending = asyncio.ensure_future(
            end_sources(
                worker.leadership, broker.sources, PATIENCE, lambda: None
            )
        )
    await asyncio.sleep(LONG)
    assert not ending.done()
    assert not broker.cancelled
    reader = asyncio.ensure_future(broker.read())
    await asyncio.wait_for(ending, PATIENCE)
    worker.end_term()
    broker.gate.wake_all()
    broker.source.cancel()
    await asyncio.wait({broker.source})
    reader.cancel()
    # Each one was processed, or is still there. One that goes on as a
    # follower has put its last event, which waits for its next term.
    if is_aware and kind == "handover":
        assert broker.processed == [1, 2]
        assert broker.cancelled == [3]
    elif is_aware:  # in a drain it ends by itself
        assert broker.processed == [1, 2, 3]
    else:
        assert (broker.processed, broker.left) == ([1, 2], [3])
        assert not broker.cancelled


async def test_the_deadline_bounds_what_a_put_is_waited_for() -> None:
    worker = SmallWorker()
    broker = Broker(worker, False)
    await broker.waits()
    handover = handover_of(worker, broker.sources, 0.05)
    assert not await handover.prepare()
    assert not broker.cancelled
    worker.end_term()
    term = worker.leadership.term
    assert term is None
    broker.source.cancel()
    await asyncio.wait({broker.source})
    drained = SmallWorker()
    broker = Broker(drained, False)
    await broker.waits()
    await end_sources(drained.leadership, broker.sources, 0.05, lambda: None)
    assert broker.cancelled == [2]
    broker.source.cancel()
