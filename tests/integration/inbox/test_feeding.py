"""From an inbox through the gate into the journal, while leaders change.

Inbox, gate, leadership and journal are real, and so is the server. Of the
engine only what the gate sees is played: it takes an event and writes one
match for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import types
import uuid
from collections import Counter
from collections.abc import Generator
from typing import Any, AsyncIterator, Callable

import pytest
from clusters import LIMIT, Cluster, Leader, Worker, until

from ansible_rulebook.ha import Inbox
from ansible_rulebook.ha.election.leadership import Leadership
from ansible_rulebook.ha.election.term import Term
from ansible_rulebook.ha.inbox.delivery import Delivery, Row
from ansible_rulebook.ha.inbox.inbox import _feed
from ansible_rulebook.ha.rulebook.gate import EventGate, GatedQueue
from ansible_rulebook.ha.state import sql
from ansible_rulebook.ha.state.changes import Found
from ansible_rulebook.ha.state.seen import MOST, Seen

NAME = "posts"
RULESET = "rules"

Filter = Callable[[dict[str, Any]], list[dict[str, Any]]]


def as_it_is(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [event]


class Filtered:
    """What a source puts into: its filters, and then the gate."""

    def __init__(self, queue: GatedQueue, split: Filter) -> None:
        self._queue = queue
        self._split = split

    async def put(self, event: dict[str, Any]) -> None:
        for each in self._split(event):
            # Upstream's last filter adds this where it is not there.
            each.setdefault("meta", {}).setdefault("uuid", str(uuid.uuid4()))
            await self._queue.put(each)


class Store:
    """What a gate asks of the state's store, on a real journal."""

    def __init__(self, leader: Leader) -> None:
        self.journal = leader.journal
        self.seen = Seen()
        self.seen.restart(leader.claim.events)

    @property
    def is_recording(self) -> bool:
        self.journal.look()
        return not self.journal.is_over

    @property
    def is_behind(self) -> bool:
        return self.journal.is_behind

    def last_write(self) -> Any:
        return self.journal.last()

    def consumed(self, consumed: tuple[str, int, int]) -> None:
        self.journal.changes.consumed(*consumed)
        self.journal.wrote()


class Member:
    """A worker of the cluster, as far as events are concerned."""

    def __init__(self, worker: Worker, split: Filter, keeps_state: bool):
        self.worker = worker
        self.leadership = Leadership(self._never_asked)
        self.gate = EventGate(
            asyncio.Queue(maxsize=3),
            self.leadership,
            lambda item: False,
            lambda item: False,
        )
        self.inbox = Inbox(
            worker.cluster.dsn,
            worker.cluster.uuid,
            NAME,
            leadership=self.leadership,
        )
        self.queue = Filtered(GatedQueue(self.gate, None), split)
        self.keeps_state = keeps_state
        self.store: Store | None = None
        self.refuses: Callable[[dict[str, Any]], bool] = lambda event: False
        self.processed: list[int] = []
        self._over = False
        self._terms = 0

    @staticmethod
    async def _never_asked() -> bool:
        raise AssertionError("the server was asked")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Member]:
        async with self.inbox:
            tasks = [
                asyncio.ensure_future(self.inbox.feed(self.queue)),
                asyncio.ensure_future(self._read()),
            ]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                for task in tasks:
                    if not task.cancelled():
                        task.result()

    async def begin(self) -> None:
        self._terms += 1
        self._over = False
        self.term = Term(self._terms, 1.0, lambda: self._over, lambda: 0.0)
        self.leadership.begin(self.term)
        if self.keeps_state:
            leader = Leader(self.worker)
            self.number = leader.claim.term
            self.store = Store(leader)
            self.gate.state = self.store  # type: ignore[assignment]
            self.gate.settle(leader.claim.last_marks)
        self.leadership.announce()

    async def end(self, orderly: bool) -> None:
        """End the term, with the last transaction answered or not."""
        if orderly:
            self.leadership.turn_sources_away()
            await until(lambda: self.gate.is_idle, "all is processed")
        self.leadership.end()
        self._over = True
        self.gate.wake_all()
        if self.store is not None:
            if orderly:
                await self.store.journal.finish(LIMIT)
            else:
                self.store.journal.end()
            self.gate.recall(self.number)

    async def _read(self) -> None:
        while True:
            event = await self.gate.get()
            if self.refuses(event):
                self.gate.refuse()
                continue
            if self.store is None:
                self.processed.append(event["n"])
            elif not self.store.is_recording:
                self.gate.not_written()
            else:
                self._process(self.store, event)

    def _process(self, store: Store, event: dict[str, Any]) -> None:
        """As RecordedEngine and StateStore do it."""
        repeated = self.gate.is_repeated(RULESET)
        changes = store.journal.changes
        consumed = self.gate.done()
        if consumed is not None:
            changes.consumed(*consumed)
        if not repeated:
            self.processed.append(event["n"])
            key = self.gate.key(RULESET)
            assert key is not None
            changes.event(key)
            match = uuid.uuid4().bytes
            changes.found(Found(match, RULESET, str(event["n"]), "{}"))
        store.journal.wrote()
        self.gate.written()


def matches(cluster: Cluster) -> Counter[int]:
    """How often each event was processed, as it is stored."""
    found = cluster.query(
        f"SELECT rule::int, count(*) FROM {sql.MATCH}"
        " WHERE ha_uuid = %(ha_uuid)s GROUP BY 1"
    )
    return Counter(dict(found))


def left(cluster: Cluster) -> int:
    ((count,),) = cluster.query(
        f"SELECT count(*) FROM {sql.INBOX} WHERE ha_uuid = %(ha_uuid)s"
    )
    return int(count)


@contextlib.asynccontextmanager
async def members(
    cluster: Cluster, split: Filter = as_it_is, keeps_state: bool = True
) -> AsyncIterator[list[Member]]:
    made = [Member(cluster.worker(name), split, keeps_state) for name in "ab"]
    async with made[0].running(), made[1].running():
        yield made


async def some_more(
    leader: Member, more: int, posting: asyncio.Future[None]
) -> None:
    """Wait until so many more events are processed, or no more come."""
    enough = len(leader.processed) + more
    await until(
        lambda: len(leader.processed) >= enough or posting.done(),
        "some are processed",
    )


def in_three(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"n": event["n"] * 3 + part} for part in range(3)]


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("split", [as_it_is, in_three])
async def test_each_event_is_processed_once_while_leaders_change(
    cluster: Cluster, split: Filter, seed: int
) -> None:
    choose = random.Random(seed)
    count = 240
    async with members(cluster, split) as both:

        async def post() -> None:
            waiting = list(range(count))
            while waiting:
                some = [waiting.pop(0) for _ in waiting[:8]]
                await asyncio.gather(
                    *(choose.choice(both).inbox.put({"n": n}) for n in some)
                )

        posting = asyncio.ensure_future(post())
        leader, follower = both
        await leader.begin()
        while not posting.done():
            await some_more(leader, choose.randrange(1, 40), posting)
            await leader.end(orderly=choose.random() < 0.3)
            if choose.random() < 0.7:
                leader, follower = follower, leader
            await leader.begin()
        await posting
        await until(lambda: not left(cluster), "the inbox is empty")
        expected = count if split is as_it_is else 3 * count
        await until(
            lambda: matches(cluster) == Counter(range(expected)),
            "each is processed once",
        )
        for member in both:  # the inbox holds them, and the gate does not
            assert member.gate.held == member.gate.dropped_total == 0


@pytest.mark.asyncio
async def test_events_are_processed_in_the_order_of_their_arrival(
    cluster: Cluster,
) -> None:
    async with members(cluster) as (leader, other):
        await leader.begin()
        for number in range(100):
            await (leader, other)[number % 2].inbox.put({"n": number})
        await until(lambda: len(leader.processed) == 100, "all are")
        assert leader.processed == list(range(100))


@pytest.mark.asyncio
async def test_without_a_journal_each_is_processed_at_least_once(
    cluster: Cluster,
) -> None:
    async with members(cluster, keeps_state=False) as (one, two):
        posting = asyncio.gather(
            *(two.inbox.put({"n": number}) for number in range(200))
        )
        await one.begin()
        await until(lambda: len(one.processed) > 50, "some are processed")
        await one.end(orderly=False)
        await two.begin()
        await posting
        await until(lambda: not left(cluster), "the inbox is empty")
        assert {*one.processed, *two.processed} == set(range(200))


@pytest.mark.asyncio
@pytest.mark.parametrize("keeps_state", [True, False])
async def test_what_cannot_be_processed_does_not_stay(
    cluster: Cluster, keeps_state: bool
) -> None:
    def drop_some(event: dict[str, Any]) -> list[dict[str, Any]]:
        if event["n"] == 3:
            raise KeyError("a filter that fails")
        return [] if event["n"] == 2 else [event]

    async with members(cluster, drop_some, keeps_state) as (leader, _):
        leader.refuses = lambda event: event["n"] == 1
        await leader.begin()
        for number in range(5):
            await leader.inbox.put({"n": number})
        await until(lambda: not left(cluster), "the inbox is empty")
        assert leader.processed == [0, 4]


def test_a_feeder_that_is_forgotten_deletes_nothing() -> None:
    deleted: list[Row] = []
    row = Row(NAME, 1)
    delivery = Delivery(row, {}, 0.0, None, deleted.append)
    feeder = _feed(Forgetful(), Giving(delivery))  # type: ignore[arg-type]
    contextvars.copy_context().run(feeder.send, None)
    feeder.close()  # as when it is garbage, in whatever context
    assert deleted == []


class Giving:
    """Gives one event."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    async def take(self) -> Delivery:
        return self._delivery


class Forgetful:
    """A queue that never has room."""

    @types.coroutine
    def put(self, event: Any) -> Generator[None, None, None]:
        yield


def count_reads(member: Member) -> asyncio.Semaphore:
    """Its engine asks for as many events as this allows, none at first."""
    reads = asyncio.Semaphore(0)
    get = member.gate.get

    async def get_when_allowed() -> Any:
        await reads.acquire()
        return await get()

    member.gate.get = get_when_allowed
    return reads


def allow_all(reads: asyncio.Semaphore) -> None:
    for _ in range(1000):
        reads.release()


@pytest.mark.asyncio
async def test_a_handover_does_not_wait_for_what_stays_in_the_inbox(
    cluster: Cluster,
) -> None:
    async with members(cluster) as (leader, other):
        reads = count_reads(leader)
        for number in range(20):
            await leader.inbox.put({"n": number})
        await leader.begin()
        await until(leader.gate.queue.full, "the source waits to put")
        assert not leader.gate.has_puts_under_way
        allow_all(reads)
        await leader.end(orderly=True)
        await other.begin()
        await until(
            lambda: matches(cluster) == Counter(range(20)), "each once"
        )


@pytest.mark.asyncio
async def test_what_was_not_read_in_a_term_is_not_read_in_the_next(
    cluster: Cluster,
) -> None:
    async with members(cluster) as (leader, _):
        reads = count_reads(leader)
        for number in range(20):
            await leader.inbox.put({"n": number})
        await leader.begin()
        await until(leader.gate.queue.full, "the source waits to put")
        await leader.end(orderly=False)
        await leader.begin()  # and takes them again
        allow_all(reads)
        await until(lambda: not left(cluster), "the inbox is empty")
        assert matches(cluster) == Counter(range(20))


@pytest.mark.asyncio
async def test_a_part_that_was_processed_is_not_processed_again(
    cluster: Cluster,
) -> None:
    async with members(cluster, in_three) as (leader, other):
        count_reads(leader)  # from its second one on
        await leader.inbox.put({"n": 0})
        await leader.begin()
        await until(lambda: matches(cluster)[0], "the first part is stored")
        assert left(cluster) == 1
        await leader.end(orderly=False)
        await other.begin()
        await until(lambda: not left(cluster), "the inbox is empty")
        assert matches(cluster) == Counter(range(3))
        assert other.processed == [1, 2]


@pytest.mark.asyncio
async def test_no_part_is_processed_twice_however_many_there_are(
    cluster: Cluster,
) -> None:
    count = 2 * MOST

    def split(event: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"n": number} for number in range(count)]

    async with members(cluster, split) as (leader, other):
        await leader.inbox.put({})
        await leader.begin()
        await until(
            lambda: len(leader.processed) > 1.5 * MOST, "most are processed"
        )
        await leader.end(orderly=False)
        await other.begin()
        await until(lambda: not left(cluster), "the inbox is empty")
        assert matches(cluster) == Counter(range(count))
        assert other.gate.repeated_total


@pytest.mark.asyncio
@pytest.mark.parametrize("keeps_state", [True, False])
async def test_a_filter_may_give_one_object_twice(
    cluster: Cluster, keeps_state: bool
) -> None:
    async with members(cluster, lambda event: [event, event], keeps_state) as (
        leader,
        _,
    ):
        await leader.begin()
        for number in range(3):
            await leader.inbox.put({"n": number})
        await until(lambda: not left(cluster), "the inbox is empty")
        assert leader.processed == [0, 0, 1, 1, 2, 2]
