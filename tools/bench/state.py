"""Events per second with the rules' state kept in PostgreSQL.

Four processes run the same rulebook and take turns with bursts of events,
each of which matches a rule: ansible-rulebook alone, with its own
``--persistence-id``, a leading worker without state, and one with it. All
write to one server. After each heat nothing may be left to be recovered.

What is spared are commits, so the disk decides how much that gives. It is
measured with the disk as it is, and with one that needs two milliseconds more
for each commit, as those of many clouds do: PostgreSQL's ``commit_delay``
stands in for it.
"""

from __future__ import annotations

import json
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from rig.server import EmbeddedRig

from .report import Figure, Goal, Result
from .setting import Setting
from .throughput import (
    BURST_SOURCE,
    WITHOUT_STATE,
    Burst,
    Contestant,
    compete,
    rates,
)

GOAL = 2.0
DISKS: dict[str, dict[str, Any]] = {
    "this disk": {"fsync": True},
    "commits 2 ms slower": {
        "fsync": True,
        "commit_delay": 2000,  # microseconds
        "commit_siblings": 0,
    },
}
PENDING = "SELECT count(*) FROM drools_ansible_matching_event"


def upstream_variables(dsn: str) -> dict[str, str]:
    """What upstream's own persistence is told."""
    parts = conninfo_to_dict(dsn)
    return {
        "drools_db_host": str(parts.get("host", "127.0.0.1")),
        "drools_db_port": str(parts.get("port", 5432)),
        "drools_db_name": str(parts["dbname"]),
        "drools_db_user": str(parts["user"]),
        "drools_db_password": str(parts.get("password") or "none"),
    }


class Persistent(Contestant):
    """Upstream with ``--persistence-id``."""

    def __init__(self, name: str, root: Path, events: int, dsn: str) -> None:
        variables = root / f"{name}.json"
        variables.write_text(json.dumps(upstream_variables(dsn)), "utf-8")
        args = ("--vars", str(variables))
        own = ("--persistence-id", str(uuid.uuid4()))
        super().__init__(name, root, events, None, args + own)


def nothing_pending(dsn: str) -> None:
    """Check that every match of the bursts is recorded as done.

    :raises AssertionError: if some would run again.
    """
    with psycopg.connect(dsn) as connection:
        row = connection.execute(PENDING).fetchone()
    assert row is not None and row[0] == 0, f"{row} matches are pending"


def measure(setting: Setting) -> Result:
    events = setting.pick(1000, 300)
    figures: list[Figure] = []
    goals: list[Goal] = []
    for disk, settings in DISKS.items():
        server = EmbeddedRig(settings)
        with server:
            done = compare(setting, server, disk, events)
        figures += done
        goals.append(
            Goal(
                f"times upstream's own persistence, {disk}",
                done[0].median / done[1].median,
                GOAL,
                at_least=True,
            )
        )
    return Result(
        "state",
        f"bursts of {events:,} events, each matched and recorded",
        figures,
        goals,
        ["after each heat no match was left to be recovered"],
    )


def compare(
    setting: Setting, server: EmbeddedRig, disk: str, events: int
) -> list[Figure]:
    """The four on one server: with state, upstream's, without, plain."""
    heats = setting.pick(2, 1)
    bursts = setting.pick(6, 3)
    root = setting.folder(f"state-{disk.replace(' ', '-')}")
    (root / "bursts.py").write_text(BURST_SOURCE, "utf-8")
    rounds: list[tuple[Burst, ...]] = []
    for heat in range(heats):
        setting.say(f"{disk}, processes {heat + 1} of {heats}")
        theirs = server.create_database(f"persistent{heat}")
        own = server.create_database(f"stateful{heat}")
        contestants = (
            Contestant(
                f"state-{heat}", root, events, own, ("--ha-state", "required")
            ),
            Persistent(f"persistent-{heat}", root, events, theirs),
            Contestant(f"ha-{heat}", root, events, server.dsn, WITHOUT_STATE),
            Contestant(f"plain-{heat}", root, events, None),
        )
        with ExitStack() as stack:
            for each in contestants:
                stack.enter_context(each.worker)
            rounds += compete(contestants, bursts)
        for dsn in (theirs, own):
            nothing_pending(dsn)
    state, persistent, ha, plain = (rates(each) for each in zip(*rounds))
    names = (
        ("leading worker with state", state),
        ("upstream, --persistence-id", persistent),
        ("leading worker, --ha-state off", ha),
        ("upstream without persistence", plain),
    )
    return [
        Figure(f"{disk}: {name}", "events/s", each) for name, each in names
    ]
