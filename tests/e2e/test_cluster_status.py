"""``ansible-rulebook-ha`` and real workers: who leads, and who does next."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from e2e_support import LEASE, STATELESS, Stage, needs_state, until
from rig.workers import WorkerProcess, worker_env

COMMAND = [sys.executable, "-m", "ansible_rulebook.ha.operations.commands"]


def ask(stage: Stage, *args: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *args, "--timeout", "30"],
        env=worker_env(
            {"EDA_HA_POSTGRES_DSN": stage.dsn, "EDA_HA_UUID": stage.ha_uuid}
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def status(stage: Stage) -> Any:
    (cluster,) = json.loads(ask(stage, "status", "--json")[1])["clusters"]
    return cluster


def roles(stage: Stage) -> dict[str, str]:
    return {each["worker"]: each["role"] for each in status(stage)["workers"]}


def check_failover(
    stage: Stage, leader: WorkerProcess, follower: WorkerProcess
) -> None:
    """Status tells it before and after the leader is killed."""
    until(
        lambda: (
            roles(stage)
            == {leader.worker_id: "leader", follower.worker_id: "follower"}
        ),
        "both are shown",
    )
    code, text = ask(stage, "status", "--require-followers", "1")
    assert code == 0, text
    assert ask(stage, "leader") == (0, f"{leader.worker_id}\n")
    leader.kill()
    until(
        lambda: ask(stage, "leader") == (0, f"{follower.worker_id}\n"),
        "the other one leads",
    )
    until(
        lambda: roles(stage) == {follower.worker_id: "leader"},
        "the killed one is gone",
    )
    assert ask(stage, "status", "--require-followers", "1")[0] == 3


def test_workers_without_state_are_told_by_their_locks(stage: Stage) -> None:
    leader, follower = stage.pair(args=STATELESS)
    check_failover(stage, leader, follower)
    code, text = ask(stage, "why")
    assert code == 0
    assert f"{follower.worker_id} leads" in text
    assert "no history is kept" in text
    lease = status(stage)["lease"]
    assert lease in (None, LEASE)  # None where workers say nothing


@needs_state
def test_workers_with_state_have_a_history(stage: Stage) -> None:
    leader, follower = stage.pair()
    check_failover(stage, leader, follower)
    code, text = ask(stage, "history", "--json")
    assert code == 0
    terms = json.loads(text)["terms"]
    assert [(each["term"], each["worker"]) for each in terms] == [
        (2, follower.worker_id),
        (1, leader.worker_id),
    ]
    code, text = ask(stage, "why")
    assert code == 0
    assert f"It replaced {leader.worker_id}" in text
    told = status(stage)
    assert (told["term"], told["state"]["tables"]) == (2, "read")


@pytest.mark.parametrize("name", ["wörker[red]é", "a" * 120])
def test_names_that_do_not_fit_are_told_as_well_as_can_be(
    stage: Stage, name: str
) -> None:
    worker = stage.start(worker_id=name, args=STATELESS)
    worker.wait_leads()
    code, text = ask(stage, "leader")
    assert code == 0
    shown = text.strip()
    assert shown == name or (shown[:1] == name[:1] and shown.isascii())
