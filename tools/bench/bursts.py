"""Events that several processes get in turns, for parts that compare them.

Each process runs the same rulebook. Its source waits for a file that says
what comes next: a burst, or events one at a time. Each event matches a rule,
whose action does nothing: the least that upstream can do for an event, so
what HA adds shows most. The time of a burst is from its first to its last
event, as their actions say it. An event that comes alone has a rule of its
own, whose action says when it ran.

What is to be retained comes first: events that match one half of a condition
whose other half never comes.
"""

from __future__ import annotations

import json
import re
import statistics
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rig.workers import WorkerProcess

from .worker import ACTION

TIMEOUT = 120.0  # seconds
FILL_TIMEOUT = 1800.0  # seconds; upstream's persistence takes its time
WARM_UP = 4  # turns of each process that do not count
PAUSE = 0.01  # seconds between two events that come one at a time
WITHOUT_STATE = ("--ha-state", "off")
WITH_STATE = ("--ha-state", "required")
SOURCE = """
import asyncio
import json
import os
import time


async def main(queue, args):
    for number in range(args["retained"]):
        await queue.put({"half": number})
        await asyncio.sleep(0)
    print("retained", flush=True)
    turn = 0
    while True:
        path = os.path.join(args["folder"], f"go-{turn}")
        while not os.path.exists(path):
            await asyncio.sleep(0.02)
        with open(path) as file:
            events, pause = json.load(file)
        await (alone(queue, events, pause) if pause else burst(queue, events))
        turn += 1


async def burst(queue, events):
    began = time.thread_time()
    for number in range(events):
        edge = number in (0, events - 1)
        await queue.put({"seen" if edge else "i": number})
        await asyncio.sleep(0)  # as eda.builtin.range does
    used = time.thread_time() - began
    print("processor time", used / events, flush=True)


async def alone(queue, events, pause):
    times = []
    for number in range(events):
        await asyncio.sleep(pause)
        times.append(time.time())
        await queue.put({"seen": number})
    print("put at", json.dumps(times), flush=True)
"""
RULEBOOK = """
- name: bursts
  hosts: all
  sources:
    - bursts:
        folder: {folder}
        retained: {retained}
  rules:
    - name: seen
      condition: event.seen is defined
      action:
        debug:
          msg: seen
    - name: each
      condition: event.i is defined
      action:
        none:
    - name: half
      condition:
        all:
          - event.half is defined
          - event.other_half is defined
      action:
        none:
"""
RETAINED = "^retained$"
PROCESSOR = r"processor time (\S+)"
PUT_AT = r"put at (\[.*\])"


@dataclass(frozen=True)
class Turn:
    """What one turn of one process came to."""

    rate: float  # events per second
    processor: float  # microseconds of one event
    delays: Sequence[float] = ()  # seconds, of events one at a time


class Contestant:
    """One process, with HA or without, and the events that it is given.

    :param events: of a burst.
    :param retained: so many events stay in the memory of the rules.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        events: int,
        dsn: str | None,
        args: Sequence[str] = (),
        retained: int = 0,
    ):
        (root / "bursts.py").write_text(SOURCE, "utf-8")
        self.folder = root / f"{name}.d"
        self.folder.mkdir()
        self.dsn = dsn
        self.events = events
        self.retained = retained
        self.turns = 0
        self.actions = 0
        self.worker = WorkerProcess(
            RULEBOOK.format(folder=self.folder, retained=retained),
            root=root,
            name=name,
            verbosity=0,
            dsn=dsn,
            ha_uuid=str(uuid.uuid4()) if dsn else None,
            worker_id=name if dsn else None,
            args=["-S", str(root), *args],
        )

    def turn(self, alone: int) -> Turn:
        """Have one burst, and so many events one at a time."""
        first, last = self._go(self.events, 0, actions=2)
        took = last - first
        self.worker.wait_for(PROCESSOR, TIMEOUT)
        used = float(re.findall(PROCESSOR, self.worker.text)[-1])
        delays: list[float] = []
        if alone:
            ran = self._go(alone, PAUSE, actions=alone)
            self.worker.wait_for(PUT_AT, TIMEOUT)
            put = json.loads(re.findall(PUT_AT, self.worker.text)[-1])
            delays = [after - before for before, after in zip(put, ran)]
        return Turn((self.events - 1) / took, used * 1e6, delays)

    def _go(self, events: int, pause: float, actions: int) -> list[float]:
        """When the actions ran, in seconds since the epoch."""
        path = self.folder / f"go-{self.turns}"
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps([events, pause]), "utf-8")
        draft.rename(path)
        self.turns += 1
        self.actions += actions
        self.worker.wait_for(ACTION, TIMEOUT, count=self.actions)
        said = re.findall(ACTION, self.worker.text)[-actions:]
        return [datetime.fromisoformat(each).timestamp() for each in said]


def compete(
    contestants: Sequence[Contestant], turns: int, alone: int = 0
) -> list[tuple[Turn, ...]]:
    """What each did in each round; the order changes.

    :param alone: so many events of each turn come one at a time.
    """
    for each in contestants:
        each.worker.wait_for(RETAINED, FILL_TIMEOUT)
    rounds: list[tuple[Turn, ...]] = []
    for number in range(WARM_UP + turns):
        order = contestants if number % 2 else contestants[::-1]
        done = {contestant: contestant.turn(alone) for contestant in order}
        if number >= WARM_UP:
            rounds.append(tuple(done[each] for each in contestants))
    return rounds


def rates(turns: Sequence[Turn]) -> list[float]:
    return [turn.rate for turn in turns]


def processor(turns: Sequence[Turn]) -> list[float]:
    return [turn.processor for turn in turns]


def delays(turns: Sequence[Turn]) -> list[float]:
    """Of events one at a time, the median of each turn."""
    return [statistics.median(turn.delays) for turn in turns]
