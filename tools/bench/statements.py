"""How many statements an idle worker sends in one poll interval.

Read from the log of a server that logs every statement, so that nothing is
missed: whatever is not the bench's own session is counted.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

from rig.server import EmbeddedRig
from rig.workers import wait_leader, worker_of

from ansible_rulebook.ha.election.lease import POLL_INTERVAL

from .report import Figure, Goal, Result
from .setting import Setting
from .worker import FOLLOWING, TIMEOUT, two_workers

GOAL = 1.5
QUICK_INTERVAL = 1.0  # seconds
SETTLE = 1.5  # intervals between the start and the first one counted
PREFIX = "%n app=%a "
STATEMENT = re.compile(
    r"^(\d+\.\d+) app=(\S*) LOG:  (?:statement|execute [^:]*): ", re.M
)
IDLE_SOURCE = """
import asyncio


async def main(queue, args):
    await asyncio.Event().wait()
"""
RULEBOOK = """
- name: idle
  hosts: all
  sources:
    - idle:
  rules:
    - name: never
      condition: event.never == 1
      action:
        none:
"""


def count(log: Path, since: float, until: float) -> Counter[str]:
    """Statements by application in that time (seconds since the epoch)."""
    text = log.read_text("utf-8", errors="replace")
    return Counter(
        match.group(2)
        for match in STATEMENT.finditer(text)
        if since <= float(match.group(1)) < until
    )


def measure(setting: Setting) -> Result:
    interval = QUICK_INTERVAL if setting.quick else POLL_INTERVAL
    intervals = setting.pick(8, 6)
    server = setting.stack.enter_context(
        EmbeddedRig({"log_statement": "all", "log_line_prefix": PREFIX})
    )
    sources = setting.folder("statements/sources")
    (sources / "idle.py").write_text(IDLE_SOURCE, "utf-8")
    workers = two_workers(
        setting,
        RULEBOOK,
        "statements",
        server.dsn,
        poll_interval=interval,
        args=["-S", str(sources)],
    )
    leader = wait_leader(workers, TIMEOUT)
    (follower,) = (each for each in workers if each is not leader)
    follower.wait_for(FOLLOWING, TIMEOUT)
    setting.say(f"{intervals} intervals of {interval:g} s")
    time.sleep(SETTLE * interval)
    since = time.time()
    time.sleep(intervals * interval)
    until = time.time()
    # The length that it really had, or a late wake-up would count for us.
    passed = (until - since) / interval
    counts = count(server.logfile, since, until)
    figures: list[Figure] = []
    for role, worker in (("leader", leader), ("follower", follower)):
        own = [
            counts.pop(name)
            for name in list(counts)
            if worker_of(name) == worker.worker_id
        ]
        if not own:
            raise RuntimeError(f"the {role} sent nothing: was it logged?")
        figures.append(Figure(role, "", [sum(own) / passed]))
    rates = [figure.values[0] for figure in figures]
    others = sum(counts.values()) / passed
    if others:
        figures.append(Figure("other sessions", "", [others]))
    # A session that cannot be told apart may be either one's.
    return Result(
        "statements",
        "statements of an idle worker in one poll interval",
        figures,
        [Goal("per worker and interval", max(rates) + others, GOAL)],
        [f"{intervals} intervals of {interval:g} s, from the server's log"],
    )
