"""Events per second with the rules' state kept in PostgreSQL.

Four processes run the same rulebook and take turns with bursts of events,
each of which matches a rule: ansible-rulebook alone, with its own
``--persistence-id``, a leading worker without state, and one with it. All
write to one server. A burst has ended for those that keep state when nothing
of it is left to be recovered.
"""

from __future__ import annotations

import json
import uuid
from contextlib import ExitStack
from pathlib import Path

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
    heats = setting.pick(3, 1)
    bursts = setting.pick(6, 3)
    events = setting.pick(1000, 300)
    server = setting.stack.enter_context(EmbeddedRig())
    root = setting.folder("state")
    (root / "bursts.py").write_text(BURST_SOURCE, "utf-8")
    rounds: list[tuple[Burst, ...]] = []
    for heat in range(heats):
        setting.say(f"processes {heat + 1} of {heats}")
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
    with_state = Figure("leading worker with state", "events/s", state)
    upstream = Figure("upstream, --persistence-id", "events/s", persistent)
    return Result(
        "state",
        f"bursts of {events:,} events, each matched and recorded",
        [
            with_state,
            upstream,
            Figure("leading worker, --ha-state off", "events/s", ha),
            Figure("upstream without persistence", "events/s", plain),
        ],
        [
            Goal(
                "times upstream's own persistence",
                with_state.median / upstream.median,
                GOAL,
                at_least=True,
            )
        ],
        ["after each heat no match was left to be recovered"],
    )
