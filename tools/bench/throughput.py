"""Events per second of one leading worker, beside ansible-rulebook alone.

Two processes run the same rulebook with the same command, one with the HA
options and one without. They take turns with bursts of events, so that both
meet the same machine; after some bursts both are replaced, since Java does
not compile a program in the same way twice. Each event matches a rule, whose
action does nothing: the least that upstream can do for an event, so what HA
adds shows most. The time is from the first to the last event of a burst, as
their actions say it.

Next to that stands the processor time of the thread with the event loop, as
the source reads it. It tells more where other programs use the machine, too.
"""

from __future__ import annotations

import re
import statistics
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rig.server import EmbeddedRig
from rig.workers import WorkerProcess

from .report import Figure, Goal, Result
from .setting import Setting
from .worker import ACTION

GOAL = 0.97
WITHOUT_STATE = ("--ha-state", "off")
TIMEOUT = 120.0  # seconds
WARM_UP = 4  # bursts of each process that do not count
BURST_SOURCE = """
import asyncio
import os
import time


async def main(queue, args):
    burst = 0
    while True:
        path = os.path.join(args["folder"], f"go-{burst}")
        while not os.path.exists(path):
            await asyncio.sleep(0.02)
        began = time.thread_time()
        for number in range(args["events"]):
            await queue.put({"i": number})
            await asyncio.sleep(0)  # as eda.builtin.range does
        used = time.thread_time() - began
        print("processor time", used / args["events"], flush=True)
        burst += 1
"""
RULEBOOK = """
- name: throughput
  hosts: all
  sources:
    - bursts:
        folder: {folder}
        events: {events}
  rules:
    - name: first
      condition: event.i == 0
      action:
        debug:
          msg: first
    - name: last
      condition: event.i == {last}
      action:
        debug:
          msg: last
    - name: each
      condition: event.i is defined
      action:
        none:
"""


PROCESSOR = r"processor time (\S+)"


@dataclass(frozen=True)
class Burst:
    """What one burst came to."""

    rate: float  # events per second
    processor: float  # microseconds of one event


class Contestant:
    """One process, with HA or without, and the bursts that it was given."""

    def __init__(
        self,
        name: str,
        root: Path,
        events: int,
        dsn: str | None,
        args: Sequence[str] = (),
    ):
        self.folder = root / f"{name}.d"
        self.folder.mkdir()
        self.events = events
        self.bursts = 0
        self.worker = WorkerProcess(
            RULEBOOK.format(
                folder=self.folder, events=events, last=events - 1
            ),
            root=root,
            name=name,
            verbosity=0,
            dsn=dsn,
            ha_uuid=str(uuid.uuid4()) if dsn else None,
            worker_id=name if dsn else None,
            args=["-S", str(root), *args],
        )

    def burst(self) -> Burst:
        """Have one burst."""
        (self.folder / f"go-{self.bursts}").touch()
        self.bursts += 1
        self.worker.wait_for(ACTION, TIMEOUT, count=2 * self.bursts)
        self.worker.wait_for(PROCESSOR, TIMEOUT, count=self.bursts)
        text = self.worker.text
        first, last = map(
            datetime.fromisoformat, re.findall(ACTION, text)[-2:]
        )
        used = re.findall(PROCESSOR, text)[-1]
        return Burst(
            (self.events - 1) / (last - first).total_seconds(),
            float(used) * 1e6,
        )


def compete(
    contestants: Sequence[Contestant], bursts: int
) -> list[tuple[Burst, ...]]:
    """What each did in each round; the order changes."""
    rounds: list[tuple[Burst, ...]] = []
    for number in range(WARM_UP + bursts):
        order = contestants if number % 2 else contestants[::-1]
        done = {contestant: contestant.burst() for contestant in order}
        if number >= WARM_UP:
            rounds.append(tuple(done[each] for each in contestants))
    return rounds


def rates(bursts: Sequence[Burst]) -> list[float]:
    return [burst.rate for burst in bursts]


def processor(bursts: Sequence[Burst]) -> list[float]:
    return [burst.processor for burst in bursts]


def measure(setting: Setting) -> Result:
    heats = setting.pick(5, 1)
    bursts = setting.pick(10, 4)
    events = setting.pick(5000, 2000)
    server = setting.stack.enter_context(EmbeddedRig())
    root = setting.folder("throughput")
    (root / "bursts.py").write_text(BURST_SOURCE, "utf-8")
    rounds: list[tuple[Burst, ...]] = []
    for heat in range(heats):
        setting.say(f"pair of processes {heat + 1} of {heats}")
        ours = Contestant(
            f"ha-{heat}", root, events, server.dsn, WITHOUT_STATE
        )
        plain = Contestant(f"plain-{heat}", root, events, None)
        with ExitStack() as stack:
            for each in (ours, plain):
                stack.enter_context(each.worker)
            rounds += compete((ours, plain), bursts)
    ours_done, plain_done = zip(*rounds)
    with_ha = Figure("leading worker", "events/s", rates(ours_done))
    without = Figure("without HA", "events/s", rates(plain_done))
    ratios = [a.rate / b.rate for a, b in rounds]
    added = statistics.median(a.processor - b.processor for a, b in rounds)
    return Result(
        "throughput",
        f"bursts of {events:,} events, each with an action",
        [
            with_ha,
            without,
            Figure("ratio of a round", "", ratios),
            Figure("its event loop", "µs/event", processor(ours_done)),
            Figure("loop without HA", "µs/event", processor(plain_done)),
        ],
        [
            Goal(
                "ratio of the medians",
                with_ha.median / without.median,
                GOAL,
                at_least=True,
            )
        ],
        [
            f"its event loop needs {abs(added):.1f} µs "
            f"{'more' if added > 0 else 'less'} for an event than without HA "
            "(median of the rounds)",
            f"median of the rounds' ratios: {statistics.median(ratios):.3f}",
        ],
    )
