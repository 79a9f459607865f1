"""A worker that is told to end does so in order, and then another leads."""

from __future__ import annotations

import signal
import time

from e2e_support import (
    FOLLOWING,
    PATIENCE,
    STATELESS,
    Stage,
    carriers,
    until,
)
from rig.server import Server
from rig.workers import WorkerProcess

AGAIN = 0.3  # seconds; what comes at once may be the same Ctrl-C


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
