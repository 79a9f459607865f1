"""State that is off, and upstream's own way to keep it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2e_support import PATIENCE, STATELESS, Stage, needs_state
from psycopg.conninfo import conninfo_to_dict
from rig.server import Server
from rig.workers import WorkerProcess
from rules import PAIR, SAY, rulebook

pytestmark = needs_state

OWN = "upstream-s-own"  # --persistence-id
NO_HA: dict[str, Any] = dict.fromkeys(
    ("dsn", "ha_uuid", "worker_id", "poll_interval", "lease_duration")
)

RULEBOOK = rulebook(
    "Pair",
    SAY,
    PAIR,
    hosts="all",
)

FEEDBACK = """
- name: Feedback
  hosts: all
  sources:
    - name: ledger
      ledger:
        folder: "{{ INBOX }}"
        every: 1
        feedback: true
  rules:
    - name: Each
      condition: event.number >= 0
      action:
        none:
"""


def write_variables(folder: Path, dsn: str) -> Path:
    """The database as upstream wants to be told."""
    parts = conninfo_to_dict(dsn)
    variables = {
        f"drools_db_{name}": parts[key]
        for name, key in {
            "host": "host",
            "port": "port",
            "name": "dbname",
            "user": "user",
            "password": "password",
        }.items()
        if key in parts
    }
    path = folder / "vars.json"
    path.write_text(json.dumps(variables), "utf-8")
    return path


def open_and_close(stage: Stage, worker: WorkerProcess, word: str) -> None:
    """Two events that fire a rule together."""
    stage.post("open", word)
    stage.post("close", word)
    worker.wait_for(f"^open and close {word}$", PATIENCE)


def test_the_persistence_of_upstream_works_beside_ours(
    stage: Stage, server: Server, tmp_path: Path
) -> None:
    variables = write_variables(tmp_path, stage.dsn)
    own = ["--persistence-id", OWN, "--vars", str(variables)]
    alone = Stage(stage.worker, stage.dsn, stage.ha_uuid, tmp_path / "alone")
    first = alone.start(RULEBOOK, name="alone-1", args=own, **NO_HA)
    alone.post("open", "door")
    alone.say(first, "it is stored")

    worker = stage.start(RULEBOOK, args=own)
    worker.wait_leads(PATIENCE)
    warning = worker.wait_for("WARNING.*--persistence-id", PATIENCE)
    assert "--ha-uuid" in warning.text
    stage.post("close", "door")
    open_and_close(stage, worker, "gate")
    assert not worker.find("^open and close door$")

    alone.post("open", "lid")
    alone.say(first, "it is stored, too")
    first.kill()
    second = alone.start(RULEBOOK, name="alone-2", args=own, **NO_HA)
    alone.post("close", "door")
    alone.post("close", "lid")
    second.wait_for("^open and close door$", PATIENCE)
    second.wait_for("^open and close lid$", PATIENCE)
    for each in (first, second):
        assert not each.find("ansible_rulebook.ha")
    keepers = server.query(
        "SELECT DISTINCT ha_uuid FROM drools_ansible_session_state",
        dsn=stage.dsn,
    )
    assert keepers == [(OWN,)]
    ours = server.query(
        "SELECT ha_uuid::text FROM eda_ha_cluster", dsn=stage.dsn
    )
    assert ours == [(stage.ha_uuid,)]


def test_without_state_a_source_with_feedback_is_refused(
    stage: Stage,
) -> None:
    worker = stage.start(FEEDBACK, args=STATELESS)
    assert worker.wait_exit(PATIENCE) == 1
    assert worker.find("ledger has requested feedback but persistence")
    assert not worker.acquired
