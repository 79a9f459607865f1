"""What others send must not reach the session that holds the lock."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from typing import Any

import psycopg
import pytest
from elections import (
    LIMIT,
    follows,
    hand_over,
    leads,
    make,
    one_leads,
    pair,
    running,
    until,
)
from psycopg import AsyncConnection

from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.beacon import Beacon
from ansible_rulebook.ha.election.election_log import ElectionLog
from ansible_rulebook.ha.election.elector import Elector
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.listener import Listener
from ansible_rulebook.ha.election.lock import AdvisoryLock
from ansible_rulebook.ha.election.names import (
    HEARING,
    NOMINATION,
    application_name,
    lock_key,
)
from ansible_rulebook.ha.election.observer import Observer
from ansible_rulebook.ha.election.requests import Request, request_channel
from ansible_rulebook.ha.operations.switchover import Refused, Switchover

pytestmark = pytest.mark.asyncio


async def hears(server: Any, election: LeaderElection) -> None:
    """Wait until the leader listens to those who ask."""
    key = lock_key(election.ha_uuid)
    name = application_name(key, election.worker_id, kind=HEARING)
    await until(
        lambda: any(
            each.state == "idle" and each.query.startswith("LISTEN")
            for each in server.sessions(f"{name}%")
        ),
        f"{election} hears",
    )


async def has_heard_all(dsn: str, ha_uuid: str) -> None:
    """Wait for an answer: the leader answers one request after the other."""
    with pytest.raises(Refused, match="no worker nobody is there"):
        await hand_over(dsn, ha_uuid, Request(to="nobody"))


async def test_a_request_is_repeated_until_it_is_heard(
    server: Any, dsn: str, ha_uuid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_listen, asked = asyncio.Event(), list[Request]()
    open_at_once = Listener.open

    async def open_late(*args: Any) -> Listener:
        await may_listen.wait()
        return await open_at_once(*args)

    monkeypatch.setattr(Listener, "open", open_late)
    leader = make(dsn, ha_uuid, "w1", on_request=asked.append)
    async with pair(leader, make(dsn, ha_uuid, "w2")):
        asking = asyncio.ensure_future(hand_over(dsn, ha_uuid, Request("w2")))
        name = application_name(
            lock_key(leader.ha_uuid), "w2", kind=NOMINATION
        )
        await until(
            lambda: any(
                "advisory" in each.query  # it looks, so it has asked
                for each in server.sessions(f"{name}%")
            ),
            "it has asked",
        )
        may_listen.set()
        await until(lambda: bool(asked), "it is heard")
        leader.request_step_down()
        assert (await asyncio.wait_for(asking, LIMIT)).after.worker == "w2"
        assert len(asked) == 1


async def test_a_request_that_is_repeated_is_granted_once(
    server: Any, dsn: str, ha_uuid: str
) -> None:
    asked: list[Request] = []
    leader = make(dsn, ha_uuid, "w1", on_request=asked.append)
    async with (
        pair(leader, make(dsn, ha_uuid, "w2")),
        Switchover(
            Conninfo(dsn), uuid.UUID(ha_uuid), Request("w2")
        ) as switchover,
    ):
        await hears(server, leader)
        holder = await switchover.leader()
        await switchover.ask(holder)
        await switchover.ask(holder)
        with pytest.raises(Refused, match="is handing over to w2 already"):
            await hand_over(dsn, ha_uuid, Request())
        assert len(asked) == 1
        await switchover.holder()  # and hears the answers
        switchover.check_answer()


async def test_one_request_is_one_switchover(
    server: Any, dsn: str, ha_uuid: str
) -> None:
    """The next leader must not grant it again."""
    first, second, third = (make(dsn, ha_uuid, f"w{n}") for n in (1, 2, 3))
    async with (
        pair(first, second),
        running(third),
        Switchover(
            Conninfo(dsn), uuid.UUID(ha_uuid), Request(by="me")
        ) as switchover,
    ):
        await follows(third)
        await hears(server, first)
        await switchover.run(LIMIT)
        leader = await one_leads((second, third))
        term = leader.term
        await hears(server, leader)
        await has_heard_all(dsn, ha_uuid)
        assert leader.is_leader() and leader.term is term


async def test_an_old_request_is_forgotten(
    server: Any, dsn: str, ha_uuid: str
) -> None:
    """What was asked of an earlier leader does not count."""
    w0, w1, w2 = (make(dsn, ha_uuid, f"w{n}") for n in range(3))
    async with pair(w0, w1):
        await hears(server, w0)
        server.query(  # for any leader; refused by w0: there is no w2
            "SELECT pg_notify(%s, %s)",
            (
                request_channel(lock_key(w0.ha_uuid)),
                Request(to="w2").payload(),
            ),
            dsn=dsn,
        )
        await has_heard_all(dsn, ha_uuid)
        async with running(w2):
            await follows(w2)
            await w0.step_down()
            leader = await one_leads((w1, w2))
            await hears(server, leader)
            await has_heard_all(dsn, ha_uuid)
            assert w1.is_leader(), (w1, w2)


async def test_strangers_do_not_keep_a_request_from_being_answered(
    server: Any, dsn: str, ha_uuid: str
) -> None:
    """Each of them is answered at once."""
    role = f"r{uuid.uuid4().hex[:8]}"
    server.query(f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'")
    strange = psycopg.conninfo.make_conninfo(dsn, user=role, password="sesame")
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        await hears(server, first)
        channel = request_channel(lock_key(first.ha_uuid))
        async with await AsyncConnection.connect(
            strange, autocommit=True
        ) as stranger:
            await stranger.execute(
                "SELECT pg_notify(%s, json_build_object("
                "'ask', 'switchover', 'reason', n::text)::text)"
                " FROM generate_series(1, 60) AS n",
                (channel,),
            )
            # It comes behind the 60: a second for each would be too long.
            began = time.monotonic()
            await hand_over(dsn, ha_uuid, Request(to="w2"))
            assert time.monotonic() < began + 30


async def test_a_nominee_that_is_gone_keeps_nobody_from_leading(
    dsn: str, ha_uuid: str
) -> None:
    """A worker that has asked for the lead, and is then paused."""
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with (
        pair(first, second),
        Switchover(Conninfo(dsn), uuid.UUID(ha_uuid), Request(to="paused")),
    ):
        began = time.monotonic()
        await first.step_down()
        await until(lambda: first.is_leader() or second.is_leader(), limit=20)
        took = time.monotonic() - began
        assert took < 2.1 + 0.4 + 1, took


async def test_an_observer_is_not_nominated(dsn: str, ha_uuid: str) -> None:
    """A worker that never leads is none that could."""

    key = uuid.UUID(ha_uuid)
    lock = AdvisoryLock(Conninfo(dsn), key, "never", Timings(0.4, 2.1))
    observer = Elector(
        lock,
        ElectionLog("never", key),
        about=Beacon(worker="never", priority=0),
    )
    leader = make(dsn, ha_uuid, "w1")
    async with running(leader):
        await leads(leader)
        observer.contend()
        # Its last statement says by now what its priority is.
        await until(lambda: observer.view().leader == "w1", "it looks")
        async with Switchover(
            Conninfo(dsn), key, Request(to="never")
        ) as switchover:
            with pytest.raises(Refused, match="no worker never is there"):
                await switchover.run(6)
        assert leader.is_leader()
        await observer.stop()


async def test_an_observer_that_raises_does_not_end_the_election(
    dsn: str, ha_uuid: str
) -> None:

    renewals: list[float] = []

    class Bad(Observer):
        def renewed(self, seconds: float) -> None:
            renewals.append(seconds)
            raise OSError("no space left on device")

    key = uuid.UUID(ha_uuid)
    lock = AdvisoryLock(Conninfo(dsn), key, "w1", Timings(0.4, 2.1))
    elector = Elector(lock, ElectionLog("w1", key), observer=Bad())
    elector.contend()
    await until(elector.is_leader, "it leads")
    await until(lambda: len(renewals) > 3, "it has renewed")
    assert elector.is_leader()
    await elector.stop()


@pytest.mark.parametrize("socket", ["tcp", "unix"])
async def test_a_flood_does_not_keep_a_paused_leaders_lock(
    embedded_factory: Any, ha_uuid: str, socket: str, tmp_path: Any
) -> None:
    """A server that waits to send does not look at the idle time."""
    import tempfile

    sockets = tempfile.mkdtemp(dir="/tmp")
    os.chmod(sockets, 0o777)
    server = embedded_factory({"unix_socket_directories": sockets})
    dsn = server.create_database()
    if socket == "unix":
        dsn = psycopg.conninfo.make_conninfo(dsn, host=sockets)
    key = uuid.UUID(ha_uuid)
    lock = AdvisoryLock(Conninfo(dsn), key, "w1", Timings(0.4, 2.1))
    session = await lock.open()
    assert await session.try_acquire()
    assert await session.prove()
    # From here on nobody reads: as if this process was paused.
    async with await AsyncConnection.connect(dsn, autocommit=True) as other:
        await other.execute(
            "SELECT pg_notify(%s, n || repeat('x', 7000))"
            " FROM generate_series(1, 3000) AS n",
            (request_channel(lock.key),),
        )
        began = time.monotonic()
        free = False
        while time.monotonic() < began + 12 and not free:
            cursor = await other.execute(
                "SELECT pg_try_advisory_lock(%s)", (lock.key,)
            )
            free = (await cursor.fetchone())[0]
            await asyncio.sleep(0.05)
        took = time.monotonic() - began
        session.abort()
        await session.close()
        assert free and took < 2.1 + 0.5, (free, took)


async def test_notifications_do_not_hide_the_last_word(
    dsn: str, ha_uuid: str
) -> None:
    """The server's last error would stand behind them."""
    key = uuid.UUID(ha_uuid)
    lock = AdvisoryLock(Conninfo(dsn), key, "w1", Timings(0.4, 2.1))
    for _ in range(20):
        session = await lock.open()
        assert await session.try_acquire()
        assert await session.prove()
        # The loop stands still meanwhile, so nobody reads what has come.
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute(
                "SELECT pg_notify(%s, n || repeat('x', 2000))"
                " FROM generate_series(1, 200) AS n",
                (request_channel(lock.key),),
            )
            with psycopg.connect(dsn, autocommit=True) as killer:
                killer.execute(
                    "SELECT pg_terminate_backend(%s)", (session.backend_pid,)
                )
            other.execute("SELECT pg_advisory_lock(%s)", (lock.key,))
            assert session.is_over(), "another one has the lock by now"
        await session.close()
