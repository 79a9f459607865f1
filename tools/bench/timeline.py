"""One failover of two real workers, step by step.

What the server did comes from its log, to the millisecond, and what the
workers did from their own words. The failover that is drawn is the one with
the median of all of them.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from dataclasses import dataclass

from rig.server import EmbeddedRig
from rig.workers import WorkerProcess, wait_leader, worker_of

from ansible_rulebook.ha.state import sql

from .report import Figure, Result
from .setting import Setting
from .statements import PREFIX
from .worker import (
    ACTION,
    FOLLOWING,
    LEADS,
    STOOD_BY,
    TIMEOUT,
    stamp_of,
)

SOURCE = """
import asyncio
import time


async def main(queue, args):
    print("source", time.time(), flush=True)
    number = 0
    while True:
        await queue.put({"i": number})
        number += 1
        await asyncio.sleep(0.05)
"""
RULEBOOK = """
- name: timeline
  hosts: all
  sources:
    - ticks:
  rules:
    - name: each
      condition: event.i is defined
      action:
        debug:
          msg: "number {{ event.i }}"
"""
STARTED = r"^source (\S+)"
# A source begins with it in each term; an action that is recovered has
# another number.
FIRST = r"\*\* (\d{4}-\d\d-\d\d \S+) \[debug\].*\nnumber 0\n"
# One entry, which may have several lines.
LOG = re.compile(
    r"^(\d+\.\d+) app=(\S*) LOG:  (.*?)(?=^\d+\.\d+ app=|\Z)", re.M | re.S
)
LOG_DELAY = 0.2  # seconds until the server's log is written
SERVER, NEXT = "PostgreSQL", "the other worker"
# Step by step, as they come; where, and what.
STEPS = (
    (SERVER, "the killed one's session has ended"),
    (SERVER, "asked to confirm the lock"),
    (SERVER, "asked for the state that is left"),
    (NEXT, "says that it leads"),
    (NEXT, "starts its source"),
    (NEXT, "runs the action of its first event"),
)


@dataclass(frozen=True)
class Failover:
    """Seconds from the kill to each of the steps."""

    seconds: tuple[float, ...]

    @property
    def total(self) -> float:
        return self.seconds[-1]


def measure(setting: Setting) -> Result:
    rounds = setting.pick(9, 1)
    settings = {
        "log_statement": "all",
        "log_disconnections": "on",
        "log_line_prefix": PREFIX,
    }
    server = setting.stack.enter_context(EmbeddedRig(settings))
    root = setting.folder("timeline")
    (root / "ticks.py").write_text(SOURCE, "utf-8")
    ha_uuid = str(uuid.uuid4())
    workers: list[WorkerProcess] = []

    def join() -> None:
        name = f"worker-{len(names) + 1}"
        names.append(name)
        worker = WorkerProcess(
            RULEBOOK,
            root=root,
            name=name,
            worker_id=name,
            dsn=server.dsn,
            ha_uuid=ha_uuid,
            verbosity=0,
            args=["-S", str(root)],
        )
        workers.append(setting.stack.enter_context(worker))

    names: list[str] = []
    join()
    join()
    failovers: list[Failover] = []
    for number in range(rounds):
        setting.say(f"round {number + 1} of {rounds}")
        leader = wait_leader(workers, TIMEOUT)
        (standby,) = (each for each in workers if each is not leader)
        leader.wait_for(ACTION, TIMEOUT)
        standby.wait_for(FOLLOWING, TIMEOUT)
        time.sleep(STOOD_BY + random.random())
        failovers.append(fail(server, leader, standby))
        workers.remove(leader)
        leader.close()
        join()
    return Result(
        "timeline",
        "kill -9 of the leading worker, step by step",
        [
            Figure(what, "s", [each.seconds[step] for each in failovers])
            for step, (_, what) in enumerate(STEPS)
        ],
        notes=["the server's own steps to the millisecond; state is on"],
        data={"steps": drawn(failovers)},
    )


def drawn(failovers: list[Failover]) -> list[dict[str, object]]:
    """The steps of the one in the middle, for the chart."""
    ordered = sorted(failovers, key=lambda each: each.total)
    middle = ordered[len(ordered) // 2]
    return [
        {"where": where, "what": what, "seconds": seconds}
        for (where, what), seconds in zip(STEPS, middle.seconds)
    ]


def fail(
    server: EmbeddedRig, leader: WorkerProcess, standby: WorkerProcess
) -> Failover:
    """Kill the leader; when the standby did what."""
    since = time.time()
    leader.kill()
    standby.wait_leads(TIMEOUT)
    started = standby.wait_for(STARTED, TIMEOUT)
    standby.wait_for("^number 0$", TIMEOUT)
    time.sleep(LOG_DELAY)
    # The server's clock is cut to milliseconds.
    lines = [
        (float(at), name, text)
        for at, name, text in LOG.findall(server.log)
        if float(at) >= since - 0.001
    ]
    ended = next(
        at
        for at, name, text in lines
        if worker_of(name) == leader.worker_id and "disconnection" in text
    )
    asked = next(
        at
        for at, name, text in lines
        if worker_of(name) == standby.worker_id
        and at >= ended
        # The only statement that a follower sends besides is the wait.
        and "pg_is_in_recovery" in text
    )
    read = next(
        at
        for at, name, text in lines
        if worker_of(name) == standby.worker_id
        and at >= asked
        and sql.CLUSTER in text
        and "FOR UPDATE" in text
    )
    steps = (
        ended,
        asked,
        read,
        stamp_of(standby, LEADS),
        float(started.text.split()[1]),
        stamp_of(standby, FIRST),
    )
    return Failover(tuple(max(0.0, at - since) for at in steps))
