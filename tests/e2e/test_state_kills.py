"""Leaders killed at any moment: no event is lost, nothing is done again.

CI kills a few; ``EDA_HA_KILLS=200`` kills more, ``EDA_HA_SEED`` repeats.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from e2e_support import (
    FOLLOWING,
    PATIENCE,
    Stage,
    needs_state,
    settled,
    until,
)
from rig.server import Server
from rig.workers import ACQUIRED, WorkerProcess, wait_leader

pytestmark = needs_state

KILLS = int(os.environ.get("EDA_HA_KILLS") or 8)
SEED = int(os.environ.get("EDA_HA_SEED") or random.randrange(1_000_000))
WORKERS = 3  # the leader, who comes next, and one that is starting
LONGEST_REIGN = 1.0  # seconds
AMID_RECOVERY = 0.25  # of the kills
DEMOTED_FIRST = 0.4  # of the others: two terms for one start of a worker
KINDS = ("single", "first", "second", "steps")  # as in ledger.py
RECOVERING = "Recovering the rules' state"

LEDGER = """
- name: Ledger
  hosts: all
  sources:
    - name: ledger
      ledger:
        folder: "{{ INBOX }}"
        every: 0.003
        feedback: true
  rules:
    - name: Single
      condition: event.kind == "single"
      action:
        debug:
          msg: "ran {{ event.number }}"
    - name: Pair
      condition:
        all:
          - events.one << event.kind == "first"
          - events.two << event.kind == "second" and
            event.group == events.one.group
      action:
        debug:
          msg: "ran {{ events.one.number }} with {{ events.two.number }}"
    - name: Steps
      condition: event.kind == "steps"
      actions:
        - debug:
            msg: "ran {{ event.number }} step 0"
        - debug:
            msg: "ran {{ event.number }} step 1"
        - debug:
            msg: "ran {{ event.number }} step 2"
"""
STEPS = 3
# A match that has a row is not known to have run, except for these steps.
PENDING = """
SELECT eda_ha_match.body, action.place, action.body
  FROM eda_ha_match
  LEFT JOIN eda_ha_action AS action USING (ha_uuid, match)
"""


def ran(folder: Path) -> Counter[str]:
    """The actions that have run, and how often."""
    return Counter(
        line
        for log in folder.glob("worker-*.log")
        for line in log.read_text("utf-8", "replace").splitlines()
        if line.startswith("ran ")
    )


def pending(server: Server, dsn: str) -> dict[int, set[int]]:
    """Numbers of events with a match that is stored, and of steps done."""
    found: dict[int, set[int]] = {}
    for event, step, info in server.query(PENDING, dsn=dsn):
        numbers = re.findall(r'"number":\s*(\d+)', event)
        steps = found.setdefault(min(map(int, numbers)), set())
        if step is not None and json.loads(info)["status"] == "successful":
            steps.add(step)
    return found


def recorded(
    actions: Counter[str], stored: dict[int, set[int]]
) -> dict[str, int]:
    """Those actions that the database knows to be over, and their runs."""
    over = {}
    for action, count in actions.items():
        words = action.split()
        number, step = int(words[1]), int(words[-1])
        if number not in stored or (
            "step" in words and step in stored[number]
        ):
            over[action] = count
    return over


def expected(last: int) -> set[str]:
    """What has to have run when the events below that number were sent."""
    actions = set()
    for number in range(last):
        kind = KINDS[number % len(KINDS)]
        if kind == "single":
            actions.add(f"ran {number}")
        elif kind == "second":
            actions.add(f"ran {number - 1} with {number}")
        elif kind == "steps":
            actions.update(f"ran {number} step {i}" for i in range(STEPS))
    return actions


def again(over: dict[str, int], actions: Counter[str]) -> list[str]:
    """Actions that were over, and have run once more."""
    return [each for each, count in over.items() if actions[each] != count]


def recovering(
    workers: list[WorkerProcess], since: float
) -> WorkerProcess | None:
    """Who has begun to recover the state since then."""
    for worker in workers:
        if worker.find(RECOVERING, after=since):
            return worker
    return None


@pytest.mark.parametrize("kills", [KILLS])
def test_nothing_is_lost_and_nothing_that_is_recorded_runs_again(
    stage: Stage, server: Server, kills: int
) -> None:
    print(f"EDA_HA_SEED={SEED}")
    chance = random.Random(SEED)
    place = stage.inbox / "next"
    place.write_text("0", "utf-8")
    workers = [stage.start(LEDGER) for _ in range(WORKERS)]
    over: dict[str, int] = {}

    struck_at = time.monotonic()
    for _ in range(kills):
        if chance.random() < AMID_RECOVERY:
            victim = until(partial(recovering, workers, struck_at), RECOVERING)
        else:
            victim = wait_leader(workers, PATIENCE)
            time.sleep(chance.uniform(0, LONGEST_REIGN))
            if chance.random() < DEMOTED_FIRST:
                struck_at = time.monotonic()
                server.terminate(f"eda-ha:%:{victim.worker_id}:%")
                victim = wait_leader(workers, PATIENCE, after=struck_at)
                time.sleep(chance.uniform(0, LONGEST_REIGN))
        victim.pause()  # at any moment, and for long enough to look
        actions = ran(stage.folder)
        assert not again(over, actions)
        over.update(recorded(actions, pending(server, stage.dsn)))
        struck_at = victim.kill()
        victim.close()
        workers.remove(victim)
        workers.append(stage.start(LEDGER))

    place.with_name("stop").touch()
    wait_leader(workers, PATIENCE)
    last = int(settled(lambda: place.read_text("utf-8")))
    until(
        lambda: not expected(last) - set(ran(stage.folder)),
        f"all actions of {last} events to have run",
    )
    until(lambda: not pending(server, stage.dsn), "all of them on record")
    actions = ran(stage.folder)
    twice = sum(count - 1 for count in actions.values())
    print(f"{last} events, {len(over)} actions recorded, {twice} ran again")
    assert not again(over, actions)
    assert over
    for worker in workers:
        worker.wait_for(f"{FOLLOWING}|{ACQUIRED}", PATIENCE)
        assert worker.stop(PATIENCE) == 0
