"""Nodes of a PostgreSQL under Patroni, each with a server of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rig.ports import HOST, free_port
from rig.process import ManagedProcess

PATRONI = [sys.executable, "-m", "patroni"]
ANSWER_TIMEOUT = 1.0  # seconds
# Debian's PostgreSQL wants one where only its own account may write.
NO_SOCKET = """
postgresql:
  parameters:
    unix_socket_directories: ""
"""


def obstacle() -> str:
    """Why no node can run here; empty if one can."""
    if find_spec("patroni") is None or find_spec("etcd") is None:
        return "Patroni is not installed"
    if find_spec("patroni.dcs.etcd3") is None:
        return "a Patroni that speaks etcd 3 is not installed"
    if not os.geteuid() and not _prefix():
        return "Patroni cannot be run as root here"
    return ""


def _prefix() -> list[str]:
    """What Patroni's command has to be prefixed with.

    PostgreSQL refuses to run as root. In a user namespace of its own, root
    is somebody else by name, and can read all that it could before.
    """
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if not os.geteuid() and shutil.which("unshare") is not None:
        tried = subprocess.run([*prefix, "true"], capture_output=True)
        if not tried.returncode:
            return prefix
    return []


class PatroniNode(ManagedProcess):
    """One Patroni with its PostgreSQL.

    :param root: of its folder and its log.
    :param config: its file, for which variables give what differs. It gets
        no Unix socket, whatever that says.
    :param etcd: where etcd listens, "host:port".
    :param bin_dir: with PostgreSQL's programs.
    :param password: of the superuser and for replication.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        config: Path,
        etcd: str,
        bin_dir: Path,
        password: str,
    ) -> None:
        self.node = name
        self.folder = root / name
        self.folder.mkdir(parents=True)
        self.data = self.folder / "data"
        self.port = free_port()
        self._rest = f"{HOST}:{free_port()}"
        postgres = f"{HOST}:{self.port}"
        both = self.folder / "config"
        both.mkdir()
        shutil.copy(config, both / "1.yml")
        (both / "2.yml").write_text(NO_SOCKET)
        super().__init__(
            [*_prefix(), *PATRONI, str(both)],
            name=name,
            log=root / f"{name}.log",
            cwd=self.folder,
            env={
                **_without_ours(os.environ),
                "PATRONI_NAME": name,
                "PATRONI_ETCD3_HOSTS": etcd,
                "PATRONI_RESTAPI_LISTEN": self._rest,
                "PATRONI_RESTAPI_CONNECT_ADDRESS": self._rest,
                "PATRONI_POSTGRESQL_LISTEN": postgres,
                "PATRONI_POSTGRESQL_CONNECT_ADDRESS": postgres,
                "PATRONI_POSTGRESQL_DATA_DIR": str(self.data),
                "PATRONI_POSTGRESQL_BIN_DIR": str(bin_dir),
                "PATRONI_POSTGRESQL_PGPASS": str(self.folder / "pgpass"),
                "PATRONI_SUPERUSER_PASSWORD": password,
                "PATRONI_REPLICATION_PASSWORD": password,
            },
        )

    def again(self) -> PatroniNode:
        """The same node once more, not started, with a log of its own."""
        count = int(self.name.partition("~")[2] or 1)
        return self.twin(f"{self.node}~{count + 1}")

    def says(self, path: str) -> bool:
        """What its health check answers: whether that is 200."""
        try:
            with urllib.request.urlopen(
                f"http://{self._rest}/{path}", timeout=ANSWER_TIMEOUT
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def post(self, path: str, **values: Any) -> None:
        """Tell it something.

        :raises OSError: if it refuses.
        """
        request = urllib.request.Request(
            f"http://{self._rest}/{path}", json.dumps(values).encode()
        )
        with urllib.request.urlopen(request, timeout=60):
            pass

    def kill(self) -> float:
        """The whole node: Patroni alone would leave its server running."""
        at = super().kill()
        self._kill_server()
        return at

    def close(self) -> None:
        super().close()
        self._kill_server()

    def _kill_server(self) -> None:
        try:
            first = (self.data / "postmaster.pid").read_text().split()[0]
            # Its number may be somebody else's by now.
            cwd = Path(f"/proc/{first}/cwd").resolve(strict=True)
        except (OSError, IndexError):
            return
        if cwd == self.data.resolve():
            with contextlib.suppress(OSError):
                os.kill(int(first), signal.SIGKILL)


def _without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("PG", "PATRONI_"))
    }
