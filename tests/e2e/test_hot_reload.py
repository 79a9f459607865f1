"""The rulebook of a worker changes while it runs."""

from __future__ import annotations

import signal

from e2e_support import PATIENCE, READY, STAGE, Stage
from rig.workers import WorkerProcess

NEW_RULE = """
    - name: New
      condition: event.do == "new"
      action:
        debug:
          msg: "new rule on {{ event.word }}"
"""


def edit(worker: WorkerProcess) -> None:
    """Add a rule to the worker's own copy, and wait until it is in force."""
    loads = len(worker.find(READY))
    with worker.rulebook.open("a", encoding="utf-8") as rulebook:
        rulebook.write(NEW_RULE)
    worker.wait_for("HOT-RELOAD! rules file changed", PATIENCE)
    worker.wait_for(READY, PATIENCE, count=loads + 1)


def test_hot_reload_leaves_the_election_alone(stage: Stage) -> None:
    leader, follower = stage.pair(
        STAGE.read_text("utf-8"), args=["--hot-reload"]
    )
    stage.say(leader, "before")

    edit(leader)
    stage.post("new", "leader")
    leader.wait_for("^new rule on leader$", PATIENCE)
    stage.say(leader, "after")
    edit(follower)
    for worker in (leader, follower):
        assert not worker.find("Lost leadership"), worker.tail()
    assert len(leader.acquired) == 1
    assert not follower.acquired

    stage.hold(leader, "last")
    told_at = leader.signal(signal.SIGTERM)
    leader.wait_for("received shutdown", PATIENCE, after=told_at)
    stage.let_go()
    assert leader.wait_exit(PATIENCE) == 0
    assert f"end {leader.worker_id} last" in stage.journal

    follower.wait_leads(PATIENCE, after=told_at)
    stage.post("new", "follower")
    follower.wait_for("^new rule on follower$", PATIENCE)
    follower.signal(signal.SIGTERM)
    assert follower.wait_exit(PATIENCE) == 0
