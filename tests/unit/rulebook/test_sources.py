"""Sources in terms, and the gate on their way: real queues, made-up terms."""

from __future__ import annotations

import asyncio
import errno
from typing import Any, Callable

import pytest

from ansible_rulebook.ha.election.leadership import Leadership
from ansible_rulebook.ha.election.term import Term
from ansible_rulebook.ha.errors import LeadershipLost
from ansible_rulebook.ha.rulebook import sources as sources_module
from ansible_rulebook.ha.rulebook.gate import EventGate
from ansible_rulebook.ha.rulebook.sources import Sources, fresh, is_ha_aware

PATIENCE = 30.0  # seconds


async def never_asked() -> bool:
    raise AssertionError("the server was asked")


class Filtered:
    """What upstream hands to a source: filters, with the queue behind."""

    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self.queue = queue

    async def put(self, event: Any) -> None:
        await self.queue.put(event)


class House:
    """A leadership, a gate and sources, as a worker has them."""

    def __init__(self) -> None:
        self.leadership = Leadership(never_asked)
        self.queue: asyncio.Queue[Any] = asyncio.Queue(1)
        self.gate = EventGate(
            self.queue,
            self.leadership,
            lambda item: item == "shutdown",
            lambda item: False,
        )
        self.sources = Sources(self.leadership, lambda queue: self.gate)
        self.terms = 0

    def promote(self) -> Term:
        self.terms += 1
        term = Term(self.terms, 1.0, lambda: False, lambda: 0.0)
        self.leadership.begin(term)
        self.leadership.announce()
        return term

    async def demote(self, term: Term) -> None:
        term.end()
        self.leadership.end()
        self.gate.wake_all()
        await self.sources.end_term()

    def run(
        self, main: Callable[..., Any], aware: bool = False, **args: Any
    ) -> asyncio.Task[None]:
        wrapped = self.sources.wrap(main, "tested", aware)
        return asyncio.ensure_future(wrapped(Filtered(self.queue), args))

    async def get(self) -> Any:
        return await asyncio.wait_for(self.gate.get(), PATIENCE)


async def count(queue: Any, args: dict[str, Any]) -> None:
    """An unaware source: 1, 2, 3 …"""
    number = 0
    while True:
        number += 1
        await queue.put(number)


async def settle() -> None:
    """Let every task do what it can do now."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("code", "aware"),
    [
        ('def main(q, args): args["leader_event"]', True),
        ('def main(q, args): args.get("leader_event")', True),
        ('def main(q, args):\n  if "leader_event" in args: pass', True),
        ('def main(q, args): args["ha_inbox"]("mine")', True),
        ('DOCUMENTATION = "uses leader_event"', False),
        ("# ha_inbox\nha_inbox = 1", False),
        ('"""leader_event"""', False),
        ('def main(q, args):\n  "leader_event"', False),
        ("# leader_event\nleader_event = 1", False),
        ('args["shutdown_event"]', False),
    ],
)
def test_awareness_is_read_from_code_not_from_texts(
    code: str, aware: bool
) -> None:
    assert is_ha_aware(code) is aware


@pytest.mark.asyncio
async def test_a_source_may_change_its_arguments() -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    args = {"payload": [{"a": 1}], "queue": queue, "n": 1}
    copied = fresh(args)
    copied["payload"][0]["a"] = 2
    copied["payload"].append(3)
    assert args["payload"] == [{"a": 1}]
    assert copied["queue"] is queue


@pytest.mark.asyncio
async def test_unaware_source_runs_in_terms_only_and_starts_anew() -> None:
    house = House()
    task = house.run(count)
    await settle()
    assert house.queue.empty()
    for _ in range(2):
        term = house.promote()
        assert [await house.get() for _ in range(3)] == [1, 2, 3]
        await settle()  # the fourth is in the queue
        await house.demote(term)
        # What was between the two is held, not given to an ex-leader.
        getting = asyncio.ensure_future(house.gate.get())
        await settle()
        assert not getting.done() and house.gate.held == 1
        getting.cancel()
        await settle()
        house.gate._held.clear()
    task.cancel()


@pytest.mark.asyncio
async def test_what_is_held_comes_first_in_the_next_term() -> None:
    house = House()
    term = house.promote()
    await house.gate.put("early", term)
    await house.demote(term)
    getting = asyncio.ensure_future(house.gate.get())
    await settle()
    assert not getting.done()
    later = house.promote()
    assert await getting == "early"
    await house.gate.put("late", later)
    assert await house.get() == "late"
    assert house.gate.held_total == 1


@pytest.mark.asyncio
async def test_a_shutdown_does_not_wait_behind_a_held_event() -> None:
    house = House()
    term = house.promote()
    await house.gate.put("early", term)
    await house.demote(term)
    getting = asyncio.ensure_future(house.gate.get())
    await settle()
    await house.queue.put("shutdown")
    assert await asyncio.wait_for(getting, PATIENCE) == "shutdown"


@pytest.mark.asyncio
async def test_a_put_that_waits_for_room_ends_with_its_term() -> None:
    house = House()
    term = house.promote()
    await house.gate.put("first", term)
    waiting = asyncio.ensure_future(house.gate.put("second", term))
    await settle()
    await house.demote(term)
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(waiting, PATIENCE)


@pytest.mark.asyncio
async def test_an_aware_put_waits_for_leadership_and_drops_nothing() -> None:
    house = House()

    async def main(queue: Any, args: dict[str, Any]) -> None:
        assert args["follower_event"].is_set()
        await queue.put("from a follower")
        await args["shutdown_event"].wait()

    task = house.run(main, aware=True)
    await settle()
    assert house.queue.empty()
    house.promote()
    assert await house.get() == "from a follower"
    house.leadership.shutdown_event.set()
    await house.sources.end_all(PATIENCE)
    await settle()
    assert not task.done()  # its end is not to end the rulebook now
    task.cancel()


@pytest.mark.asyncio
async def test_turns_are_passed_on_when_a_waiting_put_is_cancelled() -> None:
    house = House()
    term = house.promote()
    await house.gate.put(0, term)
    puts = [
        asyncio.ensure_future(house.gate.put(number, term))
        for number in (1, 2, 3)
    ]
    await settle()
    getting = asyncio.ensure_future(house.gate.get())
    await asyncio.sleep(0)
    puts[0].cancel()  # as its turn has come
    assert await asyncio.wait_for(getting, PATIENCE) == 0
    assert [await house.get() for _ in range(2)] == [2, 3]


@pytest.mark.asyncio
async def test_a_source_that_ends_by_itself_ends_the_rulebook() -> None:
    house = House()

    async def main(queue: Any, args: dict[str, Any]) -> None:
        raise ValueError("broken")

    task = house.run(main)
    house.promote()
    with pytest.raises(ValueError, match="broken"):
        await asyncio.wait_for(task, PATIENCE)


@pytest.mark.asyncio
async def test_a_port_that_is_still_in_use_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources_module, "ADDRESS_RETRY", 0.0)
    house = House()
    tries = []

    async def main(queue: Any, args: dict[str, Any]) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(errno.EADDRINUSE, "address in use")
        await queue.put("listening")

    house.run(main)
    house.promote()
    assert await house.get() == "listening"
    assert len(tries) == 3


@pytest.mark.asyncio
async def test_a_port_that_stays_in_use_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources_module, "ADDRESS_PATIENCE", 0.0)
    house = House()

    async def main(queue: Any, args: dict[str, Any]) -> None:
        raise OSError(errno.EADDRINUSE, "address in use")

    task = house.run(main)
    house.promote()
    with pytest.raises(OSError, match="address in use"):
        await asyncio.wait_for(task, PATIENCE)


@pytest.mark.asyncio
async def test_feedback_for_an_earlier_start_is_not_taken_for_ours() -> None:
    house = House()
    feedback: asyncio.Queue[Any] = asyncio.Queue(1)
    feedback.put_nowait("stale")
    found = []

    async def main(queue: Any, args: dict[str, Any]) -> None:
        found.append(args["eda_feedback_queue"].qsize())
        await asyncio.sleep(3600)

    task = house.run(main, eda_feedback_queue=feedback)
    house.promote()
    await settle()
    assert found == [0]
    task.cancel()
    await settle()
