"""A promotion with thousands of matches whose actions have not run.

They are read at promotion and given to the rules one after the other. How
long the event loop stood still meanwhile is what a source saw that looks at
the clock every few milliseconds, and the promotion must neither stall nor
lose one of them.
"""

from __future__ import annotations

import time
import uuid

import psycopg
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess, wait_leader

from ansible_rulebook.ha.state import sql

from .bursts import WITH_STATE
from .recovery import leave_pending
from .report import Figure, Goal, Result
from .setting import AS_A_SERVER, Setting
from .worker import FOLLOWING, LEADS, STOOD_BY, TIMEOUT, stamp_of

GOAL = 0.1  # seconds that the event loop may stand still at a time
MATCHES = 10_000
LOOK_BACK = 5  # seconds before it leads that belong to the promotion
ALL_RUN = f"SELECT count(*) FROM {sql.MATCH}"
LAG = r"longest pause (\S+)"
SOURCE = """
import asyncio
import time


async def main(queue, args):
    leads = args["leader_event"]
    pauses, since, announced = [], time.monotonic(), None
    while True:
        await asyncio.sleep(0.002)
        now = time.monotonic()
        pauses.append((now, now - since))
        since = now
        if announced is None and leads.is_set():
            announced = now
        if announced is None:
            # What was long before the promotion is not its own.
            del pauses[:-2000]
        elif now - announced > args["look_for"]:
            begin = announced - args["look_back"]
            longest = max(p for at, p in pauses if at > begin)
            print("longest pause", longest, flush=True)
            await asyncio.sleep(3600)
"""
RULEBOOK = """
- name: recovery
  hosts: all
  sources:
    - lag:
        look_for: {look_for}
        look_back: {look_back}
  rules:
    - name: pending
      condition: event.pending is defined
      action:
        none:
"""
PADDING = "x" * 2000


def measure(setting: Setting) -> Result:
    matches = setting.pick(MATCHES, 1_000)
    look_for = setting.pick(20, 5)
    server = setting.stack.enter_context(EmbeddedRig(AS_A_SERVER))
    dsn = server.create_database("pending")
    ha_uuid = str(uuid.uuid4())
    root = setting.folder("pending")
    (root / "lag.py").write_text(SOURCE, "utf-8")
    workers = []
    for number in (1, 2):
        name = f"worker-{number}"
        worker = WorkerProcess(
            RULEBOOK.format(look_for=look_for, look_back=LOOK_BACK),
            root=root,
            name=name,
            worker_id=name,
            dsn=dsn,
            ha_uuid=ha_uuid,
            verbosity=0,
            args=["-S", str(root), *WITH_STATE],
        )
        workers.append(setting.stack.enter_context(worker))
    leader = wait_leader(workers, TIMEOUT)
    (standby,) = (each for each in workers if each is not leader)
    standby.wait_for(FOLLOWING, TIMEOUT)
    leave_pending(dsn, ha_uuid, matches, PADDING)
    # The start of Java, and its practice, stop the loop as well.
    time.sleep(STOOD_BY + LOOK_BACK)
    before = time.time()
    leader.kill()
    standby.wait_leads(TIMEOUT)
    leads = stamp_of(standby, LEADS) - before
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(ALL_RUN).fetchone() != (0,):
            if time.time() - before > TIMEOUT:
                raise TimeoutError("not all of them have run")
            time.sleep(0.02)
    done = time.time() - before
    pause = float(standby.wait_for(LAG, TIMEOUT).text.split()[-1])
    return Result(
        "pending",
        f"promotion with {matches:,} matches whose actions have not run",
        [
            Figure("kill -9 to leading", "s", [leads]),
            Figure("all actions have run and are recorded", "s", [done]),
            Figure("longest pause of the event loop", "s", [pause]),
        ],
        [Goal("longest pause, s", pause, GOAL)],
    )
