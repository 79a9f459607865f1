"""Patroni: what is elected there is the PostgreSQL primary itself.

Not a lock for a program, and it moves a database, so its times have more in
them than the others'. It stands here because who runs PostgreSQL with it
asks how long either takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rig.ports import free_port
from rig.process import ManagedProcess

from .cluster import Cluster, Fault
from .servers import HOST, Missing, need_module

PATRONI = [sys.executable, "-m", "patroni"]
ANSWER_TIMEOUT = 1.0  # seconds


@dataclass(frozen=True)
class Timings:
    """In seconds; Patroni asks that they fit together."""

    name: str
    ttl: int
    loop_wait: int
    retry_timeout: int


DEFAULT = Timings("Patroni, ttl 30 s (default)", 30, 10, 10)
SHORTEST = Timings("Patroni, ttl 20 s (its least)", 20, 5, 5)


def need() -> list[str]:
    """What Patroni's command has to be prefixed with, if anything.

    PostgreSQL refuses to run as root. In a user namespace of its own, root
    is somebody else by name, and can read all that it could before.

    :raises Missing: if it cannot be run.
    """
    need_module("patroni", "etcd", "psycopg")
    if find_spec("patroni.dcs.etcd3") is None:
        raise Missing("a Patroni that speaks etcd 3 is not installed")
    if os.geteuid():
        return []
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if shutil.which("unshare") is not None:
        tried = subprocess.run([*prefix, "true"], capture_output=True)
        if not tried.returncode:
            return prefix
    raise Missing("cannot be run as root here")


class Node(ManagedProcess):
    """One Patroni with its PostgreSQL."""

    def __init__(
        self,
        name: str,
        root: Path,
        etcd: str,
        bin_dir: Path,
        timings: Timings,
        prefix: list[str],
    ) -> None:
        self.folder = root / name
        self.folder.mkdir(parents=True)
        self.rest = f"{HOST}:{free_port()}"
        self.data = self.folder / "data"
        config = self.folder / "patroni.json"
        # JSON is YAML, too.
        text = json.dumps(self._config(name, etcd, bin_dir, timings))
        config.write_text(text, "utf-8")
        super().__init__(
            [*prefix, *PATRONI, str(config)],
            name=name,
            log=root / f"{name}.log",
            cwd=self.folder,
            env={
                key: value
                for key, value in os.environ.items()
                if not key.startswith(("PG", "PATRONI_"))
            },
        )
        self.primary_at: int | None = None

    def _config(
        self, name: str, etcd: str, bin_dir: Path, timings: Timings
    ) -> dict[str, Any]:
        postgres = f"{HOST}:{free_port()}"
        roles = {
            role: {"username": role, "password": "bench"}
            for role in ("superuser", "replication")
        }
        return {
            "scope": f"bench-{timings.ttl}",
            "name": name,
            "restapi": {"listen": self.rest, "connect_address": self.rest},
            "etcd3": {"host": etcd},
            "bootstrap": {
                "dcs": {
                    "ttl": timings.ttl,
                    "loop_wait": timings.loop_wait,
                    "retry_timeout": timings.retry_timeout,
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": postgres,
                "connect_address": postgres,
                "data_dir": str(self.data),
                "bin_dir": str(bin_dir),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": roles,
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

    def ask(self, path: str) -> bool:
        """What its health check says: whether the answer is 200."""
        try:
            with urllib.request.urlopen(
                f"http://{self.rest}/{path}", timeout=ANSWER_TIMEOUT
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> float:
        """The whole node: Patroni alone would leave its server running."""
        at = super().kill()
        self._end_server()
        return at

    def close(self) -> None:
        super().close()
        self._end_server()

    def _end_server(self) -> None:
        try:
            first = (self.data / "postmaster.pid").read_text().split()[0]
            # Its number may be somebody else's by now.
            cwd = Path(f"/proc/{first}/cwd").resolve(strict=True)
        except (OSError, IndexError):
            return
        if cwd == self.data.resolve():
            with contextlib.suppress(OSError):
                os.kill(int(first), signal.SIGKILL)


class PatroniCluster(Cluster):
    """A primary and a standby."""

    def __init__(
        self,
        root: Path,
        etcd: str,
        bin_dir: Path,
        timings: Timings,
        prefix: list[str],
    ) -> None:
        super().__init__(timings.name, timings.ttl)
        self.root = root
        self.etcd = etcd
        self.bin_dir = bin_dir
        self.timings = timings
        self.prefix = prefix

    def expected(self, fault: Fault) -> float:
        # It looks once per loop, and a standby has to be promoted.
        return super().expected(fault) + self.timings.loop_wait

    def make(self, name: str) -> ManagedProcess:
        return Node(
            name,
            self.root,
            self.etcd,
            self.bin_dir,
            self.timings,
            self.prefix,
        )

    def leads(self, member: ManagedProcess) -> bool:
        assert isinstance(member, Node)
        if not member.ask("primary"):
            return False
        if member.primary_at is None:
            member.primary_at = time.monotonic_ns()
        return True

    def waits(self, member: ManagedProcess) -> bool:
        assert isinstance(member, Node)
        return member.ask("replica?lag=1MB")

    def led_at(self, member: ManagedProcess) -> int | None:
        # Asked often, so the first yes is late by one look at most.
        assert isinstance(member, Node)
        self.leads(member)
        return member.primary_at

    def clean(self, dead: ManagedProcess) -> None:
        super().clean(dead)
        assert isinstance(dead, Node)
        shutil.rmtree(dead.folder, ignore_errors=True)
