"""For how long nobody leads while the lead is handed over in good order.

Two real workers with state, whose sources are idle. The command asks the
server who leads, a hundred times a second; the workers' logs say when one of
them ended its term and the other one began.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from rig.process import ManagedProcess, ProcessError
from rig.server import EmbeddedRig
from rig.workers import LOST, wait_leader

from .report import Figure, Result
from .setting import Setting
from .statements import IDLE_SOURCE, RULEBOOK
from .worker import (
    FOLLOWING,
    LEADS,
    STAMP,
    STOOD_BY,
    TIMEOUT,
    moment,
    two_workers,
)

LOG_DELAY = 0.2  # seconds until what they said is read


def hand_over(env: Mapping[str, str]) -> float:
    """Ask for it; the seconds that nobody led, by the command."""
    program = Path(sys.executable).with_name("ansible-rulebook-ha")
    done = subprocess.run(
        [str(program), "switchover", "--yes", "--json"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise ProcessError(done.stderr)
    return float(json.loads(done.stdout)["gap"])


def last_of(process: ManagedProcess, pattern: str) -> float:
    """When it said that the last time, by its own word."""
    return moment(re.findall(pattern, process.text)[-1])


def measure(setting: Setting) -> Result:
    rounds = setting.pick(20, 2)
    server = setting.stack.enter_context(EmbeddedRig())
    sources = setting.folder("switchover/sources")
    (sources / "idle.py").write_text(IDLE_SOURCE, "utf-8")
    ha_uuid = str(uuid.uuid4())
    workers = two_workers(
        setting,
        RULEBOOK,
        "switchover",
        server.dsn,
        ha_uuid,
        args=["-S", str(sources)],
    )
    env = {"EDA_HA_POSTGRES_DSN": server.dsn, "EDA_HA_UUID": ha_uuid}
    leader = wait_leader(workers, TIMEOUT)
    after = 0.0
    by_command: list[float] = []
    by_logs: list[float] = []
    for number in range(rounds):
        setting.say(f"round {number + 1} of {rounds}")
        (follower,) = (each for each in workers if each is not leader)
        follower.wait_for(FOLLOWING, TIMEOUT, after=after)
        time.sleep(STOOD_BY + random.random())
        after = time.monotonic()
        by_command.append(hand_over(env))
        follower.wait_leads(TIMEOUT, after=after)
        leader.wait_lost(TIMEOUT, after=after)
        time.sleep(LOG_DELAY)
        ended, began = last_of(leader, STAMP + LOST), last_of(follower, LEADS)
        by_logs.append(began - ended)
        leader = follower
    return Result(
        "switchover",
        "nobody leads while the lead is handed over",
        [
            Figure("by the workers' logs", "s", by_logs),
            Figure("by the command", "s", by_command),
        ],
        notes=[
            f"each has followed for {STOOD_BY:g} s; the command looks every "
            "10 ms"
        ],
    )
