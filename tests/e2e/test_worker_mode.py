"""``--worker``: the workload comes from a websocket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from e2e_support import FOLLOWING, PATIENCE, READY, Stage, until
from psycopg.conninfo import conninfo_to_dict
from rig.workers import WorkerProcess, wait_leader, worker_env
from workload import WorkloadServer

RULEBOOK = """
- name: Workload
  hosts: all
  sources:
    - ticks:
        delay: 0.2
  rules:
    - name: Number
      condition: event.i >= 0
      action:
        debug:
          msg: "{{ greeting }} {{ event.i }}"
"""
needs_vault = pytest.mark.skipif(
    version("ansible-rulebook").startswith("1.1."),
    reason="1.1 reads nothing of what ansible-core 2.19 decrypts",
)
GREETING = {"greeting": "workload"}
STATS = "HighAvailabilityStats"


def drools_variables(dsn: str) -> dict[str, object]:
    """The variables that name the server of a connection string."""
    params = conninfo_to_dict(dsn)
    return {
        "drools_db_host": params["host"],
        "drools_db_port": params["port"],
        "drools_db_name": params["dbname"],
        "drools_db_user": params["user"],
        "drools_db_password": params.get("password", ""),
        "drools_sslmode": "prefer",
    }


def start(
    stage: Stage,
    controller: WorkloadServer,
    number: str,
    args: Sequence[str] = (),
    **options: Any,
) -> WorkerProcess:
    """A worker of that number, as a controller starts it."""
    mode = ["--worker", "--id", number, "--websocket-url", controller.url]
    return stage.start(args=[*mode, *args], **options)


def start_named(
    stage: Stage,
    controller: WorkloadServer,
    number: str,
    args: Sequence[str] = (),
) -> WorkerProcess:
    """A worker that has a name and a UUID of its controller, and no more."""
    return start(
        stage,
        controller,
        number,
        ["--worker-name", f"activation-{number}", *args],
        dsn=None,
        worker_id=None,
    )


@pytest.fixture
def controller() -> Iterator[WorkloadServer]:
    with WorkloadServer(RULEBOOK, GREETING) as made:
        yield made


@pytest.fixture
def grouping_controller(dsn: str) -> Iterator[WorkloadServer]:
    """It has activation groups, and sends where the database is."""
    variables = {**GREETING, **drools_variables(dsn)}
    with WorkloadServer(RULEBOOK, variables) as made:
        yield made


def test_workers_of_a_websocket_elect_a_leader(
    stage: Stage, controller: WorkloadServer
) -> None:
    workers = [start(stage, controller, number) for number in ("1", "2")]
    leader = wait_leader(workers, PATIENCE)
    (follower,) = (each for each in workers if each is not leader)
    follower.wait_for(FOLLOWING, PATIENCE)
    follower.wait_for(READY, PATIENCE)
    leader.wait_for("^workload 5$", PATIENCE)
    assert not follower.find("^workload")
    assert sorted(controller.workers) == ["1", "2"]
    until(lambda: controller.reports, "a report")

    killed_at = leader.kill()
    follower.wait_leads(PATIENCE, after=killed_at)
    follower.wait_for("^workload 5$", PATIENCE)
    assert follower.stop(PATIENCE) == 0
    # It has given its workers no name, and may not know such a message.
    assert controller.of_type(STATS) == []


def reported(controller: WorkloadServer, leader: str) -> Mapping[str, Any]:
    """The first report that this one leads."""

    def found() -> list[dict[str, Any]]:
        return [
            each
            for each in controller.of_type(STATS)
            if each["stats"]["current_leader"] == leader
        ]

    until(found, f"a report that {leader} leads")
    return found()[0]


def test_a_controller_with_activation_groups_is_told_who_leads(
    stage: Stage, grouping_controller: WorkloadServer
) -> None:
    controller = grouping_controller
    workers = {
        number: start_named(stage, controller, number) for number in ("1", "2")
    }
    leader = wait_leader(workers.values(), PATIENCE)
    first, second = sorted(workers, key=lambda n: workers[n] is not leader)
    leader.wait_for(r"Worker activation-\d: Successfully", PATIENCE)
    leader.wait_for("^workload 5$", PATIENCE)
    told = reported(controller, f"activation-{first}")
    assert told["activation_id"] == first
    assert told["activation_instance_id"] == first
    assert told["stats"]["ha_uuid"] == stage.ha_uuid
    assert told["reported_at"].endswith("Z")
    workers[second].wait_for(FOLLOWING, PATIENCE)

    killed_at = leader.kill()
    workers[second].wait_leads(PATIENCE, after=killed_at)
    after = reported(controller, f"activation-{second}")
    assert after["stats"]["ha_uuid"] == stage.ha_uuid
    # One for each term, and one request for the workload from each worker.
    assert len(controller.of_type(STATS)) == 2
    assert sorted(controller.workers) == ["1", "2"]
    assert workers[second].stop(PATIENCE) == 0


def test_a_heartbeat_tells_again_who_leads(
    stage: Stage, grouping_controller: WorkloadServer
) -> None:
    controller = grouping_controller
    name = "what people: call it"
    args = ["--worker-name", name, "--heartbeat", "1"]
    worker = start_named(stage, controller, "7", args)
    until(lambda: len(controller.of_type(STATS)) >= 3, "three reports")
    stats = [each["stats"] for each in controller.of_type(STATS)]
    assert {each["current_leader"] for each in stats} == {name}
    assert worker.stop(PATIENCE) == 0


def test_a_workload_without_a_database_is_refused(
    stage: Stage, controller: WorkloadServer
) -> None:
    worker = start_named(stage, controller, "1")
    assert worker.wait_exit(PATIENCE) == 2
    (line,) = worker.find("error:")
    assert "drools_db_host" in line.text
    assert "--ha-postgres-dsn" in line.text


def encrypted(text: object, key: Path) -> str:
    """As ansible-vault has it."""
    done = subprocess.run(
        ["ansible-vault", "encrypt", "--vault-password-file", str(key)],
        env=worker_env(),
        input=str(text),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    "encrypts", [False, pytest.param(True, marks=needs_vault)]
)
def test_variables_name_the_database_without_a_controller(
    stage: Stage, dsn: str, encrypts: bool
) -> None:
    key, variables = stage.folder / "key", stage.folder / "vars.yml"
    key.write_text("open sesame", "utf-8")
    given = drools_variables(dsn)
    if encrypts:
        given["drools_db_name"] = encrypted(given["drools_db_name"], key)
    variables.write_text(json.dumps(given), "utf-8")
    worker = stage.start(
        args=[
            *("--vars", str(variables)),
            *("--vault-password-file", str(key)),
        ],
        dsn=None,
    )
    worker.wait_leads(PATIENCE)
    stage.say(worker, "something")
    assert worker.stop(PATIENCE) == 0
