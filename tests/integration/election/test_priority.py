"""Workers that are to lead rather than others, and one that never is."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from elections import LIMIT, Referee, follows, leads, make, running, until

from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.beacon import Beacon
from ansible_rulebook.ha.election.candidate import Phase
from ansible_rulebook.ha.election.requests import Request
from ansible_rulebook.ha.operations.switchover import Switchover

pytestmark = pytest.mark.asyncio


def preferred(
    dsn: str, ha_uuid: str, worker_id: str, priority: int
) -> LeaderElection:
    """One that asks for the lead as a worker does."""
    asking: set[asyncio.Future[Any]] = set()

    async def ask() -> None:
        request = Request(to=worker_id, by=worker_id)
        async with Switchover(
            Conninfo(dsn), uuid.UUID(ha_uuid), request
        ) as switchover:
            await switchover.run(LIMIT)

    def outranked(leader: Beacon) -> None:
        asking.add(asyncio.ensure_future(ask()))

    return make(
        dsn, ha_uuid, worker_id, priority=priority, on_outranked=outranked
    )


async def test_the_highest_of_those_that_are_there_leads_and_stays(
    dsn: str, ha_uuid: str
) -> None:
    low = preferred(dsn, ha_uuid, "low", 50)
    middle = preferred(dsn, ha_uuid, "middle", 100)
    high = preferred(dsn, ha_uuid, "high", 200)
    with Referee(low, middle, high) as referee:
        async with running(low):
            await leads(low)
            async with running(middle):
                await leads(middle)
                async with running(high):
                    await leads(high)
                    # Nobody takes it from the highest one.
                    for other in (low, middle):
                        await follows(other)
                    term = high.term
                    assert term is not None
                    # As long as one needs that asks twice.
                    until_then = (
                        term.trusted_until + 4 * high.timings.lease_duration
                    )
                    await until(
                        lambda: (
                            term.trusted_until > until_then
                            or not high.is_leader()
                        ),
                        "it has renewed",
                    )
                    assert high.is_leader() and high.term is term
                # It is gone: of the others the higher one leads in the end.
                await leads(middle)
            await leads(low)
    assert not referee.overlaps


async def test_a_worker_of_priority_0_never_leads(
    dsn: str, ha_uuid: str, server: Any
) -> None:
    never = make(dsn, ha_uuid, "never", priority=0)
    async with running(never):
        await until(
            lambda: never.view().phase == Phase.CONTENDING.value, "it is there"
        )
        await asyncio.sleep(2 * never.timings.poll_interval)
        assert not never.is_leader()
        other = make(dsn, ha_uuid, "other")
        async with running(other):
            await leads(other)
            await until(
                lambda: never.view().leader == "other", "it sees who leads"
            )
        assert not never.is_leader()
