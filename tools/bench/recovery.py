"""From ``kill -9`` of the leader to the first action that is recovered.

A leader has processed an event, holds events that wait for another one, and a
match whose action has not run. It is killed, and the time stops when the
follower, which has been up for a while, runs that action. Once per number of
retained events, since what has to be read and put back grows with it.

Two such pairs of workers take turns, one on loopback and one that is a round
trip of a millisecond away from the server. Then the first one again, with
followers that have only just come up.
"""

from __future__ import annotations

import json
import time
import uuid

import psycopg
from rig.proxy import DistantProxy
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess, wait_leader

from ansible_rulebook.ha.state import sql

from .bursts import WITH_STATE
from .network import FAR, NEAR, ONE_WAY
from .report import Figure, Goal, Result
from .setting import AS_A_SERVER, Setting, first_to_say
from .worker import ACTION, FOLLOWING, LEADS, TIMEOUT, stamp_of

GOALS = {0: 0.1, 1_000: 0.15, 10_000: 0.5}  # seconds, by what is retained
FAR_GOAL = 0.05  # seconds more at a round trip of 1 ms
FRESH_GOAL = 0.3  # seconds, with a follower that has just come up
UP_FOR = 60  # seconds that the follower has been up
JUST_UP_FOR = 2  # seconds
CALM = 1.0  # seconds between a failover and the next kill
FILL_TIMEOUT = 900.0  # seconds
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
# since the table is read at promotion only.
PENDING = f"""
INSERT INTO {sql.MATCH}
    (ha_uuid, match, mark, place, ruleset, rule, body)
SELECT %s, gen_random_uuid(), 0, number, 'recovery', 'pending',
       replace(%s, '"number"', number::text)
  FROM generate_series(1, %s) AS wanted (number)
"""
STORED = f"""
SELECT (SELECT count(*) FROM {sql.RECORD} WHERE ha_uuid = %(ha_uuid)s),
       (SELECT count(*) FROM {sql.COMMIT}
         WHERE ha_uuid = %(ha_uuid)s AND cardinality(events) > 0)
"""


def leave_pending(dsn: str, ha_uuid: str, matches: int, padding: str) -> None:
    """Store matches as the leader would."""
    event = {"m": {"pending": "number", "text": padding, "meta": {"uuid": 1}}}
    with psycopg.connect(dsn) as connection:
        connection.execute(PENDING, (ha_uuid, json.dumps(event), matches))


class Scene:
    """Two workers, and what the leader of them holds.

    :param dsn: of the server itself.
    :param way: leads the workers to it.
    """

    def __init__(
        self,
        setting: Setting,
        name: str,
        dsn: str,
        way: DistantProxy | None,
        events: int,
    ) -> None:
        self.setting = setting
        self.dsn = dsn
        self.ha_uuid = str(uuid.uuid4())
        root = setting.folder(f"recovery-{name}-{events}")
        (root / "fill.py").write_text(SOURCE, "utf-8")
        rulebook = RULEBOOK.format(filled=root / "filled", events=events)
        self.workers: list[WorkerProcess] = []
        for number in (1, 2):
            worker_id = f"worker-{number}"
            worker = WorkerProcess(
                rulebook,
                root=root,
                name=worker_id,
                worker_id=worker_id,
                dsn=dsn if way is None else way.reroute(dsn),
                ha_uuid=self.ha_uuid,
                verbosity=0,
                args=["-S", str(root), *WITH_STATE],
            )
            self.workers.append(setting.stack.enter_context(worker))
        self.leader = wait_leader(self.workers, TIMEOUT)
        self._wait_filled(events)

    def _wait_filled(self, events: int) -> None:
        deadline = time.monotonic() + FILL_TIMEOUT
        names = {"ha_uuid": self.ha_uuid}
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while True:
                row = connection.execute(STORED, names).fetchone()
                assert row is not None
                if row[0] >= events and row[1]:
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{row[0]} of {events} events stored")
                time.sleep(0.2)

    @property
    def standby(self) -> WorkerProcess:
        (found,) = (w for w in self.workers if w is not self.leader)
        return found

    def wait_up(self, seconds: float) -> None:
        """Until the follower has followed for so long."""
        since = self.standby.wait_for(FOLLOWING, TIMEOUT).when
        time.sleep(max(since + seconds - time.monotonic(), 0.0))

    def fail(self) -> tuple[float, float]:
        """Kill the leader; seconds to leadership and to the action."""
        standby = self.standby
        leave_pending(self.dsn, self.ha_uuid, 1, "")
        before = time.time()
        self.leader.kill()
        first_to_say([standby], ACTION, TIMEOUT)
        acted = stamp_of(standby, ACTION) - before
        standby.wait_leads(TIMEOUT)
        return stamp_of(standby, LEADS) - before, acted

    def replace(self) -> None:
        """Start the one that was killed again, as a follower."""
        standby = self.standby
        self.leader.close()
        again = self.leader.again()
        self.setting.stack.callback(again.close)
        self.workers = [standby, again.start()]
        self.leader = standby


def figures_of(
    name: str, done: list[tuple[float, float]], group: str
) -> list[Figure]:
    leads, acted = zip(*done)
    return [
        Figure(f"{name}: leads", "s", list(leads), group),
        Figure(f"{name}: first action", "s", list(acted), group),
    ]


def measure(setting: Setting) -> Result:
    server = setting.stack.enter_context(EmbeddedRig(AS_A_SERVER))
    way = setting.stack.enter_context(
        DistantProxy.for_dsn(server.dsn, one_way=ONE_WAY)
    )
    up_for = setting.pick(UP_FOR, 6)
    figures: list[Figure] = []
    goals: list[Goal] = []
    for events, bound in GOALS.items():
        label = f"{events:,} retained"
        setting.say(f"{label}: fill")
        scenes = {
            name: Scene(
                setting, f"{number}", server.create_database(), through, events
            )
            for number, (name, through) in enumerate(
                ((NEAR, None), (FAR, way))
            )
        }
        done: dict[str, list[tuple[float, float]]] = {n: [] for n in scenes}
        for number in range(setting.pick(6 if events else 10, 2)):
            setting.say(f"{label}: round {number + 1}")
            for scene in scenes.values():
                scene.wait_up(up_for)
            order = list(scenes) if number % 2 else list(scenes)[::-1]
            for name in order:
                done[name].append(scenes[name].fail())
                time.sleep(CALM)
            # Only now: a start would disturb the other one.
            for scene in scenes.values():
                scene.replace()
        for worker in scenes[FAR].workers:
            worker.close()
        fresh: list[tuple[float, float]] = []
        for number in range(setting.pick(6, 2)):
            setting.say(f"{label}: just up, round {number + 1}")
            scenes[NEAR].wait_up(JUST_UP_FOR)
            fresh.append(scenes[NEAR].fail())
            scenes[NEAR].replace()
        for worker in scenes[NEAR].workers:
            worker.close()
        for name in scenes:
            figures += figures_of(name, done[name], label)
        near, far = figures[-3].median, figures[-1].median
        just_up = f"up for {JUST_UP_FOR} s"
        figures += figures_of(just_up, fresh, label)
        goals.append(Goal(f"{label}, median", near, bound, "s"))
        goals.append(
            Goal(f"{label}, more at {FAR}", far - near, FAR_GOAL, "s")
        )
        if not events:
            goals.append(
                Goal(
                    f"{label}, {just_up}", figures[-1].median, FRESH_GOAL, "s"
                )
            )
    return Result(
        "recovery",
        "kill -9 of the leader to the first recovered action",
        figures,
        goals,
        [f"the follower has been up for {up_for} s, or for as long as said"],
    )
