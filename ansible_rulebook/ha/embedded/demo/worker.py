"""A worker of the demo: its process, and what its own output tells."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Callable

from ..java import java_home

START_TIMEOUT = 40.0  # seconds; Java takes most of it on a small machine
EVENT_TIMEOUT = 15.0  # seconds
STOP_TIMEOUT = 20.0  # seconds
WATCH_INTERVAL = 0.05  # seconds

# Two writers may share a line of a log, so a time can stand amid a line.
STAMP = r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]\d+)"
EVENT = re.compile(
    rf"\*\* {STAMP} \[received event\]" r"(?:.|\n)*?\nEvent:\n(\w+\(|\{)"
)
ROLE = re.compile(
    rf"{STAMP} - \S+ - INFO - Worker \S+: "
    r"(Following|Successfully acquired leadership|Lost leadership|Stopped)"
)
FOLLOWS = r"Worker \S+: Following.*"
LEADS = "Successfully acquired leadership"
LOST = "Lost leadership"

# Set by whoever runs the demo, these would reach every worker.
FOREIGN_ENV = ("EDA_", "ANSIBLE_INVENTORY")


class NotSeen(Exception):
    """The demo did not go as it should."""


@dataclass(frozen=True)
class Entry:
    """One thing that happened; times are seconds since the epoch."""

    at: float
    who: str
    what: str


class Worker:
    """One process with a log, in a session of its own.

    Args:
        name: its worker id.
        options: of ansible-rulebook, less those that name the worker.
        root: where its log and its working directory lie.
        life: which process of this name it is, from 1.
    """

    def __init__(
        self, name: str, options: Sequence[str], root: Path, life: int = 1
    ) -> None:
        self.name = name
        self.options = options
        self.root = root
        self.life = life
        suffix = f"~{life}" if life > 1 else ""
        self.log = root / f"{name}{suffix}.log"
        self.killed_at: float | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        folder = self.root / self.name
        folder.mkdir(exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_program(), *self.options, "--ha-worker-id", self.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                cwd=folder,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            # Not reaped yet, so this group is still its own.
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def again(self) -> Worker:
        """The same worker once more, not started, with a log of its own."""
        return Worker(self.name, self.options, self.root, self.life + 1)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def text(self) -> str:
        """All that it has written so far."""
        return self.log.read_text("utf-8", errors="replace")

    def tail(self, count: int) -> str:
        """The last lines that it wrote."""
        lines = self.text.splitlines()[-count:]
        shown = "\n".join(f"  | {line}" for line in lines)
        return f"End of {self.log.name}:\n{shown or '  (empty)'}"

    def events(self) -> list[float]:
        """When its rule engine received each event."""
        return [
            seconds(match.group(1))
            for match in EVENT.finditer(self.text)
            if match.group(2) == "{"  # not the message that ends it
        ]

    def roles(self) -> list[Entry]:
        """What it said of its role."""
        return [
            Entry(seconds(match.group(1)), self.name, match.group(2))
            for match in ROLE.finditer(self.text)
        ]

    def when(self, what: str) -> float | None:
        """The first time that it said so."""
        return next((e.at for e in self.roles() if e.what == what), None)

    def leads(self) -> bool:
        """Whether it does by its own word."""
        return self.when(LEADS) is not None and self.when(LOST) is None

    def led_until(self) -> float | None:
        return self.killed_at or self.when(LOST)

    def wait_events(self, count: int) -> None:
        """Wait until it has received so many events.

        :raises NotSeen: it did not, or it ended.
        """
        self._wait(
            lambda: len(self.events()) >= count,
            EVENT_TIMEOUT,
            f"receive {count} events",
        )

    def wait_follows(self, leader: str) -> None:
        """Wait until it says whom it follows.

        :raises NotSeen: that is somebody else, or nobody.
        """
        self._wait(
            lambda: re.search(FOLLOWS, self.text) is not None,
            START_TIMEOUT,
            "follow",
        )
        found = re.search(FOLLOWS, self.text)
        if found is None or f"leader={leader}" not in found.group():
            raise NotSeen(f"{self.name} does not follow {leader}: {found}")

    def wait_leads(self, timeout: float) -> None:
        """Wait until it leads.

        :raises NotSeen: it does not within so many seconds, or it ended.
        """
        self._wait(self.leads, timeout, "lead")

    def _wait(
        self, seen: Callable[[], bool], timeout: float, what: str
    ) -> None:
        deadline = time.monotonic() + timeout
        while not seen():
            if not self.alive:
                raise NotSeen(f"{self.name} ended and did not {what}")
            if time.monotonic() > deadline:
                raise NotSeen(
                    f"{self.name} did not {what} within {timeout:g} s"
                )
            time.sleep(WATCH_INTERVAL)

    def kill(self) -> int:
        """End it with SIGKILL; the exit code."""
        self.killed_at = time.time()
        return self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it with SIGTERM; the exit code.

        :raises NotSeen: it goes on.
        """
        return self._end(signal.SIGTERM)

    def _end(self, signum: int) -> int:
        assert self._process is not None
        self._process.send_signal(signum)
        try:
            return self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise NotSeen(
                f"{self.name} did not end within {STOP_TIMEOUT:g} s"
            ) from None


def wait_leader(workers: Sequence[Worker]) -> Worker:
    """Wait until one of them leads.

    :raises NotSeen: none does, or all ended.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while any(worker.alive for worker in workers):
        for worker in workers:
            if worker.alive and worker.leads():
                return worker
        if time.monotonic() > deadline:
            raise NotSeen(f"nobody led within {START_TIMEOUT:g} s")
        time.sleep(WATCH_INTERVAL)
    raise NotSeen("no worker is alive")


def seconds(stamp: str) -> float:
    """A local time as seconds since the epoch."""
    whole, _, fraction = stamp.replace(",", ".").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction:0<6}").timestamp()


def _program() -> list[str]:
    """The command of this Python, whatever ``PATH`` says."""
    beside = Path(sys.executable).with_name("ansible-rulebook")
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-m", "ansible_rulebook"]


def _environment() -> dict[str, str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN_ENV)
    }
    # ansible-rulebook finds ansible-galaxy by PATH.
    beside = str(Path(sys.executable).parent)
    env["PATH"] = os.pathsep.join((beside, env.get("PATH", os.defpath)))
    env["PYTHONUNBUFFERED"] = "1"
    home = java_home()
    if home is not None:
        env["JAVA_HOME"] = home
    return env
