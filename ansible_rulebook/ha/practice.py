"""A recovery for practice, so that a Java that stands by has done one.

Java takes several times as long for what it does for the first time, and a
standby's first recovery is the one that everybody waits for. So it does some
beforehand, with an engine of their own and the same rules, whose state is in
an H2 database that drools_jpy brings along. Nothing of it reaches the real
engine or its tables.
"""

from __future__ import annotations

import json
import logging
import socket
import tempfile
import time
import uuid
from typing import Any, Iterable

from .drools_state import ENGINE, reason

logger = logging.getLogger(__name__)

AFTER = 2.0  # seconds that a worker has to follow before
ROUNDS = 5  # more gain little
CONNECTED_WITHIN = 5.0  # seconds, for the engine's channel
TRY_EVERY = 0.02  # seconds


def practise(rulesets: Iterable[str]) -> None:
    """Recover these rulesets, from nothing much, a few times.

    Blocks for about a second. A failure is of no consequence.

    :param rulesets: each as JSON.
    """
    import jpy

    begun = time.monotonic()
    engine = jpy.get_type(ENGINE)()
    try:
        with tempfile.TemporaryDirectory(prefix="eda-ha-") as folder:
            _recover(engine, list(rulesets), f"{folder}/practice")
    except (RuntimeError, OSError) as error:
        logger.debug("No practice: %s", reason(error))
    finally:
        engine.shutdown()
    logger.debug("Practised for %.2f s", time.monotonic() - begun)


def _recover(engine: Any, rulesets: list[str], path: str) -> None:
    database = json.dumps({"db_type": "h2", "db_file_path": path})
    engine.initializeHA(str(uuid.uuid4()), "practice", database, "{}")
    with socket.create_connection(("localhost", engine.port())):
        sessions = [engine.createRuleset(each) for each in rulesets]
        _lead(engine)
        for session in sessions:
            event = {"meta": {"uuid": str(uuid.uuid4())}}
            engine.assertEvent(session, json.dumps(event))
        for _ in range(ROUNDS):
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
