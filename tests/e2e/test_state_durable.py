"""Nothing follows from what is not durable yet.

The server's process that writes for the worker is stopped, so that what the
worker wrote has no answer. Its death is then the server's crash. One worker,
so that it is this one that leads again.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Callable

from e2e_support import (
    LEASE,
    PATIENCE,
    RULEBOOKS,
    STILL,
    Stage,
    needs_state,
    settled,
    until,
)
from outage import OUTAGE, has_run, numbers
from rig.server import EmbeddedRig, Server
from rig.workers import LOST, WorkerProcess

pytestmark = needs_state

STATE = RULEBOOKS / "state.yml"
# The journal may take a sixth of it, and there is much to look at.
LONG_LEASE = 20 * LEASE
# Without the source that goes on without feedback, and would fill the gate.
RULEBOOK = re.sub(r" +- outage_ticks:(\n {8}.*)+", "", OUTAGE)


def writer(server: EmbeddedRig | Server, stage: Stage) -> int:
    """The server's process that writes for the leader."""
    ((writer,),) = server.query(
        "SELECT writer_pid FROM eda_ha_cluster", dsn=stage.dsn
    )
    return int(writer)


def test_nothing_follows_from_an_event_before_it_is_durable(
    worker: Callable[..., WorkerProcess],
    embedded_factory: Callable[..., EmbeddedRig],
    ha_uuid: str,
    tmp_path: Path,
) -> None:
    server = embedded_factory({})
    stage = Stage(worker, server.create_database(), ha_uuid, tmp_path)
    acknowledged = stage.inbox / "acknowledged"
    acknowledged.touch()
    leader = stage.start(RULEBOOK, lease_duration=LONG_LEASE)
    stage.say(leader, "hello")
    until(lambda: len(numbers(acknowledged)) > 5, "the broker is heard")
    stage.post("open", "box")
    stage.say(leader, "then")

    (stage.inbox / "stop").touch()
    so_far = settled(lambda: numbers(acknowledged))
    ran = has_run(leader, "broker")
    stopped = writer(server, stage)
    os.kill(stopped, signal.SIGSTOP)
    stage.post("say", "precious")
    (stage.inbox / "stop").unlink()
    time.sleep(2 * STILL)
    assert not leader.find("^says precious$")
    assert numbers(acknowledged) == so_far
    assert has_run(leader, "broker") == ran
    assert not leader.find(LOST)

    os.kill(stopped, signal.SIGKILL)
    lost_at = leader.wait_lost(PATIENCE).at
    leader.wait_leads(PATIENCE, after=lost_at)
    leader.wait_for("^says precious$", PATIENCE)
    stage.post("close", "box")
    leader.wait_for("^open and close box$", PATIENCE)
    until(lambda: len(numbers(acknowledged)) > len(so_far) + 9, "it goes on")
    (stage.inbox / "stop").touch()
    sent = set(settled(lambda: numbers(acknowledged)))
    until(lambda: sent <= has_run(leader, "broker"), "all events have run")
    assert len(leader.find("^says precious$")) == 1
    assert len(leader.find("^open and close")) == 1
    assert leader.stop(PATIENCE) == 0


def test_an_action_waits_for_the_record_of_the_one_before(
    stage: Stage, server: Server
) -> None:
    leader = stage.start(STATE, lease_duration=LONG_LEASE)
    stage.post("steps", "on")
    stage.wait_journal(f"begin {leader.worker_id} on")
    stopped = writer(server, stage)
    os.kill(stopped, signal.SIGSTOP)
    try:
        stage.let_go()
        stage.wait_journal(f"end {leader.worker_id} on")
        time.sleep(2 * STILL)
        assert not leader.find("^step three")
        assert not leader.find(LOST)
    finally:
        os.kill(stopped, signal.SIGCONT)
    leader.wait_for("^step three of on$", PATIENCE)
    assert leader.stop(PATIENCE) == 0


def test_a_worker_that_drains_does_not_wait_for_a_match_that_is_lost(
    stage: Stage, server: Server
) -> None:
    leader = stage.start(
        STATE,
        args=["--shutdown-delay", str(10 * PATIENCE)],
        lease_duration=LONG_LEASE,
    )
    stage.say(leader, "hello")
    stopped = writer(server, stage)
    os.kill(stopped, signal.SIGSTOP)
    try:
        stage.post("say", "precious")
        until(lambda: not list(stage.inbox.glob("*.json")), "it is taken in")
        leader.signal(signal.SIGTERM)
        leader.wait_for("received shutdown", PATIENCE)
        assert leader.wait_exit(PATIENCE) == 0
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert not leader.find("^says precious$")


def test_who_led_last_leads_a_server_that_comes_back_at_once(
    worker: Callable[..., WorkerProcess],
    embedded_factory: Callable[..., EmbeddedRig],
    ha_uuid: str,
    tmp_path: Path,
) -> None:
    server = embedded_factory({})
    stage = Stage(worker, server.create_database(), ha_uuid, tmp_path)
    # Whoever stood back would do so for longer than this test waits.
    first, second = stage.pair(STATE, lease_duration=3 * PATIENCE)
    stage.say(first, "hello")
    at = time.monotonic()
    server.restart("immediate")
    first.wait_leads(PATIENCE, after=at)
    second.wait_for("Lock delay", PATIENCE, after=at)
    stage.say(first, "again")
    assert not first.find("Lock delay")
    assert not second.acquired
    for each in (first, second):
        assert each.stop(PATIENCE) == 0
