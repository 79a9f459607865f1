"""Events per second of one leading worker, beside ansible-rulebook alone.

Two processes run the same rulebook with the same command, one with the HA
options and one without. They take turns with bursts of events, so that both
meet the same machine; after some bursts both are replaced, since Java does
not compile a program in the same way twice.

Next to that stands the processor time of the thread with the event loop, as
the source reads it. It tells more where other programs use the machine, too.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from rig.server import EmbeddedRig

from .bursts import (
    WITHOUT_STATE,
    Contestant,
    Turn,
    compete,
    processor,
    rates,
)
from .report import Figure, Goal, Result
from .setting import Setting

GOAL = 0.97


def measure(setting: Setting) -> Result:
    heats = setting.pick(5, 1)
    bursts = setting.pick(10, 4)
    events = setting.pick(5000, 2000)
    server = setting.stack.enter_context(EmbeddedRig())
    root = setting.folder("throughput")
    rounds: list[tuple[Turn, ...]] = []
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
