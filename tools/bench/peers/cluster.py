"""Two processes that want one lock, and what befalls the one that has it."""

from __future__ import annotations

import abc
import enum
import math
import re
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from rig.contender import ContenderProcess
from rig.history import NANO, assert_one_leader, takeover
from rig.process import ManagedProcess, ProcessError

from ..report import Figure
from ..setting import tools_env

MEMBERS = 2
START_TIMEOUT = 60.0  # seconds
WATCH_INTERVAL = 0.05  # seconds
RECORD_DELAY = 0.1  # seconds until a contender's record is written
ASKING = r"^asking"
LOCKED = r"^locked (\d+)"


class Fault(enum.Enum):
    """What befalls the process that leads."""

    KILL = "after kill -9"
    PAUSE = "after SIGSTOP"
    STOP = "after a clean stop (SIGTERM)"


class Cluster(abc.ABC):
    """One kind of peer with one set of timings.

    :param name: as tables show it.
    :param ttl: seconds after which its server gives up on a silent leader;
        infinity if it never does.
    :param closes: whether the server takes the end of a connection for the
        end of the leader, so that a killed one is replaced at once.
    """

    def __init__(self, name: str, ttl: float, closes: bool = False) -> None:
        self.name = name
        self.ttl = ttl
        self.closes = closes
        self.members: list[ManagedProcess] = []
        self.struck: ManagedProcess | None = None
        self.since = 0  # ns
        self.started = 0
        self.seconds: dict[Fault, list[float]] = {each: [] for each in Fault}
        self.waited = dict.fromkeys(Fault, math.inf)

    def expected(self, fault: Fault) -> float:
        """About how many seconds a takeover takes at most."""
        if fault is Fault.STOP or (fault is Fault.KILL and self.closes):
            return 0.0
        return self.ttl

    # What a kind of peer knows

    @abc.abstractmethod
    def make(self, name: str) -> ManagedProcess:
        """One more process, not started."""

    @abc.abstractmethod
    def leads(self, member: ManagedProcess) -> bool:
        """Whether it has the lock."""

    @abc.abstractmethod
    def waits(self, member: ManagedProcess) -> bool:
        """Whether it is ready to take over."""

    @abc.abstractmethod
    def led_at(self, member: ManagedProcess) -> int | None:
        """When it got the lock: nanoseconds of the monotonic clock."""

    def clean(self, dead: ManagedProcess) -> None:
        """Remove what is left of a member."""
        dead.close()

    # What is done

    def set_up(self) -> None:
        """Start the first one; fill() starts the other."""
        self._join()

    def fill(self) -> None:
        """Be two again, and one of them the leader, before this returns."""
        while len(self.members) < MEMBERS:
            self.ready(len(self.members))
            self._join()
        self.ready(MEMBERS)

    def _join(self) -> None:
        self.started += 1
        member = self.make(f"{_file_name(self.name)}-{self.started}")
        self.members.append(member)
        member.start()

    def ready(self, members: int) -> None:
        """Wait until one has the lock, and the others want it."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            leaders = [each for each in self.members if self.leads(each)]
            waiting = [each for each in self.members if self.waits(each)]
            if len(leaders) == 1 and len(leaders + waiting) == members:
                return
            if time.monotonic() > deadline:
                tails = "\n".join(each.tail(15) for each in self.members)
                raise ProcessError(f"{self.name}: not ready\n{tails}")
            time.sleep(WATCH_INTERVAL)

    def strike(self, fault: Fault) -> None:
        """Do it to the one that leads."""
        self.ready(MEMBERS)
        leaders = [each for each in self.members if self.leads(each)]
        if len(leaders) != 1:
            raise ProcessError(f"{self.name}: the leader is gone")
        (struck,) = leaders
        if fault is Fault.KILL:
            at = struck.kill()
        elif fault is Fault.PAUSE:
            at = struck.pause()
        else:
            at = struck.signal(15)
        self.members.remove(struck)
        self.struck, self.since = struck, round(at / NANO)

    def took(self) -> float | None:
        """Seconds until another one had the lock, if it has it."""
        for member in self.members:
            at = self.led_at(member)
            if at is not None and at >= self.since:
                return (at - self.since) * NANO
        return None

    def finish(self, fault: Fault) -> None:
        """Note how long it took, and clear up."""
        seconds = self.took()
        waited = time.monotonic() - self.since * NANO
        if seconds is None:
            self.waited[fault] = min(self.waited[fault], waited)
        self.seconds[fault].append(math.inf if seconds is None else seconds)
        assert self.struck is not None
        self.clean(self.struck)
        self.struck = None
        if seconds is None:
            self.start_over()

    def start_over(self) -> None:
        """Nobody would ever have the lock again."""
        while self.members:
            self.clean(self.members.pop())
        self.set_up()

    def figure(self, fault: Fault) -> Figure:
        waited = self.waited[fault]
        return Figure(
            self.name,
            "s",
            self.seconds[fault],
            fault.value,
            math.floor(waited) if math.isfinite(waited) else None,
            "" if self.seconds[fault] else "given up",
        )

    def check(self) -> None:  # noqa: B027
        """What has to be true of the whole run, if anything is known."""

    def close(self) -> None:
        for member in [*self.members, self.struck]:
            if member is not None:
                self.clean(member)
        self.members.clear()
        self.struck = None


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class Elections(Cluster):
    """This project: LeaderElection, in processes of its own."""

    def __init__(
        self, name: str, root: Path, dsn: str, poll: float, lease: float
    ) -> None:
        super().__init__(name, lease, closes=True)
        self.root = root
        self.dsn = dsn
        self.poll, self.lease = poll, lease
        self.uuid = str(uuid.uuid4())
        self.everybody: list[ContenderProcess] = []

    def make(self, name: str) -> ManagedProcess:
        made = ContenderProcess(
            self.dsn,
            self.uuid,
            name,
            root=self.root,
            poll=self.poll,
            lease=self.lease,
        )
        self.everybody.append(made)
        return made

    def leads(self, member: ManagedProcess) -> bool:
        return _last_role(member) == "leader"

    def waits(self, member: ManagedProcess) -> bool:
        # The log says so once the lock was found to be taken.
        return _last_role(member) == "follower" and bool(
            member.find(r"Worker \S+: Following")
        )

    def led_at(self, member: ManagedProcess) -> int | None:
        if not self.leads(member):
            return None
        assert isinstance(member, ContenderProcess)
        time.sleep(RECORD_DELAY)
        # From the record: the first answer of is_leader() that was true.
        seconds = takeover([member.record], self.since, without="")
        return None if seconds is None else self.since + round(seconds / NANO)

    def check(self) -> None:
        """Being fast is worth nothing if two led at once."""
        assert_one_leader([each.record for each in self.everybody])


def _last_role(member: ManagedProcess) -> str:
    roles = member.find(r"^role ")
    return roles[-1].text.split()[1] if roles else ""


class Peers(Cluster):
    """Processes of contender.py."""

    def __init__(
        self,
        name: str,
        root: Path,
        kind: str,
        at: str,
        *how: str,
        ttl: float,
        closes: bool = False,
    ) -> None:
        super().__init__(name, ttl, closes)
        self.root = root
        argv = [sys.executable, "-m", "bench.peers.contender", kind]
        self.argv = [*argv, "--at", at, *how]
        self.lock = f"bench-{_file_name(name)}"

    def start_over(self) -> None:
        self.lock += "-again"  # the old one may be held for ever
        super().start_over()

    def make(self, name: str) -> ManagedProcess:
        return ManagedProcess(
            [*self.argv, "--lock", self.lock],
            name=name,
            log=self.root / f"{name}.log",
            env=tools_env(),
            stdin=True,
        )

    def leads(self, member: ManagedProcess) -> bool:
        return bool(member.find(LOCKED))

    def waits(self, member: ManagedProcess) -> bool:
        return bool(member.find(ASKING)) and not self.leads(member)

    def led_at(self, member: ManagedProcess) -> int | None:
        found = member.find(LOCKED)
        return int(found[0].text.split()[1]) if found else None


class Psql(Peers):
    """PostgreSQL's own client; the server says when it had the lock."""

    def __init__(self, name: str, root: Path, psql: str, dsn: str) -> None:
        super().__init__(name, root, "wait", dsn, ttl=math.inf, closes=True)
        self.argv = [psql, "-AtX", dsn]

    def make(self, name: str) -> ManagedProcess:
        return _PsqlProcess(
            self.argv,
            name=name,
            log=self.root / f"{name}.log",
            stdin=True,
        )

    def led_at(self, member: ManagedProcess) -> int | None:
        at = super().led_at(member)
        if at is None:
            return None
        return at - time.time_ns() + time.monotonic_ns()


class _PsqlProcess(ManagedProcess):
    """Asks on its standard input, which stays open: it is idle then."""

    lines_to_say: Sequence[str] = (
        "\\echo asking",
        "SELECT pg_advisory_lock(1);",
        "SELECT 'locked ' || round(extract(epoch FROM clock_timestamp())"
        " * 1000000) || '000';",
    )

    def start(self) -> _PsqlProcess:
        super().start()
        for line in self.lines_to_say:
            self.say(line)
        return self
