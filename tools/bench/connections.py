"""How many connections to the server a worker holds.

Two workers with state, and all sessions of their database, looked at again
and again: while events come, and for so long that the leader has tidied its
tables once. What counts is the most at a time, in each second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
from rig.server import EmbeddedRig, database_of
from rig.workers import WorkerProcess, wait_leader, worker_of

from .bursts import WITH_STATE
from .report import Figure, Goal, Result
from .setting import Setting
from .worker import ACTION, FOLLOWING, RULEBOOK, TIMEOUT, two_workers

GOALS = {"follower": 2, "leader": 3}
LOOK_EVERY = 0.004  # seconds
SESSIONS = """
SELECT application_name, count(*) FROM pg_stat_activity
 WHERE datname = %s AND pid <> pg_backend_pid()
   AND backend_type = 'client backend'
 GROUP BY 1
"""


def _looks(until: float) -> Iterator[None]:
    """Once at least."""
    while True:
        yield
        time.sleep(LOOK_EVERY)
        if time.monotonic() > until:
            return


def _count(
    connection: psycopg.Connection[tuple[Any, ...]],
    dsn: str,
    roles: dict[str, WorkerProcess],
) -> dict[str, float]:
    """How many each has now.

    :raises RuntimeError: if there is one that is nobody's.
    """
    rows = connection.execute(SESSIONS, (database_of(dsn),)).fetchall()
    found = {str(name): int(count) for name, count in rows}
    counts: dict[str, float] = {}
    nameless = found.pop("", 0)  # amid its start: of either, so of both
    for role, worker in roles.items():
        own = [name for name in found if worker_of(name) == worker.worker_id]
        counts[role] = nameless + sum(found.pop(name) for name in own)
    if found:
        raise RuntimeError(f"whose sessions are these? {found}")
    return counts


def measure(setting: Setting) -> Result:
    seconds = setting.pick(75, 10)
    server = setting.stack.enter_context(EmbeddedRig())
    dsn = server.create_database("connections")
    workers = two_workers(
        setting, RULEBOOK, "connections", dsn, args=WITH_STATE
    )
    leader = wait_leader(workers, TIMEOUT)
    (follower,) = (each for each in workers if each is not leader)
    follower.wait_for(FOLLOWING, TIMEOUT)
    leader.wait_for(ACTION, TIMEOUT)
    roles = {"follower": follower, "leader": leader}
    most: dict[str, list[float]] = {role: [] for role in roles}
    setting.say(f"{seconds} s")
    with server.connect() as connection:
        for _ in range(seconds):
            counts = [
                _count(connection, dsn, roles)
                for _ in _looks(time.monotonic() + 1)
            ]
            for role in roles:
                most[role].append(max(each[role] for each in counts))
    figures = [Figure(role, "", each) for role, each in most.items()]
    return Result(
        "connections",
        "connections of a worker with state to the server",
        figures,
        [
            Goal(f"{figure.name}, most at a time", figure.most, bound)
            for figure, bound in zip(figures, GOALS.values())
        ],
        [f"in each of {seconds} s; looked at every {LOOK_EVERY * 1e3:g} ms"],
    )
