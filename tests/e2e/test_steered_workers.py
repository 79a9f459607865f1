"""Real workers are steered: nothing is lost, and nothing done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from e2e_support import (
    FOLLOWING,
    LEASE,
    PATIENCE,
    STATELESS,
    Stage,
    needs_state,
    until,
)
from rig.workers import WorkerProcess, worker_env

COMMAND = [sys.executable, "-m", "ansible_rulebook.ha.operations.commands"]
STATE = pytest.mark.parametrize(
    "args",
    [
        pytest.param(STATELESS, id="stateless"),
        pytest.param([], id="state", marks=needs_state),
    ],
)


LETTERS = """
- name: Letters
  hosts: localhost
  sources:
    - letters:
        folder: "{{ INBOX }}"
        every: 0.05
  rules:
    - name: Say
      condition: event.do == "say"
      action:
        debug:
          msg: "says {{ event.word }}"
    - name: Hold
      condition: event.do == "hold"
      action:
        run_playbook:
          name: "{{ PLAYBOOK }}"
          copy_files: false
          extra_vars:
            word: "{{ event.word }}"
"""


def begin(stage: Stage, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *args],
        env=worker_env(
            {"EDA_HA_POSTGRES_DSN": stage.dsn, "EDA_HA_UUID": stage.ha_uuid}
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ask(stage: Stage, *args: str) -> tuple[int, str]:
    process = begin(stage, *args)
    told, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, told


@contextmanager
def events(stage: Stage) -> Iterator[list[str]]:
    """Events that come all the time; the words that were posted."""
    words: list[str] = []
    enough = threading.Event()

    def post() -> None:
        while not enough.wait(0.01):
            words.append(f"n{len(words)}")
            stage.post("say", words[-1])

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield words
    finally:
        enough.set()
        thread.join()


def check_each_once(stage: Stage, words: list[str]) -> None:
    """Each event was acted on, by one worker, and once."""
    expected = sorted(f"says {word}" for word in words)
    said = until(
        lambda: (
            found
            if len(found := stage.shown(r"says n\d+$")) >= len(expected)
            else None
        ),
        "all events are acted on",
    )
    told = sorted(line[line.index("says") :].strip() for line in said)
    assert told == expected


@STATE
def test_a_playbook_ends_before_the_lead_is_handed_over(
    stage: Stage, args: list[str]
) -> None:
    leader, follower = stage.pair(LETTERS, args=args)
    with events(stage) as words:
        stage.hold(leader, "long")
        asking = begin(stage, "switchover", "--yes", "--reason", "an update")
        leader.wait_for("Asked to hand over", PATIENCE)
        follower.wait_for(FOLLOWING, PATIENCE)
        assert not follower.acquired
        assert asking.poll() is None
        stage.let_go()
        told, _ = asking.communicate(timeout=PATIENCE)
        assert asking.returncode == 0, told
        assert told.startswith(
            f"{follower.worker_id} leads now, after {leader.worker_id}. "
        )
        stage.wait_journal(f"end {leader.worker_id} long")
        assert leader.find("Lost leadership .*an update")
        seen = len(words)
        until(lambda: len(words) > seen + 20, "more events")
        # And back, as soon as it is there again.
        leader.wait_for(FOLLOWING, PATIENCE)
        code, told = ask(
            stage, "switchover", "--yes", "--to", leader.worker_id
        )
        assert code == 0, told
        seen = len(words)
        until(lambda: len(words) > seen + 20, "more events")
    check_each_once(stage, words)
    assert [entry for entry in stage.journal if "begin" in entry] == [
        f"begin {leader.worker_id} long"
    ]
    assert leader.alive
    assert follower.alive


@STATE
def test_nothing_is_lost_or_done_twice_around_a_pause(
    stage: Stage, args: list[str]
) -> None:
    leader, follower = stage.pair(LETTERS, args=args)
    with events(stage) as words:
        until(lambda: len(words) > 20, "events")
        pause = begin(stage, "pause", "--reason", "an update")
        try:
            assert pause.stdout is not None
            assert pause.stdout.readline().startswith("Paused until Ctrl-C")
            said = len(stage.shown(r"says n\d+$"))
            leader.wait_for(rf"{FOLLOWING}.*leader=eda-ha-pause:", PATIENCE)
            code, told = ask(stage, "status")
            assert code == 3
            assert ": an update" in told
            assert len(stage.shown(r"says n\d+$")) == said
            os.kill(pause.pid, signal.SIGTERM)
            assert pause.wait(PATIENCE) == 0
        finally:
            pause.kill()
            pause.wait()
        until(lambda: leader.leads or follower.leads, "one leads again")
    check_each_once(stage, words)


@STATE
@pytest.mark.parametrize("kind", [[], ["--kill"]], ids=["orderly", "kill"])
def test_a_drill_with_workers(
    stage: Stage, args: list[str], kind: list[str]
) -> None:
    leader, follower = stage.pair(LETTERS, args=args)
    code, told = ask(
        stage, "drill", "--yes", "--max", str(LEASE + PATIENCE), *kind
    )
    assert code == 0, told
    assert told.startswith(f"{follower.worker_id} leads now")
    stage.say(follower, "after the drill")
    leader.wait_lost(PATIENCE)
    assert_both_live(leader, follower)


def assert_both_live(*workers: WorkerProcess) -> None:
    for each in workers:
        assert each.alive
