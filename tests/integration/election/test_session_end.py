"""Whether a session is over, as any thread may ask: over TLS and without."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import pytest_asyncio
from elections import LIMIT, until
from rig.server import TEST_BIN, EmbeddedRig
from rig.tls import plain, system_binaries

from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.lock import AdvisoryLock
from ansible_rulebook.ha.election.session import LockSession
from ansible_rulebook.ha.errors import SessionLost

pytestmark = pytest.mark.asyncio

ROUNDS = 20
CHANNEL = "unasked"


@pytest.fixture(scope="module")
def tls_server() -> Iterator[EmbeddedRig]:
    if not (os.environ.get(TEST_BIN) or system_binaries()):
        pytest.skip("there is no PostgreSQL with TLS; Debian's has it")
    with EmbeddedRig(tls=True) as made:
        yield made


@pytest.fixture(params=["plain", "tls"])
def place(request: pytest.FixtureRequest) -> str:
    """The DSN of a server, and of one to which only TLS leads."""
    if request.param == "plain":
        return plain(request.getfixturevalue("dsn"))
    return str(request.getfixturevalue("tls_server").dsn)


@pytest.fixture
def lock(place: str, ha_uuid: str) -> AdvisoryLock:
    cluster = uuid.UUID(ha_uuid)
    return AdvisoryLock(Conninfo(place), cluster, "w1", Timings(5.0, 30.0))


@pytest_asyncio.fixture
async def session(
    place: str, lock: AdvisoryLock
) -> AsyncIterator[LockSession]:
    """One that holds the lock."""
    made = await lock.open()
    assert await made.try_acquire()
    assert await made.prove()
    assert made._connection.pgconn.ssl_in_use is ("verify" in place)
    yield made
    await made.close()


def end(place: str, session: LockSession) -> None:
    with psycopg.connect(place, autocommit=True) as killer:
        killer.execute(
            "SELECT pg_terminate_backend(%s)", (session.backend_pid,)
        )


def end_and_take(place: str, session: LockSession, lock: AdvisoryLock) -> None:
    """Another one gets the lock, and the session is over by then."""
    with psycopg.connect(place, autocommit=True) as other:
        end(place, session)
        other.execute("SELECT pg_advisory_lock(%s)", (lock.key,))
        assert session.is_over()


async def test_one_that_says_nothing_is_not_over(session: LockSession) -> None:
    assert not session.is_over()
    assert await session.prove()
    assert not session.is_over()


@pytest.mark.parametrize("besides", [0, 100])
async def test_it_is_over_before_another_one_has_the_lock(
    place: str, lock: AdvisoryLock, besides: int
) -> None:
    """What the server says besides does not hide the end."""
    for _ in range(ROUNDS):
        session = await lock.open()
        assert await session.try_acquire()
        await session.fetch(f"LISTEN {CHANNEL}")
        # The loop stands still from here on, so nobody else reads.
        with psycopg.connect(place, autocommit=True) as other:
            other.execute(
                f"SELECT pg_notify('{CHANNEL}', n || repeat('x', 1000))"
                " FROM generate_series(1, %s) AS n",
                (besides,),
            )
            end_and_take(place, session, lock)
        await session.close()


async def test_what_the_server_says_besides_is_not_the_end(
    place: str, session: LockSession
) -> None:
    await session.fetch(f"LISTEN {CHANNEL}")
    with psycopg.connect(place, autocommit=True) as other:
        other.execute(f"NOTIFY {CHANNEL}")
    await until(lambda: bool(session._news.poll(0)), "it has come")
    assert not session.is_over()
    assert not session._news.poll(0)  # it was read
    assert await session.prove()


async def test_the_servers_words_are_kept_for_who_reports_the_end(
    place: str, session: LockSession
) -> None:
    end(place, session)
    await until(session.is_over, "the end is seen")
    with pytest.raises(SessionLost, match="administrator command"):
        session.drain()


async def test_an_answer_reaches_who_asked_whoever_reads_it(
    session: LockSession,
) -> None:
    """Threads ask all the time, and read what the loop waits for."""
    done = threading.Event()

    def has_ended() -> bool:
        answers = {session.is_over() for _ in iter(done.is_set, True)}
        return True in answers

    with ThreadPoolExecutor() as pool:
        askers = [pool.submit(has_ended) for _ in range(3)]
        try:
            for _ in range(200):
                assert await asyncio.wait_for(session.prove(), LIMIT)
                asking = session.fetch("SELECT 1")
                assert await asyncio.wait_for(asking, LIMIT) == [(1,)]
        finally:
            done.set()
        assert not any(each.result() for each in askers)


async def test_an_end_in_place_of_an_answer_is_told_to_who_asked(
    place: str, lock: AdvisoryLock
) -> None:
    for _ in range(ROUNDS):
        session = await lock.open()
        assert await session.try_acquire()
        proving = asyncio.ensure_future(
            session._ask("SELECT pg_catalog.pg_sleep(30)")
        )
        await asyncio.sleep(0)  # it is sent
        end(place, session)
        while not session.is_over():  # reads it, while the loop stands still
            pass
        with pytest.raises(psycopg.OperationalError, match="terminating"):
            await asyncio.wait_for(proving, LIMIT)
        await session.close()


async def test_an_end_right_behind_an_answer_is_seen(
    place: str, lock: AdvisoryLock
) -> None:
    for _ in range(ROUNDS):
        session = await lock.open()
        assert await session.try_acquire()
        asking = asyncio.ensure_future(session._ask("SELECT 1"))
        await asyncio.sleep(0)  # it is sent, and the loop stands still
        end_and_take(place, session, lock)
        await asyncio.wait({asking}, timeout=LIMIT)
        if asking.exception() is None:
            assert asking.result() == [b"1"]
        await session.close()


async def test_an_error_to_a_question_that_may_fail_is_not_the_end(
    session: LockSession,
) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        await session.attempt("SELECT FROM no_such_table")
    assert not session.is_over()
    assert await session.prove()


async def test_a_crash_is_the_end(embedded_server: EmbeddedRig) -> None:
    # The server sends a notice before the end, and no last error.
    place = embedded_server.dsn
    cluster = uuid.uuid4()
    lock = AdvisoryLock(Conninfo(place), cluster, "w1", Timings(5.0, 30.0))
    session = await lock.open()
    assert await session.try_acquire()
    embedded_server.restart("immediate")
    assert session.is_over()
    with pytest.raises(SessionLost):
        session.drain()
    await session.close()


async def test_an_aborted_session_is_over_and_stays_so(
    session: LockSession,
) -> None:
    session.abort()
    session.abort()
    assert session.is_over()


async def test_a_descriptor_that_was_used_again_is_not_ours(
    session: LockSession,
) -> None:
    number = session.fileno()
    session.abort()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        other = os.dup(ours.fileno())
        try:
            assert number in (other, ours.fileno(), theirs.fileno())
            assert session.is_over()
        finally:
            os.close(other)


async def test_asking_never_waits_whatever_the_process_set_as_default(
    lock: AdvisoryLock,
) -> None:
    socket.setdefaulttimeout(3.0)
    try:
        session = await lock.open()
        begun = time.monotonic()
        assert not session.is_over()
        assert time.monotonic() - begun < 1.0
        await session.close()
    finally:
        socket.setdefaulttimeout(None)


async def test_a_socket_that_somebody_has_closed_is_the_end(
    session: LockSession,
) -> None:
    session._socket.close()
    assert session.is_over()
