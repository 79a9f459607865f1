"""A worker that is told to end does so in order, and then another leads."""

from __future__ import annotations

import signal
import time

import pytest
from e2e_support import (
    FOLLOWING,
    PATIENCE,
    STATELESS,
    Stage,
    carriers,
    terminate,
    until,
)
from rig.server import Server
from rig.workers import WorkerProcess

AGAIN = 0.3  # seconds; what comes at once may be the same Ctrl-C
SAME_SIGNAL = 1.0  # seconds after which it surely is another one

WITH_SOURCE = """
- name: Ending
  hosts: localhost
  sources:
    - inbox:
        folder: "{{{{ INBOX }}}}"
        settings:
          every: 0.05
    - {source}
  rules:
    - name: Say
      condition: event.word is defined and event.do is not defined
      action:
        debug:
          msg: "says {{{{ event.word }}}}"
    - name: Hold
      condition: event.do == "hold"
      action:
        run_playbook:
          name: "{{{{ PLAYBOOK }}}}"
          copy_files: false
          extra_vars:
            word: "{{{{ event.word }}}}"
"""


def holders(server: Server, dsn: str) -> list[str]:
    """Who holds an advisory lock."""
    rows = server.query(
        "SELECT application_name FROM pg_locks"
        " JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted",
        dsn=dsn,
    )
    return [row[0].split(":")[2] for row in rows]


def is_hurrying(worker: WorkerProcess) -> bool:
    """Whether it hurries; if not, it is told once more."""
    if not worker.find("Hurrying"):
        worker.signal(signal.SIGINT)
        time.sleep(AGAIN)
    return bool(worker.find("Hurrying"))


def test_the_lock_outlasts_the_last_action_of_who_is_told_to_end(
    stage: Stage, server: Server
) -> None:
    leader, follower = stage.pair()
    stage.hold(leader, "first")

    told_at = leader.signal(signal.SIGTERM)
    leader.wait_for("received shutdown", PATIENCE, after=told_at)
    stage.post("hold", "second")  # for the next one: sources have ended
    assert holders(server, stage.dsn) == [leader.worker_id]
    stage.let_go()

    assert leader.wait_exit(PATIENCE) == 0
    follower.wait_leads(PATIENCE, after=told_at)
    stage.wait_journal(f"end {follower.worker_id} second")
    assert stage.journal == [
        f"begin {leader.worker_id} first",
        f"end {leader.worker_id} first",
        f"begin {follower.worker_id} second",
        f"end {follower.worker_id} second",
    ]

    # Ctrl-C, and once more by somebody who does not want to wait.
    stage.hold_on()
    leader = follower
    # Without state, or it would run again what was cut short.
    follower = stage.start(args=["--shutdown-delay", "1", *STATELESS])
    follower.wait_for(FOLLOWING, PATIENCE)
    stage.hold(leader, "third")
    assert carriers(leader)
    told_at = leader.signal(signal.SIGINT)
    leader.wait_for("received shutdown", PATIENCE, after=told_at)
    until(lambda: is_hurrying(leader), "a second signal to be heard")
    assert leader.wait_exit(PATIENCE) == 0
    assert not carriers(leader)

    # One that does not want to wait at all.
    leader = follower
    leader.wait_leads(PATIENCE, after=told_at)
    stage.hold(leader, "fourth")
    leader.signal(signal.SIGTERM)
    assert leader.wait_exit(PATIENCE) == 0
    assert not carriers(leader)
    assert [line.split()[0] for line in stage.journal[4:]] == ["begin"] * 2
    until(lambda: not holders(server, stage.dsn), "a free lock")


@pytest.mark.parametrize("how", ["blocks", "swallows"])
def test_a_source_that_never_ends_does_not_keep_the_lock(
    stage: Stage, how: str
) -> None:
    rulebook = WITH_SOURCE.format(source=f"unwilling: {{how: {how}}}")
    leader = stage.start(rulebook, args=["--shutdown-delay", "2"])
    leader.wait_for("^says alive$", PATIENCE)
    follower = stage.start(rulebook, args=["--shutdown-delay", "3600"])
    follower.wait_for(FOLLOWING, PATIENCE)
    stage.hold(leader, "first")

    leader.signal(signal.SIGTERM)
    assert leader.wait_exit(PATIENCE) == 75
    assert leader.find(
        "exit code 75 .*does not end in time.*source::unwilling"
    )
    assert not carriers(leader)
    stage.let_go()  # what was cut short runs again

    # Who does not want to wait is heard, though the loop stands still.
    follower.wait_for("^says alive$", PATIENCE)
    told_at = follower.signal(signal.SIGTERM)
    follower.wait_for("Draining", PATIENCE, after=told_at)
    time.sleep(SAME_SIGNAL)
    follower.signal(signal.SIGTERM)
    assert follower.wait_exit(PATIENCE) == 75
    assert follower.find("exit code 75 .*source::unwilling")


def test_no_action_waits_for_a_source_that_never_ends(
    stage: Stage, server: Server
) -> None:
    # Another leads at once, while this one waits for its source. Chaos found
    # it, seed 3019.
    rulebook = WITH_SOURCE.format(source="unwilling: {how: swallows}")
    leader, follower = stage.pair(rulebook)
    stage.hold(leader, "first")

    cut_at = terminate(server, leader)
    leader.wait_for("1 running actions cancelled", PATIENCE, after=cut_at)
    follower.wait_leads(PATIENCE, after=cut_at)
    assert leader.wait_exit(PATIENCE) == 75
    assert leader.find("exit code 75 .*still running: source::unwilling")


def test_a_source_that_waits_to_lead_does_not_hold_up_its_follower(
    stage: Stage,
) -> None:
    rulebook = WITH_SOURCE.format(source="patient: {}")
    leader, follower = stage.pair(rulebook)
    leader.wait_for("^says led$", PATIENCE)
    follower.wait_for("^patient: waiting$", PATIENCE)

    told_at = follower.signal(signal.SIGTERM)
    assert follower.wait_exit(PATIENCE) == 0
    # Not the five seconds that a leader's sources get to end in order.
    assert not follower.find("Still waiting for")
    took = time.monotonic() - told_at
    assert took < 2, took
    assert leader.leads
