"""What the questions cost that a worker asks before it acts.

::

    PYTHONPATH=tools python -m bench.questions

The table in ``docs/carry_on/architecture.rst`` has the figures.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from statistics import median
from typing import Awaitable, Callable

import psycopg
from rig.server import EmbeddedRig

from ansible_rulebook.ha import LeaderElection, Term
from ansible_rulebook.ha.election.leadership import Leadership
from ansible_rulebook.ha.election.thread import ElectionThread
from ansible_rulebook.ha.state.journal import Journal

ROUNDS = 7
CALLS = 50_000  # in a round, of a question that asks nobody else
TRIPS = 300  # in a round, of one that asks the server


def cost(ask: Callable[[], object]) -> float:
    """Seconds of one call: the median of some rounds."""
    found = []
    for _ in range(ROUNDS):
        since = time.perf_counter()
        for _ in range(CALLS):
            ask()
        found.append((time.perf_counter() - since) / CALLS)
    return median(found)


async def trip(ask: Callable[[], Awaitable[object]]) -> float:
    """The same for a question to the server."""
    found = []
    for _ in range(ROUNDS):
        since = time.perf_counter()
        for _ in range(TRIPS):
            assert await ask()
        found.append((time.perf_counter() - since) / TRIPS)
    return median(found)


async def reconnect() -> psycopg.Connection[object]:
    raise NotImplementedError  # this session does not end


def say(question: str, seconds: float) -> None:
    print(f"{question:40} {seconds * 1e6:9.2f} us")


async def measure(dsn: str) -> None:
    begun: list[Term] = []
    async with LeaderElection(
        dsn, uuid.uuid4(), on_promotion=begun.append
    ) as election:
        await election.leader_event.wait()
        (term,) = begun
        leadership = Leadership(election.confirm)
        leadership.begin(term)
        leadership.announce()
        say("Term.is_current", cost(term.is_current))
        say("LeaderElection.is_leader", cost(election.is_leader))
        say("Leadership.may_act", cost(leadership.may_act))
        say("Leadership.takes_events", cost(leadership.takes_events))
        say("Leadership.is_open", cost(leadership.is_open))
        say("LeaderElection.confirm", await trip(election.confirm))
        connection = psycopg.connect(dsn, autocommit=True)
        journal = Journal("", 1, 0, connection, reconnect, 5.0, print)
        say("Journal.look, nothing under way", cost(journal.look))
        journal._sent += 1  # as if a transaction were
        say("Journal.look, a transaction under way", cost(journal.look))
        journal.end()


async def measure_in_thread(dsn: str) -> None:
    """The election has a loop of its own, as in a worker."""
    begun: asyncio.Queue[Term] = asyncio.Queue()

    async def demote(reason: str) -> None:
        pass

    thread = ElectionThread(
        lambda **callbacks: LeaderElection(dsn, uuid.uuid4(), **callbacks),
        begun.put,
        demote,
        lambda until: None,
        lambda error: None,
        lambda request: None,
        lambda leader: None,
        print,
    )
    thread.start()
    leadership = Leadership(thread.confirm)
    leadership.begin(await begun.get())
    say("Leadership.confirm", await trip(leadership.confirm))
    await thread.shut_down()


def main() -> None:
    with EmbeddedRig() as server:
        asyncio.run(measure(server.dsn))
        asyncio.run(measure_in_thread(server.dsn))


if __name__ == "__main__":
    main()
