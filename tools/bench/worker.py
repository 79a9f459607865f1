"""From ``kill -9`` of the leading worker to the next one's first event.

Two real workers run a rulebook whose source starts with the term, and one has
stood by for some seconds, as standbys have. The first event has arrived when
its action ran: that prints the time at which it did. In turns with them, an
ansible-rulebook alone is killed and started again at once, which is the least
that any supervisor can take.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from datetime import datetime
from typing import Any

from rig.process import ManagedProcess
from rig.server import EmbeddedRig
from rig.workers import ACQUIRED, WorkerProcess, wait_leader

from .report import Figure, Result
from .setting import Setting, first_to_say

FOLLOWING = r"Worker \S+: Following"
# Two writers may share a line, so a stamp can stand in the middle of it.
ACTION = r"\*\* (\d{4}-\d\d-\d\d \S+) \[debug\]"
LEADS = r"(\d{4}-\d\d-\d\d [\d:]+,\d+) - \S+ - INFO - " + ACQUIRED
TIMEOUT = 60.0  # seconds
STOOD_BY = 6.0  # seconds, for a standby that has warmed itself
RULEBOOK = """
- name: takeover
  hosts: all
  sources:
    - eda.builtin.range:
        limit: 1000000000
        delay: 0.1
  rules:
    - name: each
      condition: event.i is defined
      action:
        debug:
          msg: "number {{ event.i }}"
"""


def stamp_of(process: ManagedProcess, pattern: str) -> float:
    """When it said that first, by its own word: seconds since the epoch."""
    match = re.search(pattern, process.text)
    assert match is not None
    text = match.group(1).replace(",", ".")
    whole, _, fraction = text.partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction:0<6}").timestamp()


def two_workers(
    setting: Setting,
    rulebook: str,
    folder: str,
    dsn: str,
    ha_uuid: str = "",
    **options: Any,
) -> list[WorkerProcess]:
    """The workers of a new cluster, which end with the part."""
    ha_uuid = ha_uuid or str(uuid.uuid4())
    return [
        setting.stack.enter_context(
            WorkerProcess(
                rulebook,
                root=setting.folder(folder),
                name=name,
                worker_id=name,
                dsn=dsn,
                ha_uuid=ha_uuid,
                verbosity=0,
                **options,
            )
        )
        for name in ("worker-1", "worker-2")
    ]


def restarted(alone: WorkerProcess) -> tuple[WorkerProcess, float]:
    """Kill it and start it again: the new one, seconds to its first action."""
    alone.wait_for(ACTION, TIMEOUT)
    before = time.time()
    alone.kill()
    alone.close()
    again = alone.again().start()
    again.wait_for(ACTION, TIMEOUT)
    return again, stamp_of(again, ACTION) - before


def measure(setting: Setting) -> Result:
    rounds = setting.pick(10, 2)
    server = setting.stack.enter_context(EmbeddedRig())
    alone = WorkerProcess(
        RULEBOOK, root=setting.folder("alone"), name="alone", verbosity=0
    ).start()
    setting.stack.callback(lambda: alone.close())
    workers = two_workers(setting, RULEBOOK, "worker", server.dsn)
    leader = wait_leader(workers, TIMEOUT)
    to_lead: list[float] = []
    to_event: list[float] = []
    to_restart: list[float] = []
    for number in range(rounds):
        setting.say(f"round {number + 1} of {rounds}")
        (standby,) = (each for each in workers if each is not leader)
        standby.wait_for(FOLLOWING, TIMEOUT)
        leader.wait_for(ACTION, TIMEOUT)
        time.sleep(STOOD_BY + random.random())
        before = time.time()
        leader.kill()
        first_to_say([standby], ACTION, TIMEOUT)
        to_event.append(stamp_of(standby, ACTION) - before)
        standby.wait_leads(TIMEOUT)
        to_lead.append(stamp_of(standby, LEADS) - before)
        leader.close()
        again = leader.again()
        setting.stack.callback(again.close)
        workers = [standby, again.start()]
        leader = standby
        alone, seconds = restarted(alone)
        to_restart.append(seconds)
    return Result(
        "worker",
        "kill -9 of the leading worker to what the next one does",
        [
            Figure("it says that it leads", "s", to_lead),
            Figure("its first action runs", "s", to_event),
            Figure("started again instead: first action", "s", to_restart),
        ],
        notes=[
            f"the standby has been one for {STOOD_BY:g} s, and that event is "
            "the first that its Java sees"
        ],
    )
