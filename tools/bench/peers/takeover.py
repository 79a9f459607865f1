"""All peers in turns: how long until the other one has the lock.

In each round every cluster is struck once, in an order that changes. Who has
not recovered soon is left to do so while the next ones are struck, since most
of them wait for a time to run out, which costs no processor.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Callable

from rig.history import NANO
from rig.process import ProcessError
from rig.server import EmbeddedRig

from ansible_rulebook.ha.election.lease import LEASES_PER_POLL, POLL_INTERVAL
from ansible_rulebook.ha.redaction import one_line

from ..report import Figure, Result
from ..setting import Setting
from . import patroni
from .cluster import Cluster, Elections, Fault, Peers, Psql
from .servers import (
    Etcd,
    Missing,
    PeerServer,
    Redis,
    ZooKeeper,
    need_module,
    versions,
)

SOON = 0.5  # seconds in which most recover, before the next one is struck
CALM = 0.3  # seconds, at most, from one to the next
SLACK = 15.0  # seconds on top of what is expected
SLOW = 20.0  # seconds; those that take longer have fewer rounds
WATCH_INTERVAL = 0.02  # seconds
SHOWN = 200  # characters of why something does not run
FIRST_CALM = 1.0  # seconds from the last one's start to the first fault
LEASE = POLL_INTERVAL * LEASES_PER_POLL
QUICK_LEASE = 6.0  # seconds
QUICK_LIMIT = 30.0  # seconds
KAZOO_SESSION = 10.0  # seconds, kazoo's default
ETCD_LEASE = 60.0  # seconds, the default of etcd's own sessions

Adder = Callable[[Setting, Path, EmbeddedRig, float], Iterable[Cluster]]


def add_postgres(
    setting: Setting, root: Path, server: EmbeddedRig, lease: float
) -> Iterable[Cluster]:
    """What needs nothing but PostgreSQL; a database for each."""
    poll = lease / LEASES_PER_POLL
    dsn = server.create_database
    yield Elections(
        f"ansible-rulebook-ha, lease {lease:g} s",
        root,
        dsn(),
        poll,
        lease,
    )
    yield Psql(
        "blocked psql (the limit)",
        root,
        str(server.embedded.bin_dir / "psql"),
        dsn(),
    )
    yield Peers(
        "blocked psycopg session",
        root,
        "wait",
        dsn(),
        ttl=math.inf,
        closes=True,
    )
    for interval in (5, 3):
        yield Peers(
            f"try-lock every {interval} s",
            root,
            "poll",
            dsn(),
            "--interval",
            str(interval),
            ttl=math.inf,
            closes=True,
        )


def add_tooz(
    setting: Setting, root: Path, server: EmbeddedRig, lease: float
) -> Iterable[Cluster]:
    need_module("tooz", "psycopg2")
    yield Peers(
        "tooz on PostgreSQL",
        root,
        "tooz",
        _url(server, "postgresql"),
        ttl=math.inf,
        closes=True,
    )


def add_pals(
    setting: Setting, root: Path, server: EmbeddedRig, lease: float
) -> Iterable[Cluster]:
    need_module("pals", "sqlalchemy", "psycopg")
    yield Peers(
        "PALs on PostgreSQL",
        root,
        "pals",
        _url(server, "postgresql+psycopg"),
        ttl=math.inf,
        closes=True,
    )


def _url(server: EmbeddedRig, scheme: str) -> str:
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(server.create_database())
    # The server's password is made of letters and digits.
    return (
        f"{scheme}://{parts['user']}:{parts['password']}"
        f"@{parts['host']}:{parts['port']}/{parts['dbname']}"
    )


def add_kazoo(
    setting: Setting, root: Path, server: EmbeddedRig, lease: float
) -> Iterable[Cluster]:
    need_module("kazoo")
    at = _started(setting, ZooKeeper(root)).at
    for ttl in (KAZOO_SESSION, lease):
        name = _timed(
            "kazoo Election (ZooKeeper)", "session", ttl, KAZOO_SESSION
        )
        how = () if ttl == KAZOO_SESSION else ("--ttl", f"{ttl}")
        yield Peers(name, root, "kazoo", at, *how, ttl=ttl)


def add_redis(
    setting: Setting, root: Path, server: EmbeddedRig, lease: float
) -> Iterable[Cluster]:
    need_module("redis")
    at = _started(setting, Redis(root)).at
    yield Peers(
        "Redis lock, no TTL (default)",
        root,
        "redis",
        at,
        ttl=math.inf,
    )
    yield Peers(
        f"Redis lock, TTL {lease:g} s",
        root,
        "redis",
        at,
        "--ttl",
        f"{lease}",
        ttl=lease,
    )


def add_etcd(
    setting: Setting, root: Path, server: EmbeddedRig, lease: float
) -> Iterable[Cluster]:
    at = _started(setting, Etcd(root)).at
    for ttl in (ETCD_LEASE, lease):
        yield Peers(
            _timed("etcd election", "lease", ttl, ETCD_LEASE),
            root,
            "etcd",
            at,
            "--ttl",
            f"{ttl}",
            ttl=ttl,
        )


def add_patroni(
    setting: Setting, root: Path, server: EmbeddedRig, lease: float
) -> Iterable[Cluster]:
    patroni.need()
    at = _started(setting, Etcd(root)).at
    for timings in (patroni.DEFAULT, patroni.SHORTEST):
        yield patroni.PatroniCluster(
            root, at, server.embedded.bin_dir, timings
        )


def _timed(name: str, what: str, ttl: float, default: float) -> str:
    text = f"{name}, {what} {ttl:g} s"
    return f"{text} (default)" if ttl == default else text


def _started(setting: Setting, server: PeerServer) -> PeerServer:
    setting.stack.callback(server.close)
    try:
        server.start()
    except ProcessError as error:
        raise Missing(one_line(str(error))[:SHOWN]) from None
    return server


ADDERS: dict[str, Adder] = {
    "PostgreSQL": add_postgres,
    "tooz on PostgreSQL": add_tooz,
    "PALs on PostgreSQL": add_pals,
    "kazoo Election (ZooKeeper)": add_kazoo,
    "Redis lock": add_redis,
    "etcd election": add_etcd,
    "Patroni (PostgreSQL itself)": add_patroni,
}


def strike_all(
    fault: Fault, clusters: list[Cluster], limit: float
) -> dict[Cluster, str]:
    """One round of one fault; those that are no use any more, and why."""
    random.shuffle(clusters)
    broken: dict[Cluster, str] = {}

    def attempt(cluster: Cluster, work: Callable[[], None]) -> bool:
        try:
            work()
        except ProcessError as error:
            if isinstance(cluster, Elections):
                raise  # a fault of ours is never left out
            broken[cluster] = str(error)
        return cluster not in broken

    struck: list[Cluster] = []
    for cluster in clusters:
        time.sleep(random.uniform(0, CALM))
        if attempt(cluster, partial(cluster.strike, fault)):
            struck.append(cluster)
            _wait([cluster], time.monotonic() + SOON)
    # Those that never recover are waited for as long as the slowest.
    patience = max(each.expected(fault) for each in clusters) + SLACK
    last = max(each.since for each in clusters) * NANO
    _wait(struck, last + min(patience, limit))
    for cluster in struck:
        cluster.finish(fault)
    for cluster in struck:
        attempt(cluster, cluster.fill)
    return broken


def _wait(clusters: list[Cluster], deadline: float) -> None:
    left = list(clusters)
    while left and time.monotonic() < deadline:
        left = [each for each in left if each.took() is None]
        time.sleep(WATCH_INTERVAL)


def start_all(
    setting: Setting, lease: float, limit: float
) -> tuple[list[Cluster], dict[str, str]]:
    """The clusters, each with its leader; and what is missing, and why."""
    root = setting.folder("peers")
    server = setting.stack.enter_context(EmbeddedRig())
    clusters: list[Cluster] = []
    missing: dict[str, str] = {}
    for name, add in ADDERS.items():
        setting.say(f"starting {name}")
        try:
            for cluster in add(setting, root / _folder(name), server, lease):
                if limit <= cluster.ttl < math.inf:
                    missing[cluster.name] = "left out by --quick"
                    continue
                setting.stack.callback(cluster.close)
                cluster.set_up()
                try:
                    cluster.fill()
                    clusters.append(cluster)
                except ProcessError as error:
                    if isinstance(cluster, Elections):
                        raise
                    missing[cluster.name] = one_line(str(error))[:SHOWN]
                    cluster.close()
        except Missing as error:
            missing[name] = str(error)
    return clusters, missing


def measure(setting: Setting) -> Result:
    lease = QUICK_LEASE if setting.quick else LEASE
    limit = QUICK_LIMIT if setting.quick else ETCD_LEASE + SLACK
    rounds = {
        Fault.KILL: setting.pick(10, 2),
        Fault.PAUSE: setting.pick(3, 1),
        Fault.STOP: setting.pick(10, 2),
    }
    clusters, missing = start_all(setting, lease, limit)
    notes: list[str] = []
    time.sleep(FIRST_CALM)
    left = list(clusters)
    for fault in Fault:
        for number in range(rounds[fault]):
            chosen = [
                each
                for each in left
                if number < _rounds(each.expected(fault), rounds[fault])
            ]
            setting.say(
                f"{fault.value}, round {number + 1} of {rounds[fault]}"
            )
            for cluster, why in strike_all(fault, chosen, limit).items():
                left.remove(cluster)
                cluster.close()
                notes.append(f"given up: {one_line(why)}"[:SHOWN])
    for cluster in clusters:
        cluster.check()
    figures: list[Figure] = []
    for fault in Fault:
        found = [cluster.figure(fault) for cluster in clusters]
        found.sort(key=lambda each: each.median if each.values else math.inf)
        figures += found
        figures += [
            Figure(name, "s", [], fault.value, missing=why)
            for name, why in missing.items()
        ]
    return Result(
        "peers",
        "from the fault to the next one's lock",
        figures,
        notes=[
            "two processes each: one leads, one waits; all in turns",
            "no two contenders of ansible-rulebook-ha led at the same time",
            versions(),
            *notes,
        ],
    )


def _rounds(expected: float, most: int) -> int:
    if expected == math.inf:
        return 1
    return min(most, 3) if expected > SLOW else most


def _folder(name: str) -> str:
    return name.split()[0].lower()
