"""What followers of one lock cost the server, and what many of them change.

The leader is a process of its own. Followers share processes where there are
too many for one machine to start; each has a session of its own all the same.
Statements are counted in the server's log, and processor time is read from
the scheduler's books, in a second window in which nothing is logged.
"""

from __future__ import annotations

import math
import os
import random
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from rig.history import NANO
from rig.process import ProcessError, stat_fields
from rig.server import EmbeddedRig
from rig.workers import worker_of

from ansible_rulebook.ha.election.lease import POLL_INTERVAL

from .crowd import CrowdProcess
from .report import Figure, Result
from .rivals import LOCKED, RivalProcess
from .setting import Setting
from .statements import PREFIX, count

FOLLOWERS = (2, 20, 200)
POLLS = 20  # processes that try the lock instead
PROCESSES = 20  # at most, so that 200 followers come by tens
QUICK_POLL = 1.0  # seconds
START_TIMEOUT = 120.0  # seconds
TAKEOVER_TIMEOUT = 30.0  # seconds
CALM = 0.5  # seconds, at most, from a full queue to the next kill
WATCH_INTERVAL = 0.02  # seconds
SETTINGS: dict[str, str | int] = {
    "max_connections": max(FOLLOWERS) + 20,
    "log_line_prefix": PREFIX,
    "autovacuum": "off",  # not what is measured
}


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of processes, all threads, as the kernel counts it."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(path.read_text().split()[0])
    return total * NANO


def backends(postmaster: int) -> list[int]:
    """The server and its processes."""
    found = [postmaster]
    for entry in filter(str.isdigit, os.listdir("/proc")):
        fields = stat_fields(f"/proc/{entry}/stat")
        if fields and int(fields[1]) == postmaster:
            found.append(int(entry))
    return found


class Crowd:
    """One lock, its leader, and so many followers."""

    def __init__(
        self,
        setting: Setting,
        server: EmbeddedRig,
        followers: int,
        poll: float,
    ) -> None:
        self.setting = setting
        self.server = server
        self.followers = followers
        self.poll = poll
        self.dsn = server.create_database()
        self.uuid = str(uuid.uuid4())
        self.started = 0
        self.members: list[CrowdProcess] = []

    def set_up(self) -> None:
        self.join(1)
        self._until(lambda: len(self.leaders) == 1)
        each = max(1, math.ceil(self.followers / PROCESSES))
        left = self.followers
        while left > 0:
            self.join(min(each, left))
            left -= each
        self.until_full()

    def join(self, count: int) -> None:
        self.started += 1
        name = f"crowd{self.followers}-{self.started}"
        member = CrowdProcess(
            self.setting, name, self.dsn, self.uuid, count, self.poll
        )
        self.setting.stack.callback(member.close)
        self.members.append(member.start())

    @property
    def leaders(self) -> list[CrowdProcess]:
        return [each for each in self.members if each.locked_at is not None]

    def until_full(self) -> None:
        """Wait until all but one are in the queue."""

        def is_full() -> bool:
            (row,) = self.server.query(
                "SELECT count(*) FILTER (WHERE granted), count(*)"
                " FROM pg_locks WHERE locktype = 'advisory' AND database ="
                " (SELECT oid FROM pg_database"
                "   WHERE datname = current_database())",
                dsn=self.dsn,
            )
            return tuple(row) == (1, 1 + self.followers)

        self._until(is_full)

    def _until(self, is_so: object) -> None:
        assert callable(is_so)
        deadline = time.monotonic() + START_TIMEOUT
        while not is_so():
            if time.monotonic() > deadline:
                tails = "\n".join(each.tail(5) for each in self.members)
                raise ProcessError(f"{self.followers} do not wait\n{tails}")
            time.sleep(WATCH_INTERVAL)

    def statements(self, seconds: float) -> tuple[float, float]:
        """Of the leader and of all followers, per second."""
        (leader,) = self.leaders
        self._log_statements("all")
        since = time.time()
        time.sleep(seconds)
        until = time.time()
        self._log_statements("none")
        counts = count(self.server.logfile, since, until)
        of_leader = of_followers = 0
        for name, number in counts.items():
            # By the worker id; a crowd's leader is the first of its process.
            if worker_of(name) == f"{leader.name}-0":
                of_leader += number
            elif f":crowd{self.followers}-" in name:
                of_followers += number
        passed = until - since
        return of_leader / passed, of_followers / passed

    def _log_statements(self, which: str) -> None:
        with self.server.connect() as connection:
            connection.execute(
                f"ALTER SYSTEM SET log_statement = '{which}'".encode()
            )
            connection.execute("SELECT pg_reload_conf()")

    def processor(self, seconds: float) -> tuple[float, float, float]:
        """Of the server, the leader, all followers: seconds per second."""
        assert self.server.pid is not None
        (leader,) = self.leaders
        others = [each.pid for each in self.members if each is not leader]
        groups = (backends(self.server.pid), [leader.pid], others)
        before = [cpu_seconds(pids) for pids in groups]
        began = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        after = [cpu_seconds(pids) for pids in groups]
        server, one, rest = ((b - a) / passed for a, b in zip(before, after))
        return server, one, rest

    def takeover(self) -> float:
        """Kill the process that leads; seconds until another one does."""
        self.until_full()
        time.sleep(random.uniform(0, CALM))
        (leader,) = self.leaders
        since = leader.kill()
        self.members.remove(leader)
        deadline = time.monotonic() + TAKEOVER_TIMEOUT
        while not self.leaders:
            if time.monotonic() > deadline:
                raise ProcessError("nobody took over")
            time.sleep(WATCH_INTERVAL)
        at = self.leaders[0].locked_at
        assert at is not None
        leader.close()
        self.join(leader.count)
        return at * NANO - since

    def close(self) -> None:
        for member in self.members:
            member.close()


def polls(
    setting: Setting, server: EmbeddedRig, poll: float, seconds: float
) -> tuple[float, float]:
    """The same for plain polls: of the server and of all, per second."""
    assert server.pid is not None
    dsn = server.create_database()
    how = ("poll", "--interval", str(poll))
    members: list[RivalProcess] = []
    for number in range(1 + POLLS):
        member = RivalProcess(
            dsn, 1, f"poll-{number}", setting.folder("polls"), *how
        )
        setting.stack.callback(member.close)
        members.append(member.start())
        # The first one gets the lock, and says nothing more.
        member.wait_for("^asking" if number else LOCKED, START_TIMEOUT)
    time.sleep(poll)
    groups = (backends(server.pid), [each.pid for each in members[1:]])
    before = [cpu_seconds(pids) for pids in groups]
    began = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    of_server, of_polls = (
        (cpu_seconds(pids) - start) / passed
        for pids, start in zip(groups, before)
    )
    for member in members:
        member.close()
    return of_server, of_polls


def measure(setting: Setting) -> Result:
    poll = QUICK_POLL if setting.quick else POLL_INTERVAL
    counted = 4 * poll
    watched = setting.pick(6, 4) * poll
    takeovers = setting.pick(10, 3)
    server = setting.stack.enter_context(EmbeddedRig(SETTINGS))
    figures: list[Figure] = []
    alone = 0.0
    for followers in (0, *FOLLOWERS):
        setting.say(f"{followers} followers")
        crowd = Crowd(setting, server, followers, poll)
        crowd.set_up()
        time.sleep(poll)
        if not followers:
            alone, _, _ = crowd.processor(watched)
            crowd.close()
            continue
        _, asked = crowd.statements(counted)
        cpu_server, _, cpu_followers = crowd.processor(watched)
        seconds = []
        for number in range(takeovers):
            setting.say(f"{followers} followers, takeover {number + 1}")
            seconds.append(crowd.takeover())
        crowd.close()
        name = f"{followers} followers"
        figures += [
            Figure(
                "statements of a follower", "/s", [asked / followers], name
            ),
            Figure("statements of all", "/s", [asked], name),
            Figure(
                "server, processor time for a follower",
                "ms/s",
                [1e3 * (cpu_server - alone) / followers],
                name,
            ),
            Figure(
                "server, processor time in all",
                "ms/s",
                [1e3 * cpu_server],
                name,
            ),
            Figure(
                "processor time of a follower",
                "ms/s",
                [1e3 * cpu_followers / followers],
                name,
            ),
            Figure("takeover after kill -9", "s", seconds, name),
        ]
    setting.say(f"{POLLS} plain polls")
    of_server, of_polls = polls(setting, server, poll, watched)
    name = f"{POLLS} plain polls, to compare"
    figures += [
        Figure(
            "server, processor time for a poll",
            "ms/s",
            [1e3 * of_server / POLLS],
            name,
        ),
        Figure(
            "processor time of a poll",
            "ms/s",
            [1e3 * of_polls / POLLS],
            name,
        ),
    ]
    return Result(
        "load",
        "followers of one lock",
        figures,
        notes=[
            f"poll interval {poll:g} s; statements counted for "
            f"{counted:g} s, processor time for {watched:g} s",
            f"the server alone with one leader: {1e3 * alone:.2f} ms/s, "
            "taken off the time for a follower",
            f"more than {PROCESSES} followers share {PROCESSES} processes; "
            "from the second takeover on, a killed process is one of those",
        ],
    )
