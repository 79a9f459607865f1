"""Memory of a leader and of a follower, beside ansible-rulebook alone.

All run the same rulebook with the same command; what a follower lacks
is events. PSS counts a page that n processes share as 1/n page for each, so
the sum over processes is what they really take; RSS counts it in full.
"""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from pathlib import Path

from rig.server import EmbeddedRig
from rig.workers import WorkerProcess

from .report import Figure, Goal, Result
from .setting import Setting
from .worker import ACTION, FOLLOWING, RULEBOOK, TIMEOUT

GOAL = 1.3  # times ansible-rulebook without HA, a follower
MIB = 1024.0  # KiB
PLAIN = "without HA"
STATELESS = "--ha-state off"


def memory(pids: list[int]) -> tuple[float, float]:
    """PSS and RSS of processes together, in MiB."""
    pss = rss = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        for line in text.splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1])
            elif line.startswith("Rss:"):
                rss += int(line.split()[1])
    return pss / MIB, rss / MIB


def _worker(root: Path, name: str, *args: str) -> WorkerProcess:
    return WorkerProcess(
        RULEBOOK, root=root, name=name, verbosity=0, args=args
    )


def _pair(
    stack: ExitStack, root: Path, dsn: str, state: str, number: int
) -> dict[str, WorkerProcess]:
    """A leader and a follower, by the names that the figures have."""
    args = ["--ha-postgres-dsn", dsn, "--ha-uuid", str(uuid.uuid4())]
    args += ["--ha-state", state]
    leader = _worker(root, f"first-{state}-{number}", *args)
    stack.enter_context(leader).wait_leads(TIMEOUT)
    leader.wait_for(ACTION, TIMEOUT)
    follower = _worker(root, f"second-{state}-{number}", *args)
    stack.enter_context(follower).wait_for(FOLLOWING, TIMEOUT)
    suffix = f", {STATELESS}" if state == "off" else ""
    return {f"leader{suffix}": leader, f"follower{suffix}": follower}


def measure(setting: Setting) -> Result:
    rounds = setting.pick(5, 1)
    settle = setting.pick(20, 5)  # seconds
    server = setting.stack.enter_context(EmbeddedRig())
    root = setting.folder("memory")
    values: dict[str, list[tuple[float, float]]] = {
        "leader": [],
        "follower": [],
        f"leader, {STATELESS}": [],
        f"follower, {STATELESS}": [],
        PLAIN: [],
    }
    for number in range(rounds):
        setting.say(f"round {number + 1} of {rounds}")
        with ExitStack() as stack:
            # One after the other, or their starts would disturb each other.
            plain = _worker(root, f"plain-{number}")
            stack.enter_context(plain).wait_for(ACTION, TIMEOUT)
            found = {PLAIN: plain}
            for state in ("auto", "off"):
                dsn = server.create_database()
                found.update(_pair(stack, root, dsn, state, number))
            time.sleep(settle)
            for name, each in found.items():
                pids = [each.pid, *each.descendants()]
                values[name].append(memory(pids))
    figures = [
        Figure(
            name,
            "MiB",
            [each[index] for each in found],
            measure_name,
        )
        for index, measure_name in enumerate(("PSS", "RSS"))
        for name, found in values.items()
    ]
    medians = {each.name: each.median for each in figures[: len(values)]}
    added = ", ".join(
        f"{name} {median - medians[PLAIN]:+.0f} MiB"
        for name, median in medians.items()
        if name != PLAIN
    )
    return Result(
        "memory",
        "a worker with ten events in a second, its helpers included",
        figures,
        [
            Goal(
                f"PSS of a follower, times {PLAIN}",
                medians["follower"] / medians[PLAIN],
                GOAL,
            )
        ],
        [
            f"{settle} s after the last one was up, Java included",
            f"beside ansible-rulebook without HA (PSS, medians): {added}",
        ],
    )
