"""A worker that strangers abuse over HTTP leads on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

import pytest
from elections import leads, make, running

from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.operations.http import HttpServer
from ansible_rulebook.ha.operations.listen import Listen, bind
from ansible_rulebook.ha.operations.metrics import Metrics
from ansible_rulebook.ha.operations.snapshot import Snapshot

SECONDS = 8.0
IDLE = 500
RUBBISH = (
    b"GET / HTTP/1.1\r\nX: " + b"x" * 1024 * 1024 + b"\r\n\r\n",
    b"GET /" + b"x" * 64 * 1024 + b" HTTP/1.1\r\n\r\n",
    b"\0\xff" * 4096,
    b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 99_999,
    b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n" * 200,
)


def snapshot_of(election: LeaderElection) -> Snapshot:
    return Snapshot(
        ha_uuid=str(election.ha_uuid),
        worker_id=election.worker_id,
        version="0.1.0",
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=time.time(),
        leads=election.is_leader(),
        lease_duration=election.timings.lease_duration,
    )


async def abuse(port: int, until: float) -> int:
    count = 0
    while time.monotonic() < until:
        for rubbish in RUBBISH:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port
                )
                with contextlib.suppress(OSError):
                    writer.write(rubbish)
                    await asyncio.wait_for(writer.drain(), 1)
                    await asyncio.wait_for(reader.read(100_000), 1)
                writer.close()
                count += 1
    return count


def flood(port: int) -> int:
    async def all_at_once() -> int:
        until = time.monotonic() + SECONDS
        return sum(
            await asyncio.gather(*(abuse(port, until) for _ in range(4)))
        )

    with contextlib.ExitStack() as stack:
        for _ in range(IDLE):
            idle = socket.create_connection(("127.0.0.1", port), 30)
            stack.enter_context(idle)
        return asyncio.run(all_at_once())


@pytest.mark.asyncio
async def test_a_worker_leads_on_and_renews_on_time(
    dsn: str, ha_uuid: str
) -> None:
    renewals: list[float] = []
    election = make(
        dsn,
        ha_uuid,
        lease_duration=6.0,
        on_renewal=lambda term: renewals.append(time.monotonic()),
    )
    server = HttpServer(
        bind(Listen("127.0.0.1", 0), "test"),
        lambda: snapshot_of(election),
        Metrics(),
    )
    server.start()
    port = int(server.address.rpartition(":")[2])
    try:
        async with running(election):
            await leads(election)
            term = election.term
            renewals.clear()
            # In a thread, and in a loop, that is not the election's.
            loop = asyncio.get_running_loop()
            count = await loop.run_in_executor(None, flood, port)
            assert count > 20
            assert election.is_leader() and election.term is term
            gaps = [b - a for a, b in zip(renewals, renewals[1:])]
            assert len(gaps) > SECONDS / election.timings.renew_every / 2
            # Trust ends after two thirds of the lease.
            assert max(gaps) < election.timings.lease_duration / 2
    finally:
        server.stop()
