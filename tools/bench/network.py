"""Events per second with a database that is not on the same machine.

Three workers with state run the same rulebook on one server and take turns:
one is connected to it over loopback, one through a proxy that holds each
piece back, so that a round trip takes about a millisecond, and one through
the same proxy without a delay, which shows what the proxy itself takes.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import psycopg
from rig.proxy import DistantProxy
from rig.server import EmbeddedRig

from .bursts import Turn, compete, delays, rates
from .report import Figure, Goal, Result
from .setting import AS_A_SERVER, Setting
from .state import Stateful

GOAL = 0.8  # of the events over loopback
# Half of a millisecond, less what the proxy and the kernel's timer take.
ONE_WAY = 0.0004  # seconds
FAR = "1 ms round trip"
NEAR, PROXY = "loopback", "through a proxy without delay"
ASKED = 200  # round trips


def round_trips(dsn: str) -> list[float]:
    """Seconds."""
    taken: list[float] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(ASKED):
            began = time.perf_counter()
            connection.execute("SELECT 1")
            taken.append(time.perf_counter() - began)
    return taken


def measure(setting: Setting) -> Result:
    heats = setting.pick(3, 1)
    turns = setting.pick(8, 3)
    events = setting.pick(1000, 300)
    alone = setting.pick(50, 20)
    server = setting.stack.enter_context(EmbeddedRig(AS_A_SERVER))
    root = setting.folder("network")
    proxies = {
        FAR: DistantProxy.for_dsn(server.dsn, one_way=ONE_WAY),
        PROXY: DistantProxy.for_dsn(server.dsn, one_way=0.0),
    }
    for proxy in proxies.values():
        setting.stack.enter_context(proxy)
    names = (NEAR, PROXY, FAR)
    ways = [proxies[n].reroute if n in proxies else str for n in names]
    rounds: list[tuple[Turn, ...]] = []
    for heat in range(heats):
        setting.say(f"processes {heat + 1} of {heats}")
        workers = [
            Stateful(
                f"way-{number}-{heat}",
                root,
                events,
                way(server.create_database()),
            )
            for number, way in enumerate(ways)
        ]
        with ExitStack() as stack:
            for each in workers:
                stack.enter_context(each.worker)
            rounds += compete(workers, turns, alone)
    done = {n: list(turns) for n, turns in zip(names, zip(*rounds))}
    bursts = {
        name: Figure(f"{name}: burst", "events/s", rates(turns))
        for name, turns in done.items()
    }
    return Result(
        "network",
        "a leading worker with state, and how far away its database is",
        [
            *bursts.values(),
            *(
                Figure(f"{name}: one at a time, median", "s", delays(turns))
                for name, turns in done.items()
            ),
            *(
                Figure(
                    f"{name}: a round trip", "s", round_trips(way(server.dsn))
                )
                for name, way in zip(names, ways)
            ),
        ],
        [
            Goal(
                f"{FAR}, times {NEAR}",
                bursts[FAR].median / bursts[NEAR].median,
                GOAL,
                at_least=True,
            )
        ],
        [f"bursts of {events:,} events, each matched and recorded"],
    )
