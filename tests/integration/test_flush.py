"""Flushes of a real server's log, and servers that crash before one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any, Callable

import psycopg
import pytest
from rig.proxy import Proxy
from rig.server import EmbeddedRig

from ansible_rulebook.ha.errors import ServerUnavailable
from ansible_rulebook.ha.flush import Flush, Mark

LIMIT = 30.0  # seconds; what takes longer than that has failed
LOOK_EVERY = 0.01  # seconds
NAME = "flush-under-test"
# So that nothing but a flush brings a commit to the disk.
LAZY = {"wal_writer_delay": "10s", "autovacuum": "off", "fsync": "on"}
FLUSHING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
    " AND datname = current_database()"
)

Session = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def lazy_server() -> Iterator[EmbeddedRig]:
    with EmbeddedRig(LAZY) as made:
        yield made


class Engine:
    """A session that commits as the rule engine's do."""

    def __init__(self, server: EmbeddedRig) -> None:
        server.start()
        self.server = server
        self.dsn = server.create_database()
        with closing(self.session()) as session:
            session.execute("CREATE TABLE written (number int)")
            session.execute("CHECKPOINT")
        self._own = self.session(options="-csynchronous_commit=off")

    def session(self, **options: str) -> Session:
        return psycopg.connect(self.dsn, autocommit=True, **options)

    def write(self, number: int) -> None:
        self._own.execute("INSERT INTO written VALUES (%s)", (number,))

    def crash(self) -> None:
        self.server.stop("immediate")
        self.server.start()

    def written(self) -> list[int]:
        with closing(self.session()) as session:
            query = "SELECT number FROM written ORDER BY number"
            return [number for (number,) in session.execute(query)]

    def flushing(self) -> int:
        """The server's process for the flushes."""
        with closing(self.session()) as session:
            rows = session.execute(FLUSHING, (NAME,)).fetchall()
        ((pid,),) = rows
        return int(pid)


@pytest.fixture
def engine(lazy_server: EmbeddedRig) -> Engine:
    return Engine(lazy_server)


class Flushes:
    """The flushes under test, and what they told of."""

    def __init__(self, dsn: str, limit: float = LIMIT) -> None:
        self.dsn = dsn
        self.failures: list[Exception] = []
        self.sessions = 0
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.flush = Flush(self._connect, limit, self.failures.append)

    async def _connect(self) -> Session:
        await self.may_connect.wait()
        self.sessions += 1
        try:
            return psycopg.connect(
                self.dsn, autocommit=True, application_name=NAME
            )
        except psycopg.Error as error:
            raise ServerUnavailable(str(error)) from None


@asynccontextmanager
async def flushes(dsn: str, limit: float = LIMIT) -> AsyncIterator[Flushes]:
    made = Flushes(dsn, limit)
    await made.flush.open()
    try:
        yield made
    finally:
        made.flush.end()


async def is_safe(mark: Mark) -> bool:
    return await asyncio.wait_for(mark.is_safe(), LIMIT)


async def until(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline, why
        await asyncio.sleep(LOOK_EVERY)


def test_a_commit_that_nobody_flushed_is_lost_in_a_crash(
    engine: Engine,
) -> None:
    # What all this is for; and the server of these tests is slow enough.
    engine.write(1)
    assert engine.written() == [1]
    engine.crash()
    assert engine.written() == []


@pytest.mark.asyncio
async def test_what_is_safe_survives_a_crash(engine: Engine) -> None:
    async with flushes(engine.dsn) as each:
        for number in range(5):
            engine.write(number)
            mark = each.flush.wrote()
        assert not mark.is_known_safe
        assert await is_safe(mark)
        engine.crash()
        assert engine.written() == [0, 1, 2, 3, 4]
        assert not each.failures


@pytest.mark.asyncio
async def test_each_mark_is_answered_and_in_few_flushes(
    engine: Engine,
) -> None:
    async with flushes(engine.dsn) as each:
        marks = [each.flush.wrote() for _ in range(500)]
        answers = asyncio.gather(*map(is_safe, reversed(marks)))
        assert all(await answers)
        assert each.flush.last().is_known_safe


@pytest.mark.asyncio
async def test_a_flush_answers_for_what_was_written_before_it(
    engine: Engine,
) -> None:
    async with flushes(engine.dsn) as each:
        before, after = each.flush.wrote(), each.flush.wrote()
        assert await before.is_safe()
        assert not after.is_known_safe  # the first flush was on its way
        assert await is_safe(after)


@pytest.mark.asyncio
async def test_a_server_that_crashes_before_its_answer_makes_it_fail(
    engine: Engine,
) -> None:
    async with flushes(engine.dsn) as each:
        assert await is_safe(each.flush.wrote())
        os.kill(engine.flushing(), signal.SIGSTOP)
        engine.write(1)
        first = each.flush.wrote()
        engine.write(2)
        second = each.flush.wrote()
        # A crash of one process; the server ends all and starts them anew.
        os.kill(engine.flushing(), signal.SIGKILL)
        assert not await is_safe(first)
        assert not await is_safe(second)
        assert len(each.failures) == 1
        assert not await is_safe(each.flush.wrote())
        assert len(each.failures) == 1
    await until(lambda: engine_is_up(engine), "it starts again")
    assert engine.written() == []


def engine_is_up(engine: Engine) -> bool:
    try:
        engine.session().close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.asyncio
async def test_no_answer_in_time_is_a_failure(
    engine: Engine, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(engine.dsn)
    async with flushes(network.dsn, limit=0.5) as each:
        assert await is_safe(each.flush.wrote())
        network.deaf()
        assert not await is_safe(each.flush.wrote())
        assert len(each.failures) == 1
        assert "in time" in str(each.failures[0])


@pytest.mark.asyncio
async def test_a_session_that_ends_when_nothing_is_at_stake_is_replaced(
    engine: Engine,
) -> None:
    async with flushes(engine.dsn) as each:
        assert await is_safe(each.flush.wrote())
        ended = engine.flushing()
        with closing(engine.session()) as session:
            session.execute("SELECT pg_terminate_backend(%s, 10000)", (ended,))
        await until(
            lambda: each.sessions == 2 and each.flush.is_ready,
            "another session",
        )
        assert engine.flushing() != ended
        engine.write(1)
        assert await is_safe(each.flush.wrote())
        assert not each.failures


@pytest.mark.asyncio
async def test_a_write_before_there_is_another_session_may_be_lost(
    engine: Engine,
) -> None:
    async with flushes(engine.dsn) as each:
        assert await is_safe(each.flush.wrote())
        each.may_connect.clear()
        engine.crash()
        await until(lambda: not each.flush.is_ready, "it notices")
        assert not await is_safe(each.flush.wrote())
        assert len(each.failures) == 1


@pytest.mark.asyncio
async def test_a_lost_write_is_known_before_the_next_one(
    engine: Engine,
) -> None:
    async with flushes(engine.dsn) as each:
        assert await is_safe(each.flush.wrote())
        os.kill(engine.flushing(), signal.SIGSTOP)
        each.flush.wrote()
        # The event loop is blocked all the time.
        engine.crash()
        assert not each.failures
        each.flush.look()
        assert len(each.failures) == 1


@pytest.mark.asyncio
async def test_the_end_waits_for_what_is_under_way(engine: Engine) -> None:
    async with flushes(engine.dsn) as each:
        engine.write(1)
        mark = each.flush.wrote()
        await asyncio.wait_for(each.flush.finish(LIMIT), LIMIT)
        assert await is_safe(mark)
        assert not await is_safe(each.flush.wrote())
        assert not each.failures


@pytest.mark.asyncio
async def test_the_end_does_not_wait_for_ever(
    engine: Engine, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(engine.dsn)
    async with flushes(network.dsn) as each:
        assert await is_safe(each.flush.wrote())
        network.deaf()
        mark = each.flush.wrote()
        waiting = asyncio.ensure_future(is_safe(mark))
        await asyncio.wait_for(each.flush.finish(0.2), LIMIT)
        assert not await waiting
        assert not each.failures


@pytest.mark.asyncio
async def test_what_is_written_while_it_connects_is_flushed_then(
    engine: Engine,
) -> None:
    each = Flushes(engine.dsn)
    mark = each.flush.wrote()
    each.may_connect.clear()
    opening = asyncio.ensure_future(each.flush.open())
    waiting = asyncio.ensure_future(is_safe(mark))
    await asyncio.sleep(0)
    assert not waiting.done()
    each.may_connect.set()
    await asyncio.wait_for(opening, LIMIT)
    assert await waiting
    each.flush.end()
