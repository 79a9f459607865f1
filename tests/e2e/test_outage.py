"""The server goes away, for leader, follower and newcomer."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Callable

from e2e_support import PATIENCE, STATELESS, Stage
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess, wait_leader

OUTAGE = "No session with PostgreSQL"


def test_workers_follow_through_an_outage_and_lead_after_it(
    worker: Callable[..., WorkerProcess],
    embedded_server: EmbeddedRig,
    ha_uuid: str,
    tmp_path: Path,
) -> None:
    stage = Stage(worker, embedded_server.dsn, ha_uuid, tmp_path)
    # Without state an action that was not recorded does not run again.
    leader, follower = stage.pair(args=STATELESS)
    stage.say(leader, "before")

    embedded_server.stop()
    lost_at = leader.wait_lost(PATIENCE).at
    stage.post("say", "during")
    # A worker that starts now, of another cluster, with an inbox of its own.
    other = Stage(worker, stage.dsn, str(uuid.uuid4()), tmp_path / "other")
    newcomer = other.start(name="newcomer", args=STATELESS)
    for each in (leader, follower, newcomer):
        each.wait_for(OUTAGE, PATIENCE)
    newcomer.wait_for("Waiting for events", PATIENCE)
    assert len(list(stage.inbox.glob("*.json"))) == 1, "somebody took it"

    embedded_server.start()
    chosen = wait_leader([leader, follower], PATIENCE, after=lost_at)
    chosen.wait_for("^says during$", PATIENCE)
    stage.say(chosen, "after")
    newcomer.wait_leads(PATIENCE, after=lost_at)
    other.say(newcomer, "hello")
    for each in (leader, follower, newcomer):
        each.wait_for("Reconnected", PATIENCE)
        assert len(each.find(OUTAGE)) == 1, each.tail()
    said = [*leader.find("^says"), *follower.find("^says")]
    assert sorted(line.text for line in said) == [
        "says after",
        "says before",
        "says during",
    ]

    # Without a server, a worker ends as well as ever.
    embedded_server.stop()
    newcomer.wait_lost(PATIENCE)
    for each in (newcomer, leader, follower):
        assert each.stop(PATIENCE) == 0
