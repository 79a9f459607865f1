"""Sessions that PostgreSQL shows as it shows those of workers."""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from rig.server import Server

from ansible_rulebook.ha.election.beacon import Beacon
from ansible_rulebook.ha.election.names import application_name, lock_key

_numbers = itertools.count(1)


class Shown:
    """A cluster. Its sessions end with the stack."""

    def __init__(
        self, server: Server, dsn: str, stack: contextlib.ExitStack
    ) -> None:
        self.server = server
        self.dsn = dsn
        self.uuid = uuid.uuid4()
        self.key = lock_key(self.uuid)
        self._stack = stack

    def leader(
        self, name: str = "w1", beacon: Beacon | None = None
    ) -> psycopg.Connection[object]:
        """A session that holds the lock and has renewed once."""
        session = self.session(name)
        self.hold(session)
        if beacon is None:
            beacon = said(name, role="leader", state="leading", term=7)
        session.execute(f"{beacon.text()} SELECT 1")
        return session

    def follower(
        self, name: str = "w2", beacon: Beacon | None = None
    ) -> psycopg.Connection[object]:
        """A session that waits for the lock."""
        session = self.session(name)
        self.wait(session, (beacon or said(name)).text())
        return session

    def session(
        self, name: str, kind: str = "eda-ha", process: str = ""
    ) -> psycopg.Connection[object]:
        """A session with a worker's name."""
        process = process or f"{next(_numbers):08x}"
        shown = application_name(self.key, name, process, kind)
        return self.named(shown)

    def named(
        self, name: str, dsn: str | None = None
    ) -> psycopg.Connection[object]:
        """A session with any name."""
        where = make_conninfo(dsn or self.dsn, application_name=name)
        session = psycopg.connect(where, autocommit=True)
        self._stack.callback(session.pgconn.finish)
        return session

    def hold(self, session: psycopg.Connection[object]) -> None:
        session.execute("SELECT pg_advisory_lock(%s)", (self.key,))

    def wait(
        self, session: psycopg.Connection[object], head: str = ""
    ) -> None:
        """Queue for the lock, without waiting here."""
        statement = f"DO $$ BEGIN PERFORM pg_advisory_lock({self.key}); END $$"
        session.pgconn.send_query(f"{head} {statement}".encode())
        pid = session.info.backend_pid
        deadline = time.monotonic() + 30
        while not self.server.query(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s", (pid,)
        ):
            assert time.monotonic() < deadline, "it does not wait"


def said(worker: str, **values: Any) -> Beacon:
    """What a follower says of itself."""
    beacon = Beacon(
        version="0.1.0",
        worker=worker,
        role="follower",
        state="contending",
        since=1790000000.0,
        host="host-of-" + worker,
        pid=4711,
        http="10.0.0.1:8080",
        lease=15.0,
    )
    return beacon._replace(**values)
