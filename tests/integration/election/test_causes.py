"""Why the next worker leads: it finds that out without any table."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import psycopg
import pytest
from elections import (
    LEASE,
    LIMIT,
    POLL,
    follows,
    leads,
    make,
    pair,
    running,
    session_of,
    until,
)
from psycopg.conninfo import make_conninfo
from rig.server import EmbeddedRig

from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.beacon import Beacon
from ansible_rulebook.ha.election.cause import Cause
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.names import application_name, lock_key
from ansible_rulebook.ha.election.reasons import Reason
from ansible_rulebook.ha.election.requests import Request
from ansible_rulebook.ha.operations.pause import Pause
from ansible_rulebook.ha.operations.switchover import Switchover

pytestmark = pytest.mark.asyncio


def cause(election: LeaderElection) -> Cause:
    assert election.term is not None
    return election.term.cause


def end_session(server: Any, election: LeaderElection) -> None:
    server.query(
        "SELECT pg_terminate_backend(pid) FROM pg_locks"
        " JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted"
        " AND application_name LIKE %s",
        (session_of(election),),
    )


async def test_each_handover_tells_its_own_story(
    server: Any, dsn: str, ha_uuid: str
) -> None:
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        assert cause(first) == Cause(
            Reason.FIRST, evidence="nobody led when it came"
        )
        request = Request(reason="an update", by="ann@db")
        async with Switchover(
            Conninfo(dsn), uuid.UUID(ha_uuid), request
        ) as switchover:
            await switchover.run(LIMIT)
        await leads(second)
        assert cause(second) == Cause(
            Reason.SWITCHOVER,
            "w1",
            "it said so: asked to hand over by ann@db: an update",
        )
        await follows(first)
        end_session(server, second)
        await leads(first)
        assert cause(first) == Cause(Reason.KILLED, "w2", "its session ended")
        await follows(second)
        await first.step_down()
        await leads(second)
        assert cause(second) == Cause(
            Reason.STEPPED_DOWN, "w1", "it said so: stepped down"
        )
        await follows(first)
        await second.stop()
        await leads(first)
        assert cause(first).reason is Reason.STOPPED


async def test_a_pause_is_why_somebody_leads_again(
    dsn: str, ha_uuid: str
) -> None:
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        timings = Timings.of(POLL, LEASE)
        async with Pause(
            Conninfo(dsn), uuid.UUID(ha_uuid), "ann", "why", 60.0, timings
        ) as pause:
            await pause.begin(LIMIT)
            # A worker knows of it from the lock.
            await until(
                lambda: (
                    (seen := second.view().pause) is not None
                    and (seen.worker, seen.reason) == ("ann", "why")
                    and seen.until == pytest.approx(pause.until, abs=1)
                ),
                "a follower sees the pause",
            )
            began = time.monotonic()
            await asyncio.sleep(0.5)
            lasted = time.monotonic() - began
        await until(
            lambda: first.is_leader() or second.is_leader(), "one leads"
        )
        leader = first if first.is_leader() else second
        assert cause(leader) == Cause(
            Reason.PAUSED, evidence="the pause by ann is over"
        )
        assert leader.view().pause is None
        # Nobody led while it lasted.
        assert leader.term is not None
        assert leader.term.gap is None or leader.term.gap >= lasted


async def test_a_leader_that_gives_no_sign_has_let_its_lease_run_out(
    dsn: str, ha_uuid: str
) -> None:
    key = lock_key(uuid.UUID(ha_uuid))
    said = Beacon(worker="w1", role="leader", lease=LEASE).text()
    silent = psycopg.connect(
        make_conninfo(dsn, application_name=application_name(key, "w1", "1")),
        autocommit=True,
    )
    silent.execute(f"SET idle_session_timeout = {int(LEASE * 1000)}")
    silent.execute(f"{said} SELECT pg_advisory_lock({key})".encode())
    second = make(dsn, ha_uuid, "w2")
    async with running(second):
        await leads(second)
        found = cause(second)
        assert found.reason is Reason.LEASE_EXPIRED, found
        assert found.replaces == "w1"
        assert "and its lease is 2.1 s" in found.evidence
    silent.close()


async def test_a_server_that_was_started_again_is_why(
    embedded_server: EmbeddedRig, ha_uuid: str
) -> None:
    dsn = embedded_server.dsn
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        await asyncio.to_thread(embedded_server.restart)
        await until(
            lambda: first.is_leader() or second.is_leader(), "one leads"
        )
        leader = first if first.is_leader() else second
        assert cause(leader).reason is Reason.SERVER_RESTARTED
        assert cause(leader).replaces == "w1"
