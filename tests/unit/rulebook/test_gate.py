"""Events that may be lost go back to their gate."""

# A pause of no length lets the other task go on.
# ruff: noqa: ASYNC110

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from written_marks import Writes, turns

from ansible_rulebook.ha.election.leadership import Leadership
from ansible_rulebook.ha.election.term import Term
from ansible_rulebook.ha.rulebook import gate
from ansible_rulebook.ha.rulebook.gate import (
    LAST_TRY,
    QUIET_TURNS,
    DurableFeedback,
    EventGate,
    event_in_hand,
)

PATIENCE = 10.0  # seconds
RULESET = "R"
GRACEFUL, NOW = "shutdown", "shutdown now"


async def never_asked() -> bool:
    raise AssertionError("the server was asked")


def event(number: int) -> dict[str, Any]:
    return {"n": number, "meta": {"uuid": f"id-{number}"}}


class House:
    """A gate of a worker that leads, and events in its queue."""

    def __init__(self, count: int = 0) -> None:
        self.leadership = Leadership(never_asked)
        self.gate = EventGate(
            asyncio.Queue(),
            self.leadership,
            lambda item: item in (GRACEFUL, NOW),
            lambda item: item == NOW,
        )
        self.writes = Writes()
        self.gate.state = self.writes  # type: ignore[assignment]
        self.terms = 0
        self.events = [event(number) for number in range(count)]
        for each in self.events:
            self.gate.queue.put_nowait(each)
        self.promote()

    def promote(self) -> None:
        self.terms += 1
        term = Term(self.terms, 1.0, lambda: False, lambda: 0.0)
        self.leadership.begin(term)
        self.leadership.announce()

    def end_term(self, *surely_lost: int, refused: bool = False) -> None:
        self.leadership.end()
        self.writes.lose(*surely_lost, refused=refused)
        self.gate.recall(self.terms)

    def begin_term(self) -> None:
        self.gate.settle({})
        self.writes = self.gate.state = Writes()  # type: ignore[assignment]
        self.promote()

    async def get(self) -> Any:
        return await asyncio.wait_for(self.gate.get(), PATIENCE)

    async def get_all(self, count: int) -> list[Any]:
        return [await self.get() for _ in range(count)]

    async def process(self, count: int) -> list[Any]:
        """As the engine does: what is new is written; returns that."""
        new = []
        for _ in range(count):
            found = await self.get()
            if not self.gate.is_repeated(RULESET):
                self.writes.wrote()
                new.append(found)
            self.gate.written()
        return new


@pytest.mark.asyncio
async def test_what_the_engine_did_not_take_comes_again_first() -> None:
    house = House(4)
    await house.get_all(2)
    house.leadership.end()
    house.gate.not_written()
    assert house.gate.held == 1
    house.promote()
    assert await house.get_all(3) == house.events[1:]


@pytest.mark.asyncio
async def test_before_those_that_were_held() -> None:
    house = House(1)
    await house.get()
    house.leadership.end()
    house.gate.not_written()
    reading = asyncio.ensure_future(house.get())
    house.gate.queue.put_nowait(event(1))  # comes when nobody leads
    while house.gate.held < 2:
        await asyncio.sleep(0)
    house.gate.queue.put_nowait(event(2))
    house.promote()
    assert await reading == event(0)
    assert await house.get_all(2) == [event(1), event(2)]


@pytest.mark.asyncio
async def test_what_is_durable_does_not_come_again() -> None:
    house = House(4)
    await house.process(3)
    house.writes.reach(2)
    house.end_term()
    assert house.gate.held == 1
    house.gate.settle({})
    house.promote()
    assert await house.get_all(2) == house.events[2:]


@pytest.mark.asyncio
@pytest.mark.parametrize("last", [1, 2, 3])
async def test_a_doubtful_event_is_processed_only_if_it_was_not_stored(
    last: int,
) -> None:
    house = House(4)
    await house.process(3)
    house.writes.reach(1)
    house.end_term()
    assert house.gate.doubtful_terms() == {1}
    house.gate.settle({1: last})
    house.writes = house.gate.state = Writes()  # type: ignore[assignment]
    house.promote()
    assert await house.process(3) == house.events[last:]
    assert house.gate.repeated_total == last - 1


@pytest.mark.asyncio
async def test_what_was_surely_lost_is_in_no_doubt() -> None:
    house = House(3)
    await house.process(3)
    house.end_term(2, 3)
    house.gate.settle({1: 9})  # of others, who led since
    house.writes = house.gate.state = Writes()  # type: ignore[assignment]
    house.promote()
    assert await house.process(3) == house.events[1:]


@pytest.mark.asyncio
async def test_what_is_known_of_an_event_outlives_a_short_term() -> None:
    house = House(1)
    await house.process(1)
    house.end_term()
    house.gate.settle({1: 1})
    # A term too short to read anything.
    house.promote()
    house.end_term()
    assert house.gate.doubtful_terms() == set()
    house.gate.settle({})
    house.writes = house.gate.state = Writes()  # type: ignore[assignment]
    house.promote()
    assert await house.process(1) == []
    # It is stored, so whatever becomes of this term, it does not come again.
    assert house.gate.mark is None
    house.end_term()
    assert house.gate.held == 0


@pytest.mark.asyncio
async def test_an_event_that_comes_twice_is_processed_once() -> None:
    house = House()
    house.gate.will_be_sent_again = lambda _: True
    for number in (0, *range(1, 20), 0):
        house.gate.queue.put_nowait(event(number))
    new = await house.process(21)
    assert new == [event(number) for number in range(20)]
    # Until the first one is durable, the second is not acknowledged.
    mark = house.gate.mark
    assert mark is not None and not mark.is_known_durable


@pytest.mark.asyncio
async def test_an_event_without_an_id_is_always_new() -> None:
    house = House()
    for _ in range(2):
        house.gate.queue.put_nowait({"n": 0})
    assert len(await house.process(2)) == 2


@pytest.mark.asyncio
async def test_nothing_comes_in_while_the_journal_is_behind() -> None:
    house = House(2)
    await house.process(1)
    house.writes.is_behind = True
    reading = asyncio.ensure_future(house.get())
    await turns()
    assert not reading.done()
    house.writes.reach(1)
    assert await reading == house.events[1]


@pytest.mark.asyncio
async def test_a_reader_that_waits_for_the_journal_goes_on_after_it() -> None:
    house = House(2)
    await house.process(1)
    house.writes.is_behind = True
    reading = asyncio.ensure_future(house.get())
    await turns()
    house.end_term()
    await turns()
    assert not reading.done()
    house.gate.settle({})
    house.promote()
    assert [await reading, await house.get()] == house.events


@pytest.mark.asyncio
async def test_a_reader_that_waits_for_events_is_told_of_a_recall() -> None:
    house = House(2)
    await house.process(2)
    reading = asyncio.ensure_future(house.get())
    await turns()
    house.end_term()
    house.gate.settle({})
    house.promote()
    assert [await reading, await house.get()] == house.events


@pytest.mark.asyncio
async def test_a_source_with_feedback_sends_it_again() -> None:
    house = House(1)
    house.gate.will_be_sent_again = lambda _: True
    await house.gate.put(event(1), house.leadership.term)
    await house.process(1)
    house.end_term()
    assert house.gate.held == 0
    assert house.gate.dropped_total == 1


@pytest.mark.asyncio
async def test_one_that_goes_on_as_a_follower_does_not() -> None:
    house = House()
    house.gate.will_be_sent_again = lambda _: True
    await house.gate.put(event(0), None)  # as HA-aware sources do
    await house.process(1)
    house.end_term()
    assert house.gate.held == 1


@pytest.mark.asyncio
async def test_one_source_that_goes_on_does_not_speak_for_another() -> None:
    house = House()
    house.gate.will_be_sent_again = lambda _: True
    ours = {"n": 0, "meta": {"uuid": "a", "source": {"name": "aware"}}}
    theirs = {"n": 1, "meta": {"uuid": "b", "source": {"name": "plain"}}}
    await house.gate.put(ours, None)
    await house.gate.put(theirs, house.leadership.term)
    await house.process(2)
    house.end_term()
    assert house.gate.held == 1
    assert house.gate.dropped_total == 1


@pytest.mark.asyncio
async def test_who_is_started_next_is_not_told_of_earlier_events() -> None:
    house = House(3)
    house.gate.will_be_sent_again = lambda _: True
    source: asyncio.Queue[Any] = asyncio.Queue(1)
    feedback = DurableFeedback(source, house.gate)
    for each in house.events:
        await house.process(1)
        await feedback.put(each)
    house.writes.reach(2)
    await turns()
    assert source.full()  # and the second one waits to be put
    house.end_term()
    source.get_nowait()  # as it is emptied for the next one
    await turns()
    assert source.empty()


@pytest.mark.asyncio
async def test_the_task_that_reads_has_the_event_in_hand() -> None:
    house = House(1)
    assert event_in_hand() is None

    async def read() -> Any:
        await house.gate.get()
        return event_in_hand()

    assert await asyncio.ensure_future(read()) is house.gate
    assert event_in_hand() is None, "an action's task would be taken for it"


@pytest.mark.asyncio
@pytest.mark.parametrize("is_lost", [False, True])
async def test_feedback_is_for_what_is_durable(is_lost: bool) -> None:
    house = House(2)
    house.gate.will_be_sent_again = lambda _: True
    source: asyncio.Queue[Any] = asyncio.Queue()
    feedback = DurableFeedback(source, house.gate)
    await house.process(1)
    await asyncio.wait_for(feedback.put(house.events[0]), PATIENCE)
    await house.process(1)  # the next event does not wait for it
    await turns()
    assert source.empty()
    if is_lost:
        house.end_term()
    else:
        house.writes.reach(1)
    await turns()
    assert source.qsize() == (0 if is_lost else 1)


@pytest.mark.asyncio
async def test_feedback_comes_in_order() -> None:
    house = House(3)
    source: asyncio.Queue[Any] = asyncio.Queue()
    feedback = DurableFeedback(source, house.gate)
    for each in house.events:
        await house.process(1)
        await feedback.put(each)
    house.writes.reach(3)
    await turns()
    assert [source.get_nowait() for _ in range(3)] == house.events


@pytest.mark.asyncio
async def test_after_a_refusal_events_are_written_one_by_one() -> None:
    house = House(4)
    await house.process(3)  # in one transaction, it may be
    house.end_term(1, 2, 3, refused=True)
    house.begin_term()
    assert house.gate.dropped_total == 0
    await house.process(1)
    reading = asyncio.ensure_future(house.process(1))
    await turns()
    assert not reading.done()
    house.writes.reach(1)
    assert await reading == [house.events[1]]


@pytest.mark.asyncio
async def test_one_that_is_always_refused_is_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House(2)
    for _ in range(LAST_TRY):
        assert await house.process(1) == [house.events[0]]
        assert not house.gate.is_hopeless()
        house.end_term(1, refused=True)
        house.begin_term()
    assert await house.process(1) == [house.events[1]]
    assert house.gate.dropped_total == 1
    assert "could not be stored 5 times" in caplog.text
    # Should it come again, it is known.
    house.gate.queue.put_nowait({"n": 0, "meta": {"uuid": "another"}})
    house.writes.reach(1)
    await house.get()
    assert house.gate.is_hopeless()


@pytest.mark.asyncio
async def test_an_outage_is_no_refusal() -> None:
    house = House(1)
    for _ in range(2 * LAST_TRY):
        assert await house.process(1) == house.events
        house.end_term(1)
        house.begin_term()
    assert house.gate.dropped_total == 0


@pytest.mark.asyncio
async def test_only_refusals_of_the_same_event_in_a_row_count() -> None:
    house = House()
    for _ in range(LAST_TRY):
        for number in range(2):
            house.gate.queue.put_nowait(event(number))
            await house.process(1)
            house.end_term(1, refused=True)
            house.begin_term()
            await house.process(1)
            house.writes.reach(1)
    assert house.gate.dropped_total == 0


@pytest.mark.asyncio
async def test_the_end_waits_for_what_waits_for_the_journal() -> None:
    house = House()
    house.writes.wrote()
    house.gate.queue.put_nowait(GRACEFUL)
    getting = asyncio.ensure_future(house.get())
    await turns()
    # What waited for it goes on, and writes: the rule's next action.
    first = house.writes.last_write()
    next_action = asyncio.ensure_future(first.is_durable())
    await turns()
    house.writes.reach(1)
    assert await next_action
    house.writes.wrote()
    for _ in range(2 * QUIET_TURNS):
        await turns()
    assert not getting.done()
    house.writes.reach(2)
    assert await getting == GRACEFUL


@pytest.mark.asyncio
async def test_an_urgent_end_waits_for_nothing_and_overtakes_the_other() -> (
    None
):
    house = House(1)
    house.gate.queue.put_nowait(NOW)
    await house.get()
    house.writes.wrote()
    assert await house.get() == NOW

    house.gate.queue.put_nowait(GRACEFUL)
    getting = asyncio.ensure_future(house.get())
    await turns()
    assert not getting.done()
    house.gate.queue.put_nowait(event(2))
    house.gate.queue.put_nowait(NOW)
    assert await getting == NOW


@pytest.mark.asyncio
async def test_the_end_comes_with_the_end_of_the_term_or_with_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House()
    house.writes.wrote()
    house.gate.queue.put_nowait(GRACEFUL)
    getting = asyncio.ensure_future(house.get())
    await turns()
    house.end_term(1)
    assert await getting == GRACEFUL

    monkeypatch.setattr(gate, "QUIET_WITHIN", 0.01)
    house.begin_term()
    house.writes.wrote()
    house.gate.queue.put_nowait(GRACEFUL)
    assert await house.get() == GRACEFUL
    house.gate.state = None
    house.gate.queue.put_nowait(GRACEFUL)
    assert await house.get() == GRACEFUL
