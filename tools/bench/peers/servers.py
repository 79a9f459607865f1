"""The peers' servers: ours alone, on loopback, in a temporary folder."""

from __future__ import annotations

import abc
import contextlib
import re
import shutil
import socket
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from rig.ports import free_port
from rig.process import ManagedProcess, ProcessError

START_TIMEOUT = 30.0  # seconds
WATCH_INTERVAL = 0.05  # seconds
HOST = "127.0.0.1"
PACKAGES = ("kazoo", "redis", "tooz", "PALs", "patroni")
FOLDERS = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"
ZOOKEEPER_JAR = Path("/usr/share/java/zookeeper.jar")  # Debian's


class Missing(RuntimeError):
    """Something is not installed; ``str()`` says what."""


def need_program(name: str, package: str) -> str:
    """Where a program is.

    :raises Missing: with the name of its package.
    """
    for path in (None, FOLDERS):
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    raise Missing(f"{package} is not installed")


def need_module(*names: str) -> None:
    """:raises Missing: if one of them cannot be imported."""
    for name in names:
        if find_spec(name) is None:
            raise Missing(f"{name} (Python) is not installed")


def versions() -> str:
    """Of all that there is to compare with."""
    found: list[str] = []
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    for program, *how in (
        ("redis-server", "--version"),
        ("etcd", "--version"),
        ("dpkg-query", "-W", "zookeeper"),
    ):
        with contextlib.suppress(Missing):
            said = subprocess.run(
                [need_program(program, program), *how],
                capture_output=True,
                text=True,
            ).stdout
            number = re.search(r"\d+(\.\d+)+", said)
            if number is not None:
                name = "ZooKeeper" if "zookeeper" in how else program
                found.append(f"{name} {number[0]}")
    return ", ".join(found)


class PeerServer(abc.ABC):
    """One server process."""

    def __init__(self, root: Path) -> None:
        self.folder = root / type(self).__name__.lower()
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.process = ManagedProcess(
            self.command(),
            name=self.folder.name,
            log=self.folder / "server.log",
            cwd=self.folder,
        )

    @property
    def at(self) -> str:
        return f"{HOST}:{self.port}"

    @abc.abstractmethod
    def command(self) -> list[str]:
        """How it is started.

        :raises Missing: if it is not installed.
        """

    def start(self) -> None:
        """Start it; returns once it takes connections."""
        self.process.start()
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection((HOST, self.port), 1.0).close()
                return
            except OSError:
                if time.monotonic() > deadline or not self.process.alive:
                    raise ProcessError(
                        f"does not start\n{self.process.tail()}"
                    ) from None
            time.sleep(WATCH_INTERVAL)

    def close(self) -> None:
        self.process.close()


class ZooKeeper(PeerServer):
    """A single ZooKeeper, with the settings of its example."""

    def command(self) -> list[str]:
        java = need_program("java", "java")
        if not ZOOKEEPER_JAR.exists():
            raise Missing("zookeeper is not installed")
        config = self.folder / "zoo.cfg"
        config.write_text(
            "tickTime=2000\n"
            f"dataDir={self.folder / 'data'}\n"
            f"clientPort={self.port}\n"
            f"clientPortAddress={HOST}\n"
            "admin.enableServer=false\n",
            "utf-8",
        )
        # Its log, which would go to /var/log: nobody reads it here.
        quiet = ["-Dzookeeper.root.logger=WARN,CONSOLE"]
        quiet += [f"-Dzookeeper.log.dir={self.folder}"]
        main = "org.apache.zookeeper.server.ZooKeeperServerMain"
        jar = str(ZOOKEEPER_JAR)
        return [java, "-Xmx256m", *quiet, "-cp", jar, main, str(config)]


class Redis(PeerServer):
    """A single Redis that writes nothing to disk."""

    def command(self) -> list[str]:
        program = need_program("redis-server", "redis-server")
        words = f"--port {self.port} --bind {HOST} --appendonly no"
        return [program, *words.split(), "--save", "", "--dir", "."]


class Etcd(PeerServer):
    """A single etcd."""

    def command(self) -> list[str]:
        program = need_program("etcd", "etcd-server")
        client = f"http://{HOST}:{self.port}"
        peer = f"http://{HOST}:{free_port()}"
        return [
            program,
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]
