"""From ``kill -9`` of the leader to the first action that is recovered.

A leader has processed an event, holds partial matches, events that wait for
another one, and a match whose action has not run. It is killed, and the time
stops when the follower, which has been up for a while, runs that action. Once
per number of retained events, since what has to be read and replayed grows
with it.
"""

from __future__ import annotations

import json
import time
import uuid

import psycopg
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess, wait_leader

from .report import Figure, Goal, Result
from .setting import Setting, first_to_say
from .worker import ACTION, FOLLOWING, LEADS, TIMEOUT, stamp_of

GOAL = 0.150  # seconds, median without retained events
RETAINED = (0, 1_000, 10_000)
UP_FOR = 60.0  # seconds that the follower has been up
FILL_TIMEOUT = 900.0  # seconds
RECOVERED = r"recovered action"
SOURCE = """
import asyncio
import os


async def main(queue, args):
    if not os.path.exists(args["filled"]):
        await queue.put({"seen": True})
        for number in range(args["events"]):
            await queue.put({"i": number})
        open(args["filled"], "w").close()
    await asyncio.sleep(3600)
"""
RULEBOOK = """
- name: recovery
  hosts: all
  sources:
    - fill:
        filled: {filled}
        events: {events}
  rules:
    - name: seen
      condition: event.seen is defined
      action:
        none:
    - name: half
      condition:
        all:
          - event.i is defined
          - event.other_half is defined
      action:
        none:
    - name: pending
      condition: event.pending is defined
      action:
        debug:
          msg: "recovered action {{{{ event.pending }}}}"
"""
# A match that the leader has stored and not got to: nobody runs it there,
# since the engine reads its table at promotion only.
PENDING = """
INSERT INTO drools_ansible_matching_event
    (me_uuid, ha_uuid, rule_set_name, rule_name, event_data, created_at)
VALUES (gen_random_uuid(), %s, 'recovery', 'pending', %s, 0)
"""
WRITER = "SELECT writer FROM eda_ha_term WHERE ha_uuid = %s"
STORED = "SELECT count(*) FROM drools_ansible_event_record WHERE ha_uuid = %s"
SESSIONS = (
    "SELECT count(*) FROM drools_ansible_session_state WHERE ha_uuid = %s"
)


class Scene:
    """Two workers, and what the leader of them holds."""

    def __init__(self, setting: Setting, dsn: str, events: int) -> None:
        self.setting = setting
        self.dsn = dsn
        self.ha_uuid = str(uuid.uuid4())
        root = setting.folder(f"recovery-{events}")
        (root / "fill.py").write_text(SOURCE, "utf-8")
        rulebook = RULEBOOK.format(filled=root / "filled", events=events)
        self.workers: list[WorkerProcess] = []
        for number in (1, 2):
            name = f"worker-{number}"
            worker = WorkerProcess(
                rulebook,
                root=root,
                name=name,
                worker_id=name,
                dsn=dsn,
                ha_uuid=self.ha_uuid,
                verbosity=0,
                args=["-S", str(root), "--ha-state", "required"],
            )
            self.workers.append(setting.stack.enter_context(worker))
        self.leader = wait_leader(self.workers, TIMEOUT)
        self._wait_filled(events)

    def _wait_filled(self, events: int) -> None:
        deadline = time.monotonic() + FILL_TIMEOUT
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while True:
                row = connection.execute(STORED, (self.ha_uuid,)).fetchone()
                seen = connection.execute(SESSIONS, (self.ha_uuid,)).fetchone()
                assert row is not None and seen is not None
                if row[0] >= events and seen[0]:
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{row[0]} of {events} events stored")
                time.sleep(0.2)

    def leave_pending(self) -> None:
        """Store a match as the leader would."""
        event = {"m": {"pending": 1, "meta": {"uuid": str(uuid.uuid4())}}}
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(WRITER, (self.ha_uuid,)).fetchone()
            assert row is not None
            connection.execute(
                "SELECT set_config('application_name', %s, false)", row
            )
            connection.execute(PENDING, (self.ha_uuid, json.dumps(event)))

    def round(self) -> tuple[float, float]:
        """Kill the leader; seconds to leadership and to the action."""
        (standby,) = (w for w in self.workers if w is not self.leader)
        standby.wait_for(FOLLOWING, TIMEOUT)
        time.sleep(self.setting.pick(int(UP_FOR), 5))
        self.leave_pending()
        before = time.time()
        self.leader.kill()
        first_to_say([standby], ACTION, TIMEOUT)
        acted = stamp_of(standby, ACTION) - before
        standby.wait_leads(TIMEOUT)
        leads = stamp_of(standby, LEADS) - before
        self.leader.close()
        again = self.leader.again()
        self.setting.stack.callback(again.close)
        self.workers = [standby, again.start()]
        self.leader = standby
        return leads, acted


def measure(setting: Setting) -> Result:
    server = setting.stack.enter_context(EmbeddedRig())
    figures = []
    medians = {}
    for events in RETAINED[: setting.pick(len(RETAINED), 2)]:
        setting.say(f"{events:,} retained events: fill")
        scene = Scene(
            setting, server.create_database(f"recovery{events}"), events
        )
        rounds = setting.pick(10 if not events else 4, 3)
        done = []
        for number in range(rounds):
            setting.say(f"{events:,} retained events: round {number + 1}")
            done.append(scene.round())
        leads, acted = zip(*done)
        label = f"{events:,} retained events"
        figures.append(Figure(f"{label}: leads", "s", list(leads)))
        figures.append(Figure(f"{label}: first action", "s", list(acted)))
        medians[events] = figures[-1].median
        for worker in scene.workers:
            worker.close()
    return Result(
        "recovery",
        "kill -9 of the leader to the first recovered action",
        figures,
        [Goal("median without retained events, s", medians[0], GOAL)],
        [f"the follower has been up for {setting.pick(int(UP_FOR), 5)} s"],
    )
