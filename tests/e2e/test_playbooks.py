"""What playbooks leave behind, and what they can see of their worker."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from e2e_support import (
    PATIENCE,
    RULEBOOKS,
    STATELESS,
    Stage,
    carriers,
    terminate,
    until,
)
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rig.proxy import Proxy
from rig.server import Server
from rig.workers import ACQUIRED, WorkerProcess
from rules import SAY, rulebook

FAILED = "Error calling action run_playbook"
LEAVING = rulebook(
    "Leaving",
    SAY,
    """
    - name: Well
      condition: event.do == "well"
      action:
        run_playbook: &leave
          name: "{{ LEAVE }}"
          copy_files: false
          extra_vars: {word: "{{ event.word }}", ends: "true"}
    - name: Badly
      condition: event.do == "badly"
      action:
        run_playbook:
          <<: *leave
          extra_vars: {word: "{{ event.word }}", ends: "false"}
          retries: 1
          delay: 600
    - name: Well, but its action fails
      condition: event.do == "in vain"
      action:
        run_playbook:
          <<: *leave
          set_facts: true
    - name: Well, but ansible-runner fails
      condition: event.do == "robbed"
      action:
        run_playbook:
          <<: *leave
          extra_vars: {word: "{{ event.word }}", ends: "rm -r ../artifacts"}
    - name: Never
      condition: event.do == "never"
      action:
        run_playbook:
          <<: *leave
          extra_vars: {word: "{{ event.word }}", ends: "sleep 600"}
""",
    parallel=True,
)


@pytest.fixture
def temp() -> Iterator[dict[str, str]]:
    """The variable for a worker's folder of temporary files."""
    # ansible-core makes a socket there, whose path must be short.
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield {"TMPDIR": folder}


@pytest.fixture
def daemons(stage: Stage) -> Iterator[Callable[[], dict[str, int]]]:
    """The PIDs of the daemons that playbooks left and that live."""

    def find() -> dict[str, int]:
        entries = [entry.split(maxsplit=2) for entry in stage.journal]
        return {
            word: int(pid)
            for left, pid, word in entries
            if left == "left" and is_daemon(int(pid))
        }

    yield find
    for pid in find().values():
        os.kill(pid, signal.SIGKILL)


def is_daemon(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0")
    except OSError:
        return False


def folders(temp: dict[str, str]) -> list[Path]:
    """Those in which playbooks run."""
    return list(Path(temp["TMPDIR"]).glob("eda*"))


def test_what_is_left_on_purpose_outlives_the_term(
    stage: Stage,
    server: Server,
    temp: dict[str, str],
    daemons: Callable[[], dict[str, int]],
) -> None:
    leave = str(RULEBOOKS / "leave.yml")
    worker = stage.start(
        LEAVING,
        args=[*STATELESS, "--env-vars", "INBOX,LEAVE"],
        env={**temp, "LEAVE": leave},
    )
    worker.wait_leads(PATIENCE)
    stage.post("well", "well")
    until(lambda: "well" in daemons() and not folders(temp), "the first")
    for count, do in enumerate(("in vain", "robbed"), 1):
        stage.post(do, do)
        worker.wait_for(FAILED, PATIENCE, count=count)
    stage.post("badly", "badly")
    until(
        lambda: any(
            path.read_text("utf-8") == "failed"
            for folder in folders(temp)
            for path in folder.glob("artifacts/*/status")
        ),
        "the end of the one that fails",
    )
    stage.post("never", "never")
    until(lambda: "never" in daemons(), "the one that does not end")
    # By now the worker has heard of the end of the others.
    stage.say(worker, "all began")

    terminate(server, worker)
    worker.wait_for(ACQUIRED, PATIENCE, count=2)
    assert set(daemons()) == {"well", "in vain", "robbed", "badly"}
    assert folders(temp) == []


def test_no_playbook_leaves_its_folder(
    stage: Stage,
    proxy: Callable[..., Proxy],
    temp: dict[str, str],
) -> None:
    between = proxy(stage.dsn)
    worker = stage.start(args=STATELESS, dsn=between.dsn, env=temp)
    worker.wait_leads(PATIENCE)

    # It asks the server whether it may begin, and hears nothing.
    between.deaf()
    stage.post("hold", "never")
    until(lambda: folders(temp), "the action")
    lost = worker.wait_lost(PATIENCE)
    between.hear()
    worker.wait_leads(PATIENCE, after=lost.at)
    assert folders(temp) == []
    assert stage.journal == []

    stage.hold(worker, "killed")
    assert folders(temp)
    worker.kill()
    until(lambda: not carriers(worker), "the end of the playbook")
    until(lambda: not folders(temp), "the end of its folder")


@pytest.mark.parametrize("via", ["env", "flags"])
def test_neither_worker_nor_playbook_shows_the_password(
    stage: Stage, via: str
) -> None:
    known = conninfo_to_dict(stage.dsn)
    password = str(known.get("password") or "hidden-word")
    dsn = make_conninfo(stage.dsn, password=password)
    worker = stage.start(args=STATELESS, dsn=dsn, via=via)
    worker.wait_leads(PATIENCE)
    stage.hold(worker, "looked at")
    assert carriers(worker)
    for pid in (worker.pid, *worker.descendants()):
        for name in ("environ", "cmdline"):
            try:
                shown = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue  # a command of the playbook that has ended
            assert password.encode() not in shown, (pid, name)
    environ = own_variables(worker)
    if via == "env":  # where a title has not covered all of it
        assert set(environ["EDA_HA_POSTGRES_DSN"]) == {"*"}
        assert environ["EDA_HA_UUID"] == stage.ha_uuid
        assert environ["INBOX"] == str(stage.inbox)


def own_variables(worker: WorkerProcess) -> dict[str, str]:
    """The variables of the worker that the kernel shows."""
    shown = Path(f"/proc/{worker.pid}/environ").read_text("utf-8")
    pairs = (each.partition("=") for each in shown.split("\0") if each)
    return {name: value for name, _, value in pairs}
