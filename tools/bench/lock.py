"""From ``kill -9`` of the leading process to the next ``is_leader()``.

Three clusters live side by side on one server: bare elections, sessions that
are blocked in ``pg_advisory_lock()`` (the limit), and plain polls. They take
turns, so all meet the same machine. In each round the process with the lock
is killed, the time is read just before that, and whoever gets the lock next
says when, on the same clock. Then a new process joins.
"""

from __future__ import annotations

import abc
import random
import time
import uuid
from pathlib import Path
from typing import Any

from rig.contender import ContenderProcess
from rig.history import NANO, assert_one_leader, takeover
from rig.process import ManagedProcess, ProcessError
from rig.server import EmbeddedRig

from ansible_rulebook.ha.election.lease import POLL_INTERVAL

from .report import Figure, Goal, Result
from .rivals import LOCKED, RivalProcess
from .setting import Setting, first_to_say

STANDBYS = 2
GOAL = 3.0  # times the limit
START_TIMEOUT = 30.0  # seconds
CALM = 0.3  # seconds, at most, from a full queue to the next kill
RECORD_DELAY = 0.05  # seconds until a contender's record is written


class Cluster(abc.ABC):
    """Processes that want one lock; one has it."""

    name: str
    queues = True  # whoever waits shows in pg_locks
    slowest = 20.0  # seconds until somebody must have the lock

    def __init__(self, server: EmbeddedRig, root: Path) -> None:
        self.server = server
        self.root = root
        self.dsn = server.create_database(self.name)
        self.seconds: list[float] = []
        self.members: list[Any] = []
        self.started = 0

    @abc.abstractmethod
    def make(self, name: str) -> ManagedProcess:
        """One more process, not started."""

    @abc.abstractmethod
    def holder(self) -> ManagedProcess | None:
        """Who has the lock."""

    @abc.abstractmethod
    def took(self, since: int, dead: ManagedProcess) -> float:
        """Seconds from `since` (ns) until the next one had the lock."""

    def join(self) -> None:
        self.started += 1
        member = self.make(f"{self.name}-{self.started}")
        self.members.append(member)
        member.start()

    def set_up(self) -> None:
        self.join()
        self._until(lambda: self.holder() is not None, "nobody got the lock")
        for _ in range(STANDBYS):
            self.join()

    def round(self) -> float:
        """Kill who has the lock; seconds until the next one has it."""
        self._until(self._is_complete, "the standbys do not wait")
        time.sleep(random.uniform(0, CALM if self.queues else POLL_INTERVAL))
        dead = self.holder()
        assert dead is not None
        since = round(dead.kill() / NANO)
        self.members.remove(dead)
        seconds = self.took(since, dead)
        dead.close()
        self.seconds.append(seconds)
        self.join()
        return seconds

    def close(self) -> None:
        for member in self.members:
            member.close()

    def _is_complete(self) -> bool:
        (row,) = self.server.query(
            "SELECT count(*) FILTER (WHERE granted),"
            " count(*) FILTER (WHERE NOT granted)"
            " FROM pg_locks WHERE locktype = 'advisory' AND database ="
            " (SELECT oid FROM pg_database WHERE datname ="
            " current_database())",
            dsn=self.dsn,
        )
        if self.queues:
            return tuple(row) == (1, STANDBYS)
        asking = [member.find("^asking") for member in self.members]
        return row[0] == 1 and all(asking)

    def _until(self, is_so: Any, else_say: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not is_so():
            if time.monotonic() > deadline:
                tails = "\n".join(each.tail(10) for each in self.members)
                raise ProcessError(f"{self.name}: {else_say}\n{tails}")
            time.sleep(0.05)

    def figure(self, name: str) -> Figure:
        return Figure(name, "ms", [each * 1e3 for each in self.seconds])


class Elections(Cluster):
    """LeaderElection, in processes of its own."""

    name = "election"

    def __init__(self, server: EmbeddedRig, root: Path) -> None:
        super().__init__(server, root)
        self.uuid = str(uuid.uuid4())
        self.everybody: list[ContenderProcess] = []

    def make(self, name: str) -> ManagedProcess:
        made = ContenderProcess(
            self.dsn, self.uuid, name, root=self.root, poll=POLL_INTERVAL
        )
        self.everybody.append(made)
        return made

    def holder(self) -> ManagedProcess | None:
        leaders = [each for each in self.members if each.find("^role leader")]
        return leaders[0] if leaders else None

    def took(self, since: int, dead: ManagedProcess) -> float:
        first_to_say(self.members, "^role leader", self.slowest)
        time.sleep(RECORD_DELAY)
        # From the records: the first answer of is_leader() that was true.
        seconds = takeover(
            [each.record for each in self.members], since, without=dead.name
        )
        if seconds is None:
            raise ProcessError("a leader without a record of it")
        return seconds

    def check(self) -> None:
        """Being fast is worth nothing if two led at once."""
        self._until(self._is_complete, "the last one did not come")
        assert_one_leader([each.record for each in self.everybody])


class Rivals(Cluster):
    """Those that the election is compared with."""

    how: tuple[str, ...]
    key = 4711

    def make(self, name: str) -> ManagedProcess:
        return RivalProcess(self.dsn, self.key, name, self.root, *self.how)

    def holder(self) -> ManagedProcess | None:
        holders = [each for each in self.members if each.find(LOCKED)]
        return holders[0] if holders else None

    def took(self, since: int, dead: ManagedProcess) -> float:
        process, _ = first_to_say(self.members, LOCKED, self.slowest)
        assert isinstance(process, RivalProcess)
        at = process.locked_at()
        assert at is not None
        return (at - since) * NANO


class Limit(Rivals):
    """Blocked sessions."""

    name = "limit"
    how = ("wait",)


class Poll(Rivals):
    """What users would have without this."""

    name = "poll"
    queues = False
    how = ("poll", "--interval", str(POLL_INTERVAL))


def measure(setting: Setting) -> Result:
    rounds = setting.pick(20, 4)
    poll_rounds = setting.pick(10, 1)
    server = setting.stack.enter_context(EmbeddedRig())
    root = setting.folder("lock")
    elections = Elections(server, root)
    limit = Limit(server, root)
    poll = Poll(server, root)
    for cluster in (elections, limit, poll):
        setting.stack.callback(cluster.close)
        cluster.set_up()
    for number in range(rounds):
        setting.say(f"round {number + 1} of {rounds}")
        pair = (elections, limit) if number % 2 else (limit, elections)
        for each in pair:
            each.round()
        # Spread over the run, as far as there are any.
        if number * poll_rounds // rounds >= len(poll.seconds):
            poll.round()
    elections.check()
    ours = elections.figure("LeaderElection")
    bare = limit.figure("blocked session (the limit)")
    polled = poll.figure(f"plain try-lock every {POLL_INTERVAL:g} s")
    return Result(
        "lock",
        "kill -9 of the leading process to the next is_leader()",
        [ours, bare, polled],
        [Goal("median, times the limit's", ours.median / bare.median, GOAL)],
        [
            f"{STANDBYS} standbys each; poll interval {POLL_INTERVAL:g} s; "
            "no two contenders led at the same time",
            f"a plain poll takes {polled.median / ours.median:,.0f} times "
            "as long (medians)",
        ],
    )
