"""A leader that is asked to hand over, and who may ask."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from elections import (
    LIMIT,
    Referee,
    follows,
    leads,
    make,
    pair,
    running,
    until,
)
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.names import lock_key
from ansible_rulebook.ha.election.requests import Request
from ansible_rulebook.ha.operations.switchover import (
    Refused,
    Switchover,
    Unanswered,
)

pytestmark = pytest.mark.asyncio


async def ask(dsn: str, ha_uuid: str, request: Request) -> Any:
    async with Switchover(
        Conninfo(dsn), uuid.UUID(ha_uuid), request
    ) as switchover:
        return await switchover.run(LIMIT)


async def test_the_nominated_worker_leads_next(dsn: str, ha_uuid: str) -> None:
    workers = [make(dsn, ha_uuid, f"w{n}") for n in range(4)]
    with Referee(*workers) as referee:
        async with running(workers[0]):
            await leads(workers[0])
            async with running(*workers[1:]):
                for follower in workers[1:]:
                    await follows(follower)
                # In the order in which they wait, w1 would be the next.
                handed = await ask(dsn, ha_uuid, Request(to="w3", by="me"))
                assert handed.before.worker == "w0"
                assert handed.after.worker == "w3"
                assert workers[3].is_leader()
                again = await ask(dsn, ha_uuid, Request(to="w1"))
                assert again.after.worker == "w1"
    assert not referee.overlaps


async def test_a_request_that_cannot_be_done_is_refused(
    dsn: str, ha_uuid: str
) -> None:
    leader = make(dsn, ha_uuid, "w1")
    with pytest.raises(Refused, match="nobody leads"):
        await ask(dsn, ha_uuid, Request())
    async with running(leader):
        await leads(leader)
        with pytest.raises(Refused, match="no worker is there"):
            await ask(dsn, ha_uuid, Request())
        with pytest.raises(Refused, match="no worker w7 is there"):
            await ask(dsn, ha_uuid, Request(to="w7"))
        with pytest.raises(Refused, match="w1 leads already"):
            await ask(dsn, ha_uuid, Request(to="w1"))
        assert leader.is_leader()


async def test_who_could_not_end_its_session_is_refused(
    server: Any, dsn: str, ha_uuid: str
) -> None:
    role, friend = (f"r{uuid.uuid4().hex[:8]}" for _ in range(2))
    for name in (role, friend):
        server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame'")
    server.query(f"GRANT pg_signal_backend TO {friend}")
    theirs = make_conninfo(dsn, user=role, password="sesame")
    friendly = make_conninfo(dsn, user=friend, password="sesame")
    first = make(theirs, ha_uuid, "w1")
    second = make(theirs, ha_uuid, "w2")
    async with pair(first, second):
        stranger = f"s{uuid.uuid4().hex[:8]}"
        server.query(f"CREATE ROLE {stranger} LOGIN PASSWORD 'sesame'")
        strange = make_conninfo(dsn, user=stranger, password="sesame")
        with pytest.raises(Refused, match=f"role {stranger} may not"):
            await ask(strange, ha_uuid, Request(by="root\x1b[31m"))
        assert first.is_leader()
        handed = await ask(theirs, ha_uuid, Request())
        assert handed.after.worker == "w2"
        await follows(first)
        handed = await ask(friendly, ha_uuid, Request())
        assert handed.after.worker == "w1"


async def test_a_leader_that_is_deaf_is_told_from_one_that_refuses(
    dsn: str, ha_uuid: str
) -> None:
    async with await AsyncConnection.connect(dsn, autocommit=True) as deaf:
        key = lock_key(uuid.UUID(ha_uuid))
        await deaf.execute("SELECT pg_advisory_lock(%s)", (key,))
        async with Switchover(
            Conninfo(dsn), uuid.UUID(ha_uuid), Request()
        ) as switchover:
            with pytest.raises(Unanswered):
                await switchover.run(0.5)


async def test_a_nomination_that_nobody_follows_ends_with_its_session(
    dsn: str, ha_uuid: str
) -> None:
    worker = make(dsn, ha_uuid, "w1")
    async with (
        Switchover(Conninfo(dsn), uuid.UUID(ha_uuid), Request(to="gone")),
        running(worker),
    ):
        await follows_nobody(worker)
        assert not worker.is_leader()
    worker = make(dsn, ha_uuid, "w1")
    async with running(worker):
        await leads(worker)


async def follows_nobody(worker: LeaderElection) -> None:
    candidate = worker._candidate
    await until(
        lambda: candidate._yield_until > float("-inf"), "it has yielded"
    )
    await asyncio.sleep(0)
