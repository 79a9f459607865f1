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
    hand_over,
    leads,
    make,
    pair,
    running,
    until,
)
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.names import application_name, lock_key
from ansible_rulebook.ha.election.requests import Request
from ansible_rulebook.ha.operations.switchover import (
    Refused,
    Switchover,
    Unanswered,
)
from ansible_rulebook.ha.redaction import LONGEST

pytestmark = pytest.mark.asyncio


async def test_the_nominated_worker_leads_next(dsn: str, ha_uuid: str) -> None:
    workers = [make(dsn, ha_uuid, f"w{n}") for n in range(4)]
    with Referee(*workers) as referee:
        async with running(workers[0]):
            await leads(workers[0])
            async with running(*workers[1:]):
                for follower in workers[1:]:
                    await follows(follower)
                # In the order in which they wait, w1 would be the next.
                handed = await hand_over(
                    dsn, ha_uuid, Request(to="w3", by="me")
                )
                assert handed.before.worker == "w0"
                assert handed.after.worker == "w3"
                assert workers[3].is_leader()
                again = await hand_over(dsn, ha_uuid, Request(to="w1"))
                assert again.after.worker == "w1"
    assert not referee.overlaps


async def test_a_request_that_cannot_be_done_is_refused(
    dsn: str, ha_uuid: str
) -> None:
    leader = make(dsn, ha_uuid, "w1")
    with pytest.raises(Refused, match="nobody leads"):
        await hand_over(dsn, ha_uuid, Request())
    async with running(leader):
        await leads(leader)
        with pytest.raises(Refused, match="no worker is there"):
            await hand_over(dsn, ha_uuid, Request())
        with pytest.raises(Refused, match="no worker w7 is there"):
            await hand_over(dsn, ha_uuid, Request(to="w7"))
        with pytest.raises(Refused, match="w1 leads already"):
            await hand_over(dsn, ha_uuid, Request(to="w1"))
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
            await hand_over(strange, ha_uuid, Request(by="root\x1b[31m"))
        assert first.is_leader()
        handed = await hand_over(theirs, ha_uuid, Request())
        assert handed.after.worker == "w2"
        await follows(first)
        handed = await hand_over(friendly, ha_uuid, Request())
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
            with pytest.raises(Refused, match="is no worker"):
                await switchover.run(0.5)
            name = application_name(key, "w1", "12345678")
            await deaf.execute(f"SET application_name = '{name}'")
            with pytest.raises(Unanswered, match="w1 leads now, and has not"):
                await switchover.run(0.5)


async def test_a_nomination_of_a_worker_that_is_not_there_does_not_count(
    dsn: str, ha_uuid: str
) -> None:
    worker = make(dsn, ha_uuid, "w1")
    async with Switchover(
        Conninfo(dsn), uuid.UUID(ha_uuid), Request(to="gone")
    ) as switchover:

        async def look() -> None:  # or the nomination would lapse
            while True:
                await switchover.holder()
                await asyncio.sleep(0.05)

        looking = asyncio.ensure_future(look())
        async with running(worker):
            await leads(worker)
        looking.cancel()
        await asyncio.wait({looking})


async def test_a_text_that_is_too_long_or_hostile_is_cut(
    dsn: str, ha_uuid: str
) -> None:
    heard: list[Request] = []
    first = make(dsn, ha_uuid, "w1", on_request=heard.append)
    hostile = "\x1b[2J\n'; DROP TABLE x; --\ud800\0" + "\U0001f600" * 5000
    async with (
        pair(first, make(dsn, ha_uuid, "w2")),
        Switchover(
            Conninfo(dsn),
            uuid.UUID(ha_uuid),
            Request(reason=hostile, by=hostile),
        ) as switchover,
    ):
        await switchover.ask(await switchover.leader())
        await until(lambda: bool(heard), "it is heard")
        assert heard[0].why.isprintable()
        assert heard[0].reason.startswith(
            r"\x1b[2J\n'; DROP TABLE x; --\ud800\x00"
        )
        assert len(heard[0].reason) == LONGEST


async def test_a_request_is_for_the_leader_that_was_asked(
    dsn: str, ha_uuid: str
) -> None:
    """The next one has heard it as well, while it waited for the lock."""
    first, second, third = (make(dsn, ha_uuid, f"w{n}") for n in (1, 2, 3))
    async with pair(first, second), running(third):
        await follows(third)  # so that the next one could hand over, too
        async with Switchover(
            Conninfo(dsn), uuid.UUID(ha_uuid), Request()
        ) as switchover:
            await switchover.run(LIMIT)
            for _ in range(3):  # each is a turn of its loop
                assert await second.confirm()
            assert second.is_leader()


async def test_a_nomination_counts_by_the_rights_of_its_role(
    server: Any, dsn: str, ha_uuid: str
) -> None:
    """Also of a role whose session the workers may not look into."""
    role, stranger = (f"r{uuid.uuid4().hex[:8]}" for _ in range(2))
    for name in (role, stranger):
        server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame'")
    theirs = make_conninfo(dsn, user=role, password="sesame")
    strange = make_conninfo(dsn, user=stranger, password="sesame")
    workers = [make(theirs, ha_uuid, f"w{n}") for n in range(3)]
    async with running(workers[0]):
        await leads(workers[0])
        async with running(*workers[1:]):
            for follower in workers[1:]:
                await follows(follower)
            # Whoever may connect can give a session that name.
            async with Switchover(
                Conninfo(strange), uuid.UUID(ha_uuid), Request(to="nobody")
            ):
                handed = await hand_over(dsn, ha_uuid, Request(to="w2"))
                assert handed.after.worker == "w2"
                await workers[2].step_down()
                await until(
                    lambda: any(one.is_leader() for one in workers[:2]),
                    "one leads",
                )


async def test_the_server_ends_a_nomination_that_looks_no_more(
    dsn: str, ha_uuid: str
) -> None:
    async with Switchover(
        Conninfo(dsn), uuid.UUID(ha_uuid), Request(to="gone")
    ) as switchover:
        limit = "SELECT current_setting('idle_session_timeout', true)"
        ((told,),) = await switchover._rows(limit)
        assert told in ("3s", None)  # PostgreSQL 13 has none


async def test_the_next_leader_says_so_at_once(dsn: str, ha_uuid: str) -> None:
    """Not at its next renewal, which is ten seconds away."""
    slow = {"poll_interval": 10.0, "lease_duration": 60.0}
    first, second = (make(dsn, ha_uuid, f"w{n}", **slow) for n in (1, 2))
    async with pair(first, second):
        handed = await hand_over(dsn, ha_uuid, Request())
        assert handed.after.worker == "w2"
        assert handed.gap < 5


async def test_who_asks_while_it_hands_over_is_told_so(
    dsn: str, ha_uuid: str
) -> None:
    asked: list[Request] = []
    leader = make(dsn, ha_uuid, "w1", on_request=asked.append)
    async with pair(leader, make(dsn, ha_uuid, "w2")):
        first = asyncio.ensure_future(
            hand_over(dsn, ha_uuid, Request("w2", "an update", "ann@db"))
        )
        await until(lambda: len(asked) == 1, "the first one is heard")
        told = "w1 is handing over to w2 already, asked by ann@db: an update$"
        with pytest.raises(Refused, match=told):
            await hand_over(dsn, ha_uuid, Request(by="bob@db"))
        assert len(asked) == 1
        leader.request_step_down(asked[0].why, asked[0].kind)
        assert (await asyncio.wait_for(first, LIMIT)).after.worker == "w2"
        # In its next term it hears them again.
        await follows(leader)
        await hand_over(dsn, ha_uuid, Request("w1"))
        again = asyncio.ensure_future(hand_over(dsn, ha_uuid, Request("w2")))
        await until(lambda: len(asked) == 2, "it is asked again")
        leader.request_step_down()
        assert (await asyncio.wait_for(again, LIMIT)).after.worker == "w2"
