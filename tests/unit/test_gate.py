"""Events that the engine could not store go back to their gate."""

# A pause of no length lets the other task go on.
# ruff: noqa: ASYNC110

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from unsafe_writes import Writes, marks, turns

from ansible_rulebook.ha.gate import (
    LAST_TRY,
    MOST_UNSAFE,
    EventGate,
    SafeFeedback,
)
from ansible_rulebook.ha.office import Office
from ansible_rulebook.ha.term import Term

PATIENCE = 10.0  # seconds


class House:
    """A gate of a worker that leads."""

    def __init__(self) -> None:
        self.office = Office()
        self.gate = EventGate(
            asyncio.Queue(), self.office, lambda item: item == "shutdown"
        )
        self.terms = 0
        self.promote()

    def promote(self) -> None:
        self.terms += 1
        term = Term(self.terms, 1.0, lambda: False, lambda: 0.0)
        self.office.enter(term)
        self.office.announce()

    async def get(self) -> Any:
        return await asyncio.wait_for(self.gate.get(), PATIENCE)

    async def get_all(self, count: int) -> list[Any]:
        return [await self.get() for _ in range(count)]


@pytest.fixture
def events() -> list[dict[str, int]]:
    return [{"n": number} for number in range(4)]


@pytest.mark.asyncio
async def test_what_was_not_stored_comes_again_first(
    events: list[Any],
) -> None:
    house = House()
    for event in events:
        house.gate.queue.put_nowait(event)
    await house.get_all(2)
    house.office.leave()
    house.gate.give_back()
    assert house.gate.held == 1
    house.promote()
    assert await house.get_all(3) == events[1:]


@pytest.mark.asyncio
@pytest.mark.parametrize("another_led", [False, True])
async def test_a_doubtful_event_comes_again_unless_another_led(
    events: list[Any], another_led: bool, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    for event in events[:2]:
        house.gate.queue.put_nowait(event)
    assert await house.get() == events[0]
    house.office.leave()
    house.gate.give_back(doubtful=True)
    house.gate.settle_doubtful(another_led)
    house.promote()
    if another_led:
        assert await house.get() == events[1]
        assert house.gate.dropped_total == 1
        assert "is dropped, since another worker" in caplog.text
    else:
        assert await house.get_all(2) == events[:2]
        house.gate.settle_doubtful(True)  # it has been stored by now
        assert house.gate.dropped_total == 0


@pytest.mark.asyncio
async def test_an_event_that_is_surely_not_stored_comes_again(
    events: list[Any],
) -> None:
    house = House()
    house.gate.queue.put_nowait(events[0])
    await house.get()
    house.gate.give_back()
    house.gate.settle_doubtful(True)
    assert await house.get() == events[0]


@pytest.mark.asyncio
async def test_before_those_that_were_held(events: list[Any]) -> None:
    house = House()
    first, second, third, _ = events
    house.gate.queue.put_nowait(first)
    await house.get()
    house.office.leave()
    house.gate.give_back()
    reading = asyncio.ensure_future(house.get())
    house.gate.queue.put_nowait(second)  # comes when nobody leads
    while house.gate.held < 2:
        await asyncio.sleep(0)
    house.gate.queue.put_nowait(third)
    house.promote()
    assert await reading == first
    assert await house.get_all(2) == [second, third]


@pytest.mark.asyncio
async def test_one_that_always_fails_is_dropped_and_counted(
    events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    for event in events[:2]:
        house.gate.queue.put_nowait(event)
    for _ in range(LAST_TRY):
        assert await house.get() == events[0]
        house.gate.give_back()
    assert await house.get() == events[1]
    assert house.gate.dropped_total == 1
    assert "could not be stored 5 times" in caplog.text


@pytest.mark.asyncio
async def test_only_failures_in_a_row_of_the_same_event_count() -> None:
    house = House()
    for number in range(LAST_TRY):
        house.gate.queue.put_nowait({"n": 0})
        assert await house.get() == {"n": 0}
        house.gate.give_back()
        assert await house.get() == {"n": 0}
        for other in range(3):  # these were stored, and so was that
            house.gate.queue.put_nowait({"other": other, "n": number})
            await house.get()
    assert house.gate.dropped_total == 0


@pytest.mark.asyncio
async def test_an_event_that_is_sent_again_and_again_is_hopeless() -> None:
    house = House()
    house.gate.will_be_sent_again = lambda event: True
    await house.gate.put({"n": 0}, house.office.term)
    for number in range(LAST_TRY):
        assert (await house.get())["n"] == 0
        assert not house.gate.is_hopeless()
        house.gate.give_back()
        # Others are stored before it comes again.
        await house.gate.put({"n": 2}, house.office.term)
        await house.get()
        again = {"n": 0, "meta": {"uuid": str(number)}}
        await house.gate.put(again, house.office.term)
    await house.get()
    assert house.gate.is_hopeless()
    await house.gate.put({"n": 1}, house.office.term)
    await house.get()
    assert not house.gate.is_hopeless()


@pytest.mark.asyncio
async def test_a_source_with_feedback_sends_it_again(
    events: list[Any],
) -> None:
    house = House()
    house.gate.will_be_sent_again = lambda event: True
    house.gate.queue.put_nowait(events[0])
    await house.gate.put(events[1], house.office.term)
    await house.get()
    house.gate.give_back()
    assert house.gate.held == 0
    assert house.gate.dropped_total == 1


@pytest.mark.asyncio
async def test_who_reads() -> None:
    house = House()
    house.gate.queue.put_nowait({"n": 0})
    assert not house.gate.is_read_here()
    await house.gate.get()
    assert house.gate.is_read_here()

    async def elsewhere() -> bool:
        return house.gate.is_read_here()

    assert not await asyncio.ensure_future(elsewhere())


@pytest.mark.asyncio
async def test_who_waits_already_gets_what_was_given_back(
    events: list[Any],
) -> None:
    house = House()
    house.gate.queue.put_nowait(events[0])
    await house.get()
    house.office.leave()
    house.gate.give_back()
    waiting = asyncio.ensure_future(house.get())
    await asyncio.sleep(0)
    house.promote()
    assert await waiting == events[0]


async def store(house: House, writes: Writes, count: int) -> list[Any]:
    """Have so many events stored; none of them is safe."""
    stored = []
    for mark in marks(writes, count):
        stored.append(await house.get())
        house.gate.stored(mark)
    return stored


def unsafe_house(count: int) -> tuple[House, Writes, list[Any]]:
    house, events = House(), [{"n": number} for number in range(count)]
    for event in events:
        house.gate.queue.put_nowait(event)
    return house, Writes(), events


@pytest.mark.asyncio
async def test_no_more_than_a_few_events_are_unsafe_at_a_time() -> None:
    house, writes, events = unsafe_house(MOST_UNSAFE + 3)
    await store(house, writes, MOST_UNSAFE + 1)
    reading = asyncio.ensure_future(house.get())
    await turns()
    assert not reading.done()
    writes.reach(1)
    assert await reading == events[MOST_UNSAFE + 1]


@pytest.mark.asyncio
@pytest.mark.parametrize("another_led", [False, True])
async def test_what_may_be_lost_comes_again_in_order_unless_another_led(
    another_led: bool, caplog: pytest.LogCaptureFixture
) -> None:
    house, writes, events = unsafe_house(6)
    await store(house, writes, 4)
    writes.reach(1)
    house.office.leave()
    writes.lose()
    house.gate.recall()
    assert house.gate.held == 3
    house.gate.settle_doubtful(another_led)
    house.promote()
    if another_led:
        assert await house.get_all(2) == events[4:]
        assert house.gate.dropped_total == 3
        assert caplog.text.count("is dropped, since another worker") == 3
    else:
        assert await house.get_all(5) == events[1:]
        assert house.gate.dropped_total == 0


@pytest.mark.asyncio
async def test_a_reader_that_waits_for_safety_goes_on_after_the_term() -> None:
    house, writes, events = unsafe_house(MOST_UNSAFE + 2)
    await store(house, writes, MOST_UNSAFE + 1)
    reading = asyncio.ensure_future(house.get())
    await turns()
    house.office.leave()
    writes.lose()
    house.gate.recall()
    await turns()
    assert not reading.done()
    house.gate.settle_doubtful(False)
    house.promote()
    assert [await reading, *await house.get_all(MOST_UNSAFE)] == events[:-1]


@pytest.mark.asyncio
async def test_a_reader_that_waits_for_events_is_told_of_a_recall() -> None:
    house, writes, events = unsafe_house(2)
    await store(house, writes, 2)
    reading = asyncio.ensure_future(house.get())
    await turns()
    house.office.leave()
    writes.lose()
    house.gate.recall()
    house.promote()
    assert [await reading, await house.get()] == events


@pytest.mark.asyncio
async def test_a_failed_write_comes_again_after_the_unsafe_ones() -> None:
    house, writes, events = unsafe_house(3)
    await store(house, writes, 2)
    assert await house.get() == events[2]
    house.office.leave()
    house.gate.give_back(doubtful=True)
    writes.lose()
    house.gate.recall()
    house.promote()
    assert await house.get_all(3) == events


@pytest.mark.asyncio
async def test_doubt_lasts_until_an_event_has_come_again() -> None:
    house, writes, _ = unsafe_house(1)
    await store(house, writes, 1)
    house.office.leave()
    writes.lose()
    house.gate.recall()
    house.gate.settle_doubtful(False)  # a term too short to read anything
    house.gate.settle_doubtful(True)
    house.promote()
    assert house.gate.held == 0
    assert house.gate.dropped_total == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("is_lost", [False, True])
async def test_feedback_is_for_what_is_safe(is_lost: bool) -> None:
    house, writes, events = unsafe_house(1)
    house.gate.will_be_sent_again = lambda event: True
    source: asyncio.Queue[Any] = asyncio.Queue()
    feedback = SafeFeedback(source, house.gate)
    await store(house, writes, 1)
    putting = asyncio.ensure_future(feedback.put(events[0]))
    await turns()
    assert source.empty()
    if is_lost:
        house.office.leave()
        writes.lose()
        house.gate.recall()
    else:
        writes.reach(1)
    await asyncio.wait_for(putting, PATIENCE)
    assert source.qsize() == (0 if is_lost else 1)
    assert house.gate.dropped_total == (1 if is_lost else 0)
    assert house.gate.held == 0


@pytest.mark.asyncio
async def test_the_engine_may_remember_fewer_events() -> None:
    house, writes, events = unsafe_house(2)
    house.gate.most_unsafe = 0
    await store(house, writes, 1)
    reading = asyncio.ensure_future(house.get())
    await turns()
    assert not reading.done()
    writes.reach(1)
    assert await reading == events[1]
