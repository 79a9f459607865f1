"""What systemd is told, by a socket that listens as systemd's does."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_rulebook.ha.operations.systemd import Systemd

KINDS = ["path", "abstract"] if sys.platform == "linux" else ["path"]


class Manager:
    """Listens as the service manager does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._socket.bind(name.replace("@", "\0", 1))

    def heard(self) -> str:
        return self._socket.recv(4096).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=KINDS)
def manager(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Manager]:
    name = f"{tmp_path}/notify"
    if request.param == "abstract":
        name = f"@eda-ha-{secrets.token_hex(8)}"
    made = Manager(name)
    yield made
    made.close()


def test_all_that_happens_is_told(manager: Manager) -> None:
    systemd = Systemd(
        {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "3000000"}
    )
    systemd.ready()
    assert manager.heard() == "READY=1"
    systemd.status("leader", 7)
    assert manager.heard() == "STATUS=leader, term 7"
    systemd.status("follower")
    assert manager.heard() == "STATUS=follower"
    assert systemd.watchdog_every == 1.5
    systemd.watchdog()
    assert manager.heard() == "WATCHDOG=1"
    systemd.stopping()
    assert manager.heard() == "STOPPING=1"
    systemd.extend(2.5)
    assert manager.heard() == "EXTEND_TIMEOUT_USEC=2500000"


def test_a_text_is_one_line_of_one_variable(manager: Manager) -> None:
    Systemd({"NOTIFY_SOCKET": manager.name}).status("x\nREADY=1")
    assert manager.heard() == r"STATUS=x\nREADY=1"


def test_what_a_playbook_starts_does_not_speak_for_the_worker(
    manager: Manager,
) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.name,
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    Systemd(environ)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog_is_fed_that_is_not_ours(
    manager: Manager, more: dict[str, str]
) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.name, **more})
    assert systemd.watchdog_every is None
    systemd.watchdog()
    systemd.ready()
    assert manager.heard() == "READY=1"


@pytest.mark.parametrize("name", ["", "relative", "/not/there", "vsock:2:1"])
def test_without_a_manager_nothing_happens(name: str) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    systemd.ready()
    systemd.watchdog()
    systemd.stopping()


def test_a_manager_that_does_not_listen_holds_nobody_up(
    manager: Manager,
) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.name})
    began = time.monotonic()
    for _ in range(10_000):  # far more than its queue takes
        systemd.ready()
    assert time.monotonic() - began < 10
