"""Real workers, each behind proxies of its own, kept at their number.

A worker is a name and a place; each process that takes it is one of its
lives. Whoever waits here tends to them meanwhile: a worker that ended is
written down and started again, in the background.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from rig.clocks import Clocks
from rig.history import NANO
from rig.ports import free_port
from rig.process import ProcessError
from rig.proxy import Proxy
from rig.workers import WorkerProcess

from .access import Access
from .broker import Broker, Write
from .records import PLAYS as PLAYS_SUFFIX
from .records import SUFFIX
from .rulebook import (
    ALIVE,
    ALIVE_PATH,
    INVENTORY,
    LIFE,
    PLAYBOOK,
    PLAYBOOK_PATH,
    PLAYS,
    PORT,
    RECORD,
    SOCKET,
    SOURCES,
    VARIABLES,
    rulebook,
)

TOOLS = Path(__file__).resolve().parent.parent
WATCH_EVERY = 0.02  # seconds
PATIENCE = 120.0  # seconds for anything, on a busy machine
ORPHANS_AFTER = 3.0  # seconds on top of the lease
CLEAN_EVERY = 0.5  # seconds between two looks for children of the dead
NEEDED = 2  # workers that have to be ready before the next fault

TRANSITION = re.compile(
    r"Worker \S+: (Following|Successfully acquired|Lost leadership"
    r"|Not promoted|No session with|Draining|Stopped)"
)
TRACEBACK = "Traceback (most recent call last)"
READY = ("Following", "Successfully acquired")


class ChaosError(RuntimeError):
    """The cluster does not do what the schedule needs."""


@dataclass(frozen=True)
class Settings:
    """What the workers of a cluster are like; times in seconds.

    :param variables: more of their environment.
    """

    state: bool = False
    workers: int = 3
    poll: float = 1.0
    lease: float = 3.0
    every: float = 0.15
    window: int = 2
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


class Member:
    """One worker: a name, its way to the server, and its present life."""

    def __init__(
        self,
        name: str,
        proxies: list[Proxy],
        port: int,
        process: WorkerProcess,
    ) -> None:
        self.name = name
        self.proxies = proxies
        self.port = port
        self.process = process
        self.paused = False
        self.buried = False  # its end is written down
        self.expected: list[int] = []  # exit codes that may come
        self._said = ""
        self._read = 0

    @property
    def life(self) -> str:
        """The name of its present life."""
        return self.process.name

    @property
    def is_ready(self) -> bool:
        """Whether it leads or could, by its own word."""
        lines = self.process.lines
        for line in lines[self._read :]:
            match = TRANSITION.search(line.text)
            if match:
                self._said = match.group(1)
        self._read = len(lines)
        return self.process.alive and not self.paused and self._said in READY

    def take(self, process: WorkerProcess) -> None:
        """Another process takes its place."""
        self.process = process
        self.paused = self.buried = False
        self.expected = []
        self._said = ""
        self._read = 0


class Cluster:
    """The workers of one run.

    :param folder: for logs and records.
    :param ha_uuid: names the cluster.
    :param write: writes a row to the driver's record.
    :param clocks: of the workers, where these can be set.
    """

    def __init__(
        self,
        folder: Path,
        ha_uuid: str,
        settings: Settings,
        servers: Access,
        broker: Broker,
        write: Write,
        clocks: Clocks | None = None,
    ) -> None:
        self.settings = settings
        self.servers = servers
        self.clocks = clocks
        self._folder = folder
        self._broker = broker
        self._write = write
        self._stopping = False
        self._dead: list[WorkerProcess] = []  # with children, perhaps
        self._cleaned_at = 0.0
        self.members: list[Member] = []
        book = folder / "rulebook.yml"
        text = rulebook(settings.state, settings.every, settings.window)
        book.write_text(text, "utf-8")
        for number in range(1, settings.workers + 1):
            self.members.append(self._make(f"w{number}", ha_uuid, book))

    def __enter__(self) -> Cluster:
        for member in self.members:
            self._start(member.process)
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.process.close()
        for process in self._dead:
            process.close()

    # -- who is what -----------------------------------------------------

    def leader(self) -> Member | None:
        """Who leads at this instant, if anybody does."""
        for member in self.members:
            if self.ask(member, status=True).get("leads"):
                return member
        return None

    def ask(self, member: Member, **question: Any) -> dict[str, Any]:
        """What its recording answers; nothing if it cannot."""
        if member.paused or not member.process.alive:
            return {}
        witness = self._broker.witness(member.life)
        answer = None if witness is None else witness.ask(**question)
        return answer or {}

    def pick(self, target: str, choice: float) -> Member:
        """The worker for a fault: the leader, or one of those that follow."""
        leader = self.wait_leader()
        others = [
            each
            for each in self.members
            if each is not leader and each.is_ready
        ]
        if target == "leader" or not others:
            return leader
        return others[int(choice * len(others))]

    # -- waiting -----------------------------------------------------------

    def until(
        self, what: Callable[[], Any], why: str, timeout: float = PATIENCE
    ) -> Any:
        """Wait until it gives something true, and return that.

        :raises ChaosError: if it does not in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            self.tend()
            found = what()
            if found:
                return found
            if time.monotonic() > deadline:
                tails = "\n".join(m.process.tail(15) for m in self.members)
                raise ChaosError(f"not within {timeout:g} s: {why}\n{tails}")
            time.sleep(WATCH_EVERY)

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tend()
            time.sleep(min(WATCH_EVERY, max(0.0, end - time.monotonic())))

    def wait_leader(self) -> Member:
        """Wait until somebody leads."""
        found: Member = self.until(self.leader, "nobody leads")
        return found

    def wait_calm(self, ready: int = NEEDED) -> None:
        """Wait until one leads and enough others could."""
        self.until(
            lambda: (
                sum(member.is_ready for member in self.members) >= ready
                and self.leader() is not None
            ),
            f"one leads, {ready} are ready",
        )

    # -- keeping them alive --------------------------------------------------

    def tend(self) -> None:
        """Write down who ended, start its next life, look for orphans."""
        for member in self.members:
            process = member.process
            if process.alive or member.buried:
                continue
            self._bury(member)
            if not self._stopping:
                member.take(self._prepared(process.again()))
                self._start(member.process)
        if time.monotonic() > self._cleaned_at + CLEAN_EVERY:
            self._cleaned_at = time.monotonic()
            for process in list(self._dead):
                self._clean(process)

    def stop(self) -> None:
        """End them all as an operator would; returns when they have ended."""
        # One that is still starting would not know how to end well.
        self.wait_calm(ready=len(self.members))
        self._stopping = True
        for member in self.members:
            if member.process.alive:
                member.expected = [0]
                member.process.signal(15)
        self.until(
            lambda: not any(m.process.alive for m in self.members),
            "they end when asked to",
        )
        self.until(lambda: not self._dead, "their children end as well")

    def poison(self, source: str) -> None:
        """Have the next event of this source be one that nobody stores."""
        self._broker.poison(source)

    def said(self, what: str) -> int:
        """How often those that live have said this."""
        return sum(len(each.process.find(what)) for each in self.members)

    @property
    def ports(self) -> list[int]:
        """Where workers listen for events."""
        return [each.port for each in self.members]

    def expect(self, member: Member, *codes: int) -> None:
        """It may end with these codes from now on."""
        member.expected = list(codes)

    def _make(self, name: str, ha_uuid: str, book: Path) -> Member:
        proxies = self.servers.proxies()
        port = free_port()
        process = WorkerProcess(
            book,
            root=self._folder,
            name=name,
            dsn=self.servers.dsn(proxies),
            ha_uuid=ha_uuid,
            worker_id=name,
            poll_interval=self.settings.poll,
            lease_duration=self.settings.lease,
            verbosity=0,
            args=[
                *("--source-dir", str(SOURCES)),
                *("--inventory", str(INVENTORY)),
                *("--env-vars", ",".join(VARIABLES)),
                *self.settings.options,
            ],
            env={
                **self.settings.variables,
                **(self.clocks.variables(name) if self.clocks else {}),
                "PYTHONPATH": os.pathsep.join(
                    filter(None, (str(TOOLS), os.environ.get("PYTHONPATH")))
                ),
                SOCKET: str(self._broker.path),
                PLAYBOOK_PATH: str(PLAYBOOK),
                ALIVE_PATH: str(ALIVE),
                PORT: str(port),
            },
        )
        return Member(name, proxies, port, self._prepared(process))

    def _prepared(self, process: WorkerProcess) -> WorkerProcess:
        """With records of its own."""
        name = process.name
        process.env = {
            **process.env,
            LIFE: name,
            RECORD: str(self._folder / f"{name}{SUFFIX}"),
            PLAYS: str(self._folder / f"{name}{PLAYS_SUFFIX}{SUFFIX}"),
        }
        return process

    def _start(self, process: WorkerProcess) -> None:
        process.start()
        self._write("started", life=process.name, at=time.monotonic_ns())

    def _bury(self, member: Member) -> None:
        process = member.process
        member.buried = True
        self._dead.append(process)
        self._write(
            "exit",
            life=process.name,
            code=process.returncode,
            expected=member.expected,
            at=round((process.powerless_at or 0.0) / NANO),
        )

    def _clean(self, process: WorkerProcess) -> None:
        """Let go of one that is dead, once its children have ended."""
        left = process.descendants()
        limit = self.settings.lease + ORPHANS_AFTER
        if left and time.monotonic() < (process.exited_at or 0.0) + limit:
            return
        self._dead.remove(process)
        if left:
            self._write(
                "orphans",
                life=process.name,
                pids=left,
                at=time.monotonic_ns(),
            )
        process.close()
        for what in self._leaks(process.text):
            self._write(
                "leaked",
                life=process.name,
                what=what,
                at=time.monotonic_ns(),
            )

    def _leaks(self, text: str) -> Iterator[str]:
        """What no log should have."""
        if any(each in text for each in self.servers.passwords):
            yield "a password"
        for after in text.split(TRACEBACK)[1:]:
            # The first line that is not indented says what was raised.
            lines = iter(after.splitlines()[1:])
            error = next((each for each in lines if each[:1] != " "), "")
            yield f"a traceback ({error[:200]})"


__all__ = ["ChaosError", "Cluster", "Member", "ProcessError", "Settings"]
