"""What the tests of the election share: elections in this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any, Callable, Union

from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.candidate import Phase
from ansible_rulebook.ha.election.names import application_name, lock_key
from ansible_rulebook.ha.election.requests import Request
from ansible_rulebook.ha.operations import switchover

POLL = 0.4  # seconds
LEASE = 2.1  # seconds
LIMIT = 60.0  # seconds; what takes longer than that has failed


async def until(
    condition: Callable[[], Union[bool, Awaitable[bool]]],
    what: str = "",
    limit: float = LIMIT,
) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + limit
    while True:
        found = condition()
        if not isinstance(found, bool):
            found = await found
        if found:
            return
        if time.monotonic() > deadline:
            missed = what or repr(condition)
            raise AssertionError(f"not within {limit:g} s: {missed}")
        await asyncio.sleep(0.005)


def make(
    dsn: str,
    ha_uuid: str | uuid.UUID,
    worker_id: str = "w1",
    **options: Any,
) -> LeaderElection:
    options.setdefault("poll_interval", POLL)
    options.setdefault("lease_duration", LEASE)
    return LeaderElection(dsn, ha_uuid, worker_id=worker_id, **options)


@contextlib.asynccontextmanager
async def running(*elections: LeaderElection) -> AsyncIterator[None]:
    """Start them in this order and stop whatever is left of them."""
    try:
        for election in elections:
            await election.start()
        yield
    finally:
        await asyncio.gather(
            *(asyncio.wait_for(one.stop(), LIMIT) for one in elections),
            return_exceptions=True,
        )


@contextlib.asynccontextmanager
async def pair(
    first: LeaderElection, second: LeaderElection
) -> AsyncIterator[None]:
    """Run both, with the first one leading and the second one following."""
    async with running(first):
        await leads(first)
        async with running(second):
            await follows(second)
            yield


async def leads(election: LeaderElection) -> None:
    await until(election.is_leader, f"{election} leads")


async def follows(election: LeaderElection) -> None:
    """Wait until it has a session and was told that the lock is taken."""
    candidate = election._candidate
    await until(
        lambda: candidate.phase is Phase.CONTENDING and candidate._tried,
        f"{election} follows",
    )


async def hand_over(
    dsn: str, ha_uuid: str, request: Request
) -> switchover.Handed:
    """Ask the leader for it, and wait until another worker leads."""
    async with switchover.Switchover(
        Conninfo(dsn), uuid.UUID(ha_uuid), request
    ) as asked:
        return await asked.run(LIMIT)


async def one_leads(elections: Iterable[LeaderElection]) -> LeaderElection:
    elections = list(elections)
    await until(lambda: any(e.is_leader() for e in elections), "one leads")
    return next(e for e in elections if e.is_leader())


def session_of(election: LeaderElection) -> str:
    """A pattern for its ``application_name``."""
    name = application_name(lock_key(election.ha_uuid), election.worker_id)
    return f"{name}%"


def lock_rows(server: Any, election: LeaderElection) -> dict[str, bool]:
    """Who stands in pg_locks for its cluster, and whether it is granted."""
    prefix = ":".join(session_of(election).split(":")[:2])
    rows = server.query(
        "SELECT application_name, granted FROM pg_locks"
        " JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND application_name LIKE %s",
        (prefix + "%",),
    )
    return {name.split(":")[2]: granted for name, granted in rows}


class Referee(threading.Thread):
    """Asks everybody for the lead, all the time, from a thread of its own.

    Two true answers of one term with somebody else's true answer between
    them: that is an overlap, however slow this thread is.
    """

    def __init__(self, *elections: LeaderElection) -> None:
        super().__init__(name="referee", daemon=True)
        self.elections = elections
        self.overlaps: list[str] = []
        self.asked = 0
        self._stop_asking = threading.Event()

    def run(self) -> None:
        while not self._stop_asking.wait(0.0005):
            self.ask()

    def ask(self) -> None:
        self.asked += 1
        first = None
        for one in self.elections:
            term = one.term
            if not one.is_leader():
                continue
            if first is None:
                first = one, term
                continue
            other, before = first
            if other.is_leader() and other.term is before:
                self.overlaps.append(f"{other} and {one}")

    def __enter__(self) -> Referee:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop_asking.set()
        self.join()
        assert self.asked
        assert not self.overlaps, self.overlaps[:5]
