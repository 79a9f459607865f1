"""For how long nobody leads while the lead is handed over in good order.

Two real workers with state, whose sources are idle. The command asks the
server who leads, a hundred times a second; the workers' logs say when one of
them ended its term and the other one began.
"""

from __future__ import annotations

import json
import random
import time
import uuid

from rig.server import EmbeddedRig
from rig.workers import wait_leader

from .report import Figure, Result
from .setting import Setting, operate
from .statements import IDLE_SOURCE, RULEBOOK
from .worker import FOLLOWING, STOOD_BY, TIMEOUT, two_workers


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
        said = json.loads(operate(env, "switchover", "--yes", "--json"))
        by_command.append(float(said["gap"]))
        ended = leader.wait_lost(TIMEOUT, after=after)
        began = follower.wait_leads(TIMEOUT, after=after)
        by_logs.append(began.when - ended.when)
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
