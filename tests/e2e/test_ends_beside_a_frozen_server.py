"""One request is one switchover; an end while the server hangs."""

from __future__ import annotations

import signal
import time
import uuid
from pathlib import Path
from typing import Callable

import psycopg
import pytest
from e2e_support import FOLLOWING, PATIENCE, STATELESS, Stage, until
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess, wait_leader

from ansible_rulebook.ha.election.names import lock_key
from ansible_rulebook.ha.election.requests import Request, request_channel


def test_one_request_is_one_switchover(stage: Stage) -> None:
    workers = [stage.start(args=STATELESS) for _ in range(3)]
    leader = wait_leader(workers, PATIENCE)
    for each in workers:
        if each is not leader:
            each.wait_for(FOLLOWING, PATIENCE)
    channel = request_channel(lock_key(uuid.UUID(stage.ha_uuid)))
    others = [each for each in workers if each is not leader]
    with psycopg.connect(stage.dsn, autocommit=True) as asker:

        def ask(request: Request) -> None:
            asker.execute(
                "SELECT pg_notify(%s, %s)", (channel, request.payload())
            )

        ask(Request(by="me"))
        leader.wait_lost(PATIENCE)
        wait_leader(others, PATIENCE)

        def refused() -> bool:
            # Again and again: a new leader may not listen yet.
            ask(Request(to="nobody"))
            return any(each.find("Refused to hand over") for each in others)

        # What was asked of it before that would have been answered by then.
        until(refused, "a later request is answered")
    lost = stage.shown("Lost leadership|Successfully acquired")
    assert sum("Lost" in each for each in lost) == 1, lost


@pytest.mark.parametrize("args", [[], STATELESS], ids=["state", "stateless"])
def test_a_leader_ends_while_the_server_is_frozen(
    worker: Callable[..., WorkerProcess],
    embedded_factory: Callable[..., EmbeddedRig],
    ha_uuid: str,
    tmp_path: Path,
    args: list[str],
) -> None:
    server = embedded_factory({})
    stage = Stage(worker, server.create_database(), ha_uuid, tmp_path)
    leader = stage.start(args=[*args, "--shutdown-delay", "1"])
    stage.say(leader, "hello")
    server.freeze()
    try:
        leader.wait_lost(PATIENCE)
        began = time.monotonic()
        leader.signal(signal.SIGTERM)
        code = leader.wait_exit(60)
        took = time.monotonic() - began
    finally:
        server.thaw()
        print(leader.tail(60))
    assert (code, took < 10) == (0, True), (code, took)
