"""An HAProxy before workers, if this machine has one installed."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from rig.ports import free_port
from rig.process import ManagedProcess, ProcessError

HOST = "127.0.0.1"
START_TIMEOUT = 30.0  # seconds
LOOK_EVERY = 0.02  # seconds
PLACES = ("/usr/sbin", "/usr/local/sbin")  # not always on a user's PATH
ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "deploy" / "haproxy" / "haproxy.cfg"


def find_binary() -> str | None:
    """Where it is, or None if it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *PLACES))
    return shutil.which("haproxy", path=path)


class HaProxyProcess(ManagedProcess):
    """One, on a free port of loopback.

    :param config: a configuration as in ``deploy/haproxy``: addresses come
        by variables.
    :param workers: of each worker the port of its source, and that of its
        ``--ha-http-listen``.
    """

    def __init__(
        self,
        config: Path,
        workers: Sequence[tuple[int, int]],
        *,
        root: Path,
        name: str = "haproxy",
    ) -> None:
        binary = find_binary()
        if binary is None:
            raise ProcessError("haproxy is not installed")
        self.port = free_port()
        env = dict(os.environ, EDA_BIND=f"{HOST}:{self.port}")
        for number, (source, http) in enumerate(workers, 1):
            env[f"EDA_W{number}"] = f"{HOST}:{source}"
            env[f"EDA_W{number}_HTTP"] = str(http)
        super().__init__(
            [binary, "-db", "-f", str(config)],
            name=name,
            log=root / f"{name}.log",
            env=env,
        )

    def wait_listens(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not listens(self.port):
            if time.monotonic() > deadline or not self.alive:
                raise ProcessError(f"it does not listen\n{self.tail()}")
            time.sleep(LOOK_EVERY)


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 5).close()
    except OSError:
        return False
    return True
