"""Two sources that count while a database is away, and what came of it."""

from __future__ import annotations

from pathlib import Path

from rig.workers import WorkerProcess
from rules import INBOX, PAIR, SAY, after, rulebook

WINDOW = 2  # seconds, of the timed rule
OUTAGE = rulebook(
    "Outage",
    SAY,
    PAIR,
    after(WINDOW),
    """
    - name: Tick
      condition: event.tick is defined
      action:
        debug:
          msg: "tick {{ event.tick }} has run"
    - name: Broker
      condition: event.broker is defined
      action:
        debug:
          msg: "broker {{ event.broker }} has run"
""",
    sources=(
        INBOX,
        """
    - outage_ticks:
        folder: "{{ INBOX }}"
        every: 0.03
    - name: broker
      outage_broker:
        folder: "{{ INBOX }}"
        every: 0.03
        feedback: true
""",
    ),
    parallel=True,
)


def numbers(path: Path) -> list[int]:
    return [int(number) for number in path.read_text("utf-8").split()]


def has_run(worker: WorkerProcess, what: str) -> set[int]:
    return {
        int(line.text.split()[1])
        for line in worker.find(rf"^{what} \d+ has run$")
    }
