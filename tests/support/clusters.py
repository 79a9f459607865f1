"""Clusters in a test's database: their locks, workers and journals."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import psycopg
from psycopg.conninfo import make_conninfo

from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.names import lock_key
from ansible_rulebook.ha.engine.bridge import Answer, Record
from ansible_rulebook.ha.errors import HaError
from ansible_rulebook.ha.state import schema, sql
from ansible_rulebook.ha.state.journal import Journal, Mark
from ansible_rulebook.ha.state.names import stored
from ansible_rulebook.ha.state.session import StateSession
from ansible_rulebook.ha.state.terms import Claim, Terms

LIMIT = 60.0  # seconds; what takes longer than that has failed
LOOK_EVERY = 0.005  # seconds
RULESET = "rules"

Session = psycopg.Connection[Any]


def create_tables(dsn: str) -> None:
    """As a worker does it whose role may."""
    with contextlib.closing(state_session(dsn)) as session:
        schema.create(session)


def state_session(dsn: str, name: str = "test") -> StateSession:
    return StateSession(Conninfo(dsn), name, Timings())


class Cluster:
    """One UUID. Its sessions end with the stack."""

    def __init__(self, dsn: str, stack: contextlib.ExitStack) -> None:
        self.dsn = dsn
        self.uuid = uuid.uuid4()
        self.key = lock_key(self.uuid)
        self.stack = stack

    def session(self, name: str = "somebody") -> Session:
        """Anybody's session, which is no writer of a term."""
        dsn = make_conninfo(self.dsn, application_name=name)
        session = self.stack.enter_context(
            contextlib.closing(psycopg.connect(dsn, autocommit=True))
        )
        session.execute(f"SET statement_timeout = '{LIMIT}s'")
        return session

    @contextlib.contextmanager
    def holder(self) -> Iterator[int]:
        """A session that holds the cluster's lock; its process id."""
        session = self.session("lock")
        session.execute("SELECT pg_advisory_lock(%s)", (self.key,))
        try:
            yield session.info.backend_pid
        finally:
            # The server notices later that a session was closed.
            session.execute("SELECT pg_advisory_unlock_all()")
            session.close()

    def worker(self, name: str, dsn: str | None = None) -> Worker:
        return Worker(self, name, dsn or self.dsn)

    def claim(self, name: str) -> Claim:
        """Have this worker begin a term."""
        return self.worker(name).claim()

    def query(self, statement: str, **values: object) -> list[Any]:
        """What a session of its own finds; ``ha_uuid`` is this cluster."""
        names = {"ha_uuid": self.uuid, **values}
        with contextlib.closing(self.session()) as session:
            cursor = session.execute(statement, names)
            return cursor.fetchall() if cursor.description else []

    def numbers(self) -> list[int]:
        """The records that are stored, by their numbers."""
        found = self.query(
            f"SELECT number FROM {sql.RECORD} WHERE ha_uuid = %(ha_uuid)s"
            " ORDER BY number"
        )
        return [number for (number,) in found]

    def marks(self) -> list[int]:
        """The transactions that are remembered."""
        found = self.query(
            f"SELECT mark FROM {sql.COMMIT} WHERE ha_uuid = %(ha_uuid)s"
            " ORDER BY mark"
        )
        return [mark for (mark,) in found]

    def waiting(self, what: str = "%") -> list[int]:
        """The sessions that wait for such a lock."""
        found = self.query(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND wait_event LIKE %(what)s",
            what=what,
        )
        return [pid for (pid,) in found]

    @contextlib.contextmanager
    def held(self, table: str = sql.RECORD) -> Iterator[Session]:
        """Nobody can use a table as long as this lasts."""
        session = self.session()
        with session.transaction():
            session.execute(f"LOCK TABLE {table}")
            yield session


class Worker:
    """One worker's share of the state, with a session of its own."""

    def __init__(self, cluster: Cluster, name: str, dsn: str) -> None:
        self.cluster = cluster
        self.session = cluster.stack.enter_context(
            contextlib.closing(state_session(dsn, f"state-{name}"))
        )
        self.terms = Terms(
            self.session, str(cluster.uuid), stored(name), cluster.key
        )

    def claim(self, ended: Sequence[int] = ()) -> Claim:
        """Begin a term, as who holds the lock."""
        with self.cluster.holder() as holder:
            return self.terms.claim(holder, ended)

    def writer(self) -> Session:
        """The session of the term, to be misused."""
        return self.cluster.stack.enter_context(
            contextlib.closing(self.session.take())
        )


class Leader:
    """A worker with a term of its own, and the journal of that."""

    def __init__(
        self, worker: Worker, limit: float = LIMIT, ended: Sequence[int] = ()
    ) -> None:
        self.cluster = worker.cluster
        self.worker = worker
        self.failures: list[HaError] = []
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.tries = 0  # to get another session
        self.claim = worker.claim(ended)
        connection = worker.session.take()
        self.backend = connection.info.backend_pid
        self.journal = Journal(
            str(self.cluster.uuid),
            self.claim.term,
            self.claim.mark,
            connection,
            self._reconnect,
            limit,
            self.failures.append,
        )
        self.cluster.stack.callback(self.end)

    async def _reconnect(self) -> Session:
        self.tries += 1
        await self.may_connect.wait()
        reopen = self.worker.terms.reopen
        connection = await asyncio.to_thread(reopen, self.claim.term)
        self.backend = connection.info.backend_pid
        return connection

    def write(self, *numbers: int, text: str = "{}") -> Mark:
        """Store records with these numbers."""
        kept = [Record(number, "E", 0, -1, text) for number in numbers]
        self.journal.changes.answer(RULESET, Answer(kept=kept))
        return self.journal.wrote()

    def end(self) -> None:
        connection = self.journal.end()
        if connection is not None:
            connection.close()


async def is_durable(mark: Mark) -> bool:
    return await asyncio.wait_for(mark.is_durable(), LIMIT)


async def until(what: Callable[[], Any], why: str) -> Any:
    """Wait for a state, and let the loop go on."""
    deadline = time.monotonic() + LIMIT
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, why
        await asyncio.sleep(LOOK_EVERY)


def wait_until(what: Callable[[], Any], why: str) -> Any:
    """The same where there is no loop."""
    deadline = time.monotonic() + LIMIT
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, why
        time.sleep(LOOK_EVERY)
