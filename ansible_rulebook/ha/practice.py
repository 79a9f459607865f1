"""A recovery for practice, so that a Java that stands by has done one.

Java takes several times as long for what it does for the first time, and a
standby's first recovery is the one that everybody waits for. So it does some
beforehand, with an engine of their own and the same rules, whose state is in
an H2 database, which drools_jpy brings along, in memory. Nothing of it
reaches the real engine or its tables.
"""

from __future__ import annotations

import json
import socket
import time
import uuid
from typing import Any, Iterable, Iterator

from .drools_state import ENGINE

AFTER = 2.0  # seconds that a worker has to follow before
ROUNDS = 5  # more gain little
CONNECTED_WITHIN = 5.0  # seconds, for the engine's channel
TRY_EVERY = 0.02  # seconds
IN_MEMORY = "memFS:"  # H2's name for it; Drools itself knows files only


def practise(rulesets: Iterable[str]) -> Iterator[None]:
    """Recover these rulesets, from nothing much, a few times.

    Each step blocks for some 0.1 s, and is to be done where nothing else
    makes sessions: Drools numbers those of all engines together, and never
    ends a recovery if two of one engine are 16 apart.

    :param rulesets: each as JSON.
    :raises RuntimeError: if Java cannot.
    :raises OSError: if the engine's channel cannot be connected to.
    """
    import jpy

    engine = jpy.get_type(ENGINE)()
    try:
        yield from _recover(engine, list(rulesets))
    finally:
        engine.shutdown()


def _recover(engine: Any, rulesets: list[str]) -> Iterator[None]:
    ha_uuid = str(uuid.uuid4())
    database = {"db_type": "h2", "db_file_path": IN_MEMORY + ha_uuid}
    engine.initializeHA(ha_uuid, "practice", json.dumps(database), "{}")
    yield
    with socket.create_connection(("localhost", engine.port())):
        sessions = [engine.createRuleset(each) for each in rulesets]
        yield
        _lead(engine)
        for session in sessions:
            event = {"meta": {"uuid": str(uuid.uuid4())}}
            engine.assertEvent(session, json.dumps(event))
        for _ in range(ROUNDS):
            yield
            engine.disableLeader()
            for session in sessions:
                engine.dispose(session)
            sessions = [engine.createRuleset(each) for each in rulesets]
            engine.enableLeader()


def _lead(engine: Any) -> None:
    """The engine's side of the channel comes up in a thread of its own."""
    give_up_at = time.monotonic() + CONNECTED_WITHIN
    while True:
        try:
            engine.enableLeader()
            return
        except RuntimeError:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(TRY_EVERY)
