"""Patroni: what is elected there is the PostgreSQL primary itself.

Not a lock for a program, and it moves a database, so its times have more in
them than the others'. It stands here because who runs PostgreSQL with it
asks how long either takes.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.patroni import PatroniNode, obstacle
from rig.ports import HOST
from rig.process import ManagedProcess

from .cluster import Cluster, Fault
from .servers import Missing, need_module


@dataclass(frozen=True)
class Timings:
    """In seconds; Patroni asks that they fit together."""

    name: str
    ttl: int
    loop_wait: int
    retry_timeout: int


DEFAULT = Timings("Patroni, ttl 30 s (default)", 30, 10, 10)
SHORTEST = Timings("Patroni, ttl 20 s (its least)", 20, 5, 5)


def need() -> None:
    """:raises Missing: if it cannot be run."""
    need_module("psycopg")
    if obstacle():
        raise Missing(obstacle())


class Node(PatroniNode):
    """One with these timings."""

    def __init__(
        self,
        name: str,
        root: Path,
        etcd: str,
        bin_dir: Path,
        timings: Timings,
    ) -> None:
        config = root / f"{name}.json"
        # JSON is YAML, too.
        config.write_text(json.dumps(_config(timings)), "utf-8")
        super().__init__(name, root, config, etcd, bin_dir, "bench")
        self.primary_at: int | None = None


def _config(timings: Timings) -> dict[str, Any]:
    return {
        "scope": f"bench-{timings.ttl}",
        "bootstrap": {
            "dcs": {
                "ttl": timings.ttl,
                "loop_wait": timings.loop_wait,
                "retry_timeout": timings.retry_timeout,
                # Each round has a new node. The slots of those that have
                # gone would be kept for half an hour, until none is left.
                "member_slots_ttl": 0,
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
        },
        "postgresql": {
            "authentication": {
                role: {"username": role}
                for role in ("superuser", "replication")
            },
            "parameters": {
                "unix_socket_directories": "",
                "shared_buffers": "16MB",
            },
            "pg_hba": [
                f"host all all {HOST}/32 scram-sha-256",
                f"host replication all {HOST}/32 scram-sha-256",
            ],
        },
    }


class PatroniCluster(Cluster):
    """A primary and a standby."""

    def __init__(
        self,
        root: Path,
        etcd: str,
        bin_dir: Path,
        timings: Timings,
    ) -> None:
        super().__init__(timings.name, timings.ttl)
        self.root = root
        self.etcd = etcd
        self.bin_dir = bin_dir
        self.timings = timings

    def expected(self, fault: Fault) -> float:
        # It looks once per loop, and a standby has to be promoted.
        return super().expected(fault) + self.timings.loop_wait

    def make(self, name: str) -> ManagedProcess:
        return Node(name, self.root, self.etcd, self.bin_dir, self.timings)

    def leads(self, member: ManagedProcess) -> bool:
        assert isinstance(member, Node)
        if not member.says("primary"):
            return False
        if member.primary_at is None:
            member.primary_at = time.monotonic_ns()
        return True

    def waits(self, member: ManagedProcess) -> bool:
        assert isinstance(member, Node)
        return member.says("replica?lag=1MB")

    def led_at(self, member: ManagedProcess) -> int | None:
        # Asked often, so the first yes is late by one look at most.
        assert isinstance(member, Node)
        self.leads(member)
        return member.primary_at

    def clean(self, dead: ManagedProcess) -> None:
        super().clean(dead)
        assert isinstance(dead, Node)
        shutil.rmtree(dead.folder, ignore_errors=True)
