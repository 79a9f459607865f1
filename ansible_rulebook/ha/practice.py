"""A recovery for practice, so that a Java that stands by has done one.

Java takes several times as long for what it does for the first time, and a
standby's first recovery is the one that everybody waits for. So it does some
beforehand, in a second engine with the same rules, whose state is in an H2
database, which drools_jpy brings along, in memory. It has no event and no
setting of the real engine, and reaches no server.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
import uuid
from contextlib import suppress
from typing import Any, Generator, Sequence

from .drools_state import ENGINE

LOOK_EVERY = 2.0  # seconds, for whether a worker stands by
ROUNDS = 5  # more gain little
RULESETS = 3  # more need the same classes
CONNECTED_WITHIN = 50  # tries, for the engine's end of the channel
TRY_EVERY = 0.02  # seconds
WORKER = "practice of a standby, not the cluster"  # in Java's log lines
IN_MEMORY = "memFS:"  # H2's name for it; Drools itself knows files only
FILE = ".mv.db"
FILES = "org.h2.store.fs.FileUtils"
# With --verbose H2's part would warn that it is "not suitable".
LOG = (
    "org.slf4j.simpleLogger.log.org.drools.ansible.rulebook.integration.ha.h2",
    "error",
)

logger = logging.getLogger(__name__)


def practise(rulesets: Sequence[str]) -> Generator[None, None, None]:
    """Recover some of these rulesets, from nothing much, a few times.

    A step does one thing with one session, or recovers all of them, which
    takes a warm Java some 0.1 s. Steps are to be done where nothing else
    makes sessions: Drools numbers those of all engines together, and never
    ends a recovery if two of one engine are 16 apart.

    :param rulesets: each as JSON.
    :raises RuntimeError: if Java cannot.
    :raises OSError: if the engine's channel cannot be connected to.
    """
    if not rulesets:
        return
    import jpy

    logger.debug("Practising a recovery")
    path = f"{IN_MEMORY}{uuid.uuid4()}"
    jpy.get_type("java.lang.System").setProperty(*LOG)
    engine = jpy.get_type(ENGINE)()
    try:
        yield from _recover(engine, rulesets[:RULESETS], path)
        logger.debug("Practised a recovery")
    finally:
        threading.Thread(
            target=_end,
            args=(engine, path),
            name="ha-practice-end",
            daemon=True,
        ).start()


def _recover(
    engine: Any, rulesets: Sequence[str], path: str
) -> Generator[None, None, None]:
    database = {"db_type": "h2", "db_file_path": path}
    engine.initializeHA(
        str(uuid.uuid4()), WORKER, json.dumps(database), json.dumps({})
    )
    yield
    with socket.create_connection(("localhost", engine.port())) as channel:
        channel.setblocking(False)
        sessions = []
        for each in rulesets:
            sessions.append(engine.createRuleset(each))
            yield
        yield from _lead(engine)
        for session in sessions:
            event = {"meta": {"uuid": str(uuid.uuid4())}}
            engine.assertEvent(session, json.dumps(event))
            yield
        for _ in range(ROUNDS):
            engine.disableLeader()
            for number, each in enumerate(rulesets):
                engine.dispose(sessions[number])
                sessions[number] = engine.createRuleset(each)
                yield
            engine.enableLeader()
            _empty(channel)
            yield


def _lead(engine: Any) -> Generator[None, None, None]:
    """The engine's end of the channel comes up in a thread of its own."""
    for tries_left in reversed(range(CONNECTED_WITHIN)):
        try:
            engine.enableLeader()
            return
        except RuntimeError:
            if not tries_left:
                raise
        time.sleep(TRY_EVERY)
        yield


def _empty(channel: socket.socket) -> None:
    """Rules that match without an event write there each time."""
    with suppress(BlockingIOError):
        while channel.recv(65536):
            pass


def _end(engine: Any, path: str) -> None:
    import jpy

    try:
        engine.shutdown()
        jpy.get_type(FILES).tryDelete(path + FILE)
    except RuntimeError as error:
        logger.debug("The practice has left something behind: %s", error)
