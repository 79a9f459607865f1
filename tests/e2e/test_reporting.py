"""What real workers tell of themselves, and what is written of their terms."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from command_runs import run
from e2e_support import PATIENCE, Stage, needs_state, until
from rig.server import Server

LATER = "Successfully acquired leadership"


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def get(port: int, path: str) -> tuple[int, str]:
    """The status and the text of an answer; 0 if there is none."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{path}", timeout=PATIENCE
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def metric(port: int, name: str) -> float:
    """The sum over all labels."""
    lines = get(port, "/metrics")[1].splitlines()
    found = [line for line in lines if line.startswith(f"{name}{{")]
    return sum(float(line.rpartition(" ")[2]) for line in found)


@needs_state
def test_a_pair_of_workers_tells_who_leads_and_why(
    stage: Stage, server: Server, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    hook = tmp_path / "hook.sh"
    hook.write_text(
        "#!/bin/sh\n"
        'echo "$EDA_HA_WORKER_ID $EDA_HA_ROLE $EDA_HA_TERM '
        f'$EDA_HA_REASON" >> {told}\n'
    )
    hook.chmod(0o755)
    ports = port(), port()
    first = stage.start(
        args=["--ha-http-listen", str(ports[0])],
        env={"EDA_HA_ON_TRANSITION": str(hook)},
    )
    first.wait_leads(PATIENCE)
    second = stage.start(
        args=["--ha-http-listen", str(ports[1])],
        env={"EDA_HA_ON_TRANSITION": str(hook)},
    )
    until(lambda: get(ports[1], "/follower")[0] == 200, "it could take over")
    assert get(ports[0], "/leader")[0] == 200
    assert get(ports[1], "/leader")[0] == 503
    assert get(ports[0], "/follower")[0] == 503
    for each in ports:
        assert get(each, "/livez")[0] == get(each, "/readyz")[0] == 200
    stage.say(first, "hello")
    assert metric(ports[0], "eda_ha_leader") == 1
    assert metric(ports[1], "eda_ha_leader") == 0
    assert metric(ports[0], "eda_ha_events_total") == 1
    until(lambda: metric(ports[0], "eda_ha_actions_total") == 1, "an action")
    assert metric(ports[0], "eda_ha_journal_commit_duration_seconds_count") > 0
    assert metric(ports[0], "eda_ha_lease_renewal_duration_seconds_count") > 0
    status = json.loads(get(ports[0], "/status")[1])["worker"]
    assert status["leads"] and status["term"] == 1
    page = get(ports[1], "/")[1]
    assert first.worker_id in page and second.worker_id in page

    killed_at = first.kill()
    second.wait_leads(PATIENCE, after=killed_at)
    until(lambda: get(ports[1], "/leader")[0] == 200, "it says that it leads")
    (line,) = second.find(LATER)
    assert f"replaces={first.worker_id}" in line.text

    assert "because=killed" in line.text
    counted = 'reason="killed",to="leader"} 1.0'
    assert counted in get(ports[1], "/metrics")[1]

    def terms() -> list[dict[str, Any]]:
        answer = json.loads(get(ports[1], "/history")[1])
        return list(answer["terms"])

    until(lambda: len(terms()) == 2 and terms()[0]["gap"], "the history")
    now, before = terms()
    assert now["worker"] == second.worker_id
    assert before["worker"] == first.worker_id
    assert "without a word" in before["why_ended"]

    variables = {
        "EDA_HA_POSTGRES_DSN": stage.dsn,
        "EDA_HA_UUID": stage.ha_uuid,
    }
    shown = run("status", **variables)
    assert second.worker_id in shown.stdout
    assert f"127.0.0.1:{ports[1]}" in shown.stdout
    why = run("why", **variables).stdout
    assert first.worker_id in why and "without a word" in why

    second.signal(signal.SIGTERM)
    assert second.wait_exit(PATIENCE) == 0
    lines = told.read_text().splitlines()
    assert lines == [
        f"{first.worker_id} leader 1 first",
        f"{second.worker_id} leader 2 killed",
        f"{second.worker_id} follower 2 stopped",
        f"{second.worker_id} stopped 2 ",
    ]
    query = "SELECT ended FROM eda_ha_history ORDER BY term"
    rows = server.query(query, dsn=stage.dsn)
    assert [row[0] for row in rows] == ["killed", "stopped"]


def test_a_worker_says_503_from_the_moment_that_it_drains(
    stage: Stage,
) -> None:
    there = port()
    worker = stage.start(args=["--ha-http-listen", str(there)])
    worker.wait_leads(PATIENCE)
    until(lambda: get(there, "/leader")[0] == 200, "it says that it leads")
    stage.hold(worker, "long")
    told_at = worker.signal(signal.SIGTERM)
    worker.wait_for("Draining", PATIENCE, after=told_at)
    assert get(there, "/leader")[0] == 503
    assert get(there, "/livez")[0] == 200
    stage.let_go()
    assert worker.wait_exit(PATIENCE) == 0


@pytest.mark.parametrize("name", ["nowhere.invalid:1", "1.2.3.4:1", "busy"])
def test_where_it_cannot_listen_is_one_line(stage: Stage, name: str) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        where = str(busy.getsockname()[1]) if name == "busy" else name
        worker = stage.start(args=["--ha-http-listen", where])
        assert worker.wait_exit(PATIENCE) == 2
    (line,) = worker.find("error")
    assert "--ha-http-listen" in line.text
