"""A server that crashes with commits that it had not written to its disk.

The server's process that flushes for the worker is stopped, so that these
commits are seen by everybody and are on no disk. Its death is then the
server's crash. One worker, so that it is this one that leads again.
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
from rig.server import EmbeddedRig, Server
from rig.workers import LOST, WorkerProcess
from test_state_outage import OUTAGE, QUICK, has_run, numbers

pytestmark = needs_state

STATE = RULEBOOKS / "state.yml"
# The flush may take a sixth of it, and there is much to look at.
LONG_LEASE = 20 * LEASE
LAZY = {"wal_writer_delay": "10s", "autovacuum": "off"}
FLUSHING = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE application_name LIKE 'eda-state:%%'"
    " AND query LIKE '%%pg_logical_emit_message%%'"
    " AND datname = current_database() AND pid <> pg_backend_pid()"
)
STORED = (
    "SELECT count(*) FROM eda_ha_match"
    " WHERE body LIKE %s"
)
RECORDS = "SELECT count(*) FROM eda_ha_action"
# Without the source that goes on without feedback, and would fill the gate.
RULEBOOK = re.sub(r" +- outage_ticks:(\n {8}.*)+", "", OUTAGE)


def is_stored(server: EmbeddedRig, stage: Stage, text: str) -> bool:
    ((count,),) = server.query(STORED, (f"%{text}%",), dsn=stage.dsn)
    return bool(count)


def test_nothing_follows_from_a_commit_before_it_is_on_the_disk(
    worker: Callable[..., WorkerProcess],
    embedded_factory: Callable[..., EmbeddedRig],
    ha_uuid: str,
    tmp_path: Path,
) -> None:
    server = embedded_factory(LAZY)
    stage = Stage(worker, server.create_database(), ha_uuid, tmp_path)
    acknowledged = stage.inbox / "acknowledged"
    acknowledged.touch()
    leader = stage.start(RULEBOOK, lease_duration=LONG_LEASE, env=QUICK)
    stage.say(leader, "hello")
    until(lambda: len(numbers(acknowledged)) > 5, "the broker is heard")
    stage.post("open", "box")
    stage.say(leader, "then")

    # An event with feedback in hand would keep the other one out.
    (stage.inbox / "stop").touch()
    so_far = settled(lambda: numbers(acknowledged))
    ran = has_run(leader, "broker")
    ((flushing,),) = server.query(FLUSHING, dsn=stage.dsn)
    os.kill(flushing, signal.SIGSTOP)
    stage.post("say", "precious")
    until(lambda: is_stored(server, stage, "precious"), "all can see it")
    (stage.inbox / "stop").unlink()
    until(lambda: is_stored(server, stage, "broker"), "all can see that too")
    time.sleep(STILL)
    assert not leader.find("^says precious$")
    assert numbers(acknowledged) == so_far
    assert has_run(leader, "broker") == ran
    assert not leader.find(LOST)

    os.kill(flushing, signal.SIGKILL)
    lost_at = leader.wait_lost(PATIENCE).at
    # If it has given the lock back before the server told of the crash,
    # another one might have led since, so it stands back for a lease.
    leader.wait_leads(LONG_LEASE + PATIENCE, after=lost_at)
    leader.wait_for("^says precious$", PATIENCE)
    stage.post("close", "box")
    leader.wait_for("^open and close box$", PATIENCE)
    until(lambda: len(numbers(acknowledged)) > len(so_far) + 9, "it goes on")
    (stage.inbox / "stop").touch()
    sent = set(settled(lambda: numbers(acknowledged)))
    until(lambda: sent <= has_run(leader, "broker"), "all events have run")
    assert len(leader.find("^says precious$")) == 1
    assert len(leader.find("^open and close")) == 1
    assert not leader.find("checksum")
    assert leader.stop(PATIENCE) == 0


def test_an_action_waits_for_the_record_of_the_one_before(
    stage: Stage, server: Server
) -> None:
    leader = stage.start(STATE, lease_duration=LONG_LEASE, env=QUICK)
    stage.post("steps", "on")
    stage.wait_journal(f"begin {leader.worker_id} on")
    ((records,),) = server.query(RECORDS, dsn=stage.dsn)
    ((flushing,),) = server.query(FLUSHING, dsn=stage.dsn)
    os.kill(flushing, signal.SIGSTOP)
    try:
        stage.let_go()
        until(
            lambda: server.query(RECORDS, dsn=stage.dsn) == [(records + 1,)],
            "all can see the record",
        )
        time.sleep(STILL)
        assert not leader.find("^step three")
        assert not leader.find(LOST)
    finally:
        os.kill(flushing, signal.SIGCONT)
    leader.wait_for("^step three of on$", PATIENCE)
    assert leader.stop(PATIENCE) == 0


def test_a_worker_that_drains_does_not_wait_for_a_match_that_is_lost(
    stage: Stage, server: Server
) -> None:
    leader = stage.start(
        STATE,
        args=["--shutdown-delay", str(10 * PATIENCE)],
        lease_duration=LONG_LEASE,
        env=QUICK,
    )
    stage.say(leader, "hello")
    ((flushing,),) = server.query(FLUSHING, dsn=stage.dsn)
    os.kill(flushing, signal.SIGSTOP)
    try:
        stage.post("say", "precious")
        until(lambda: is_stored(server, stage, "precious"), "all can see it")
        leader.signal(signal.SIGTERM)
        leader.wait_for("received shutdown", PATIENCE)
        assert leader.wait_exit(PATIENCE) == 0
    finally:
        os.kill(flushing, signal.SIGCONT)
    assert not leader.find("^says precious$")
