"""The state's own session with PostgreSQL: rights, schema, fence, records."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import threading
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Iterator

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.sql import Identifier

from . import state_sql as sql
from .conninfo import Conninfo
from .errors import (
    HaError,
    LeadershipLost,
    ServerUnavailable,
    StateFenced,
    StateRefused,
)
from .lease import Timings

logger = logging.getLogger(__name__)

CLAIM_PATIENCE = 0.25  # seconds for writes under way, before they are ended
CLAIM_TRIES = 50
DDL_PATIENCE = 10.0  # seconds to wait for a table that is in use
LONGEST_CONNECT = 5  # seconds


@dataclass(frozen=True)
class Survey:
    """What a role finds in the database, and what it may do there."""

    schema: str | None
    may_create: bool
    may_use_temporary: bool
    search_path: str
    role: str
    database: str
    has_terms: bool
    missing_tables: tuple[str, ...] = ()
    unfenced_tables: tuple[str, ...] = ()
    lacking: tuple[str, ...] = field(default=())

    @property
    def is_complete(self) -> bool:
        """Tables and fence are there."""
        return (
            self.has_terms
            and not self.missing_tables
            and not self.unfenced_tables
        )

    def obstacle(self) -> str | None:
        """Why this role cannot keep state here, or None if it can."""
        if not self.may_use_temporary:
            return (
                f"role {self.role} lacks TEMPORARY on database {self.database}"
            )
        if self.is_complete:
            if self.lacking:
                return f"role {self.role} lacks {', '.join(self.lacking)}"
            return None
        if self.schema is None:
            return (
                f"role {self.role} lacks USAGE on the schemas of its "
                f"search_path ({self.search_path}), or none of them exists"
            )
        if not self.may_create:
            return (
                f"role {self.role} lacks CREATE on schema {self.schema}, and "
                "the tables are not there; let their owner run "
                "'ansible-rulebook-ha init-db'"
            )
        return None


@dataclass(frozen=True)
class Claim:
    """What a worker learns with the term that it has claimed."""

    number: int
    """Rises with each claim of any worker: a fencing token."""
    primed: dict[str, str]
    """Which rulesets have had their gathered facts, and of which text."""
    last_writer: str
    """Who claimed the term before; empty if nobody did."""


class StateDatabase:
    """One session for one statement at a time; opened anew when lost.

    :param conninfo: where the server is.
    :param ha_uuid: whose state.
    :param writer: the ``application_name`` that the fence knows this
        process by; the engine's sessions have the same.
    :param worker_id: for people who look into the table of terms.
    :param timings: the time limits are made from the lease.
    """

    def __init__(
        self,
        conninfo: Conninfo,
        ha_uuid: uuid.UUID,
        writer: str,
        worker_id: str,
        timings: Timings,
    ) -> None:
        self._conninfo = conninfo
        self._writer = writer
        self._names = {
            "ha_uuid": str(ha_uuid),
            "writer": writer,
            "worker_id": worker_id,
        }
        self._timings = timings
        self._connection: Connection[Any] | None = None
        self._turn = threading.RLock()

    # -- before the first term -------------------------------------------

    def survey(self) -> Survey:
        """Look at what is there.

        :raises ServerUnavailable: if the server cannot be asked now.
        """
        tables = list(sql.DROOLS_TABLES)
        with self._transaction() as connection:
            row = connection.execute(
                sql.SURVEY,
                {"tables": tables, "fenced": list(sql.FENCED_TABLES)},
            ).fetchone()
            assert row is not None
            lacking: list[str] = []
            if row[4] and not row[5]:
                lacking = self._lacking(connection)
        return Survey(
            schema=row[0],
            may_use_temporary=row[1],
            may_create=row[2],
            search_path=row[3],
            has_terms=row[4],
            missing_tables=tuple(row[5] or ()),
            unfenced_tables=tuple(row[6] or ()),
            lacking=tuple(lacking),
            role=row[7],
            database=row[8],
        )

    def create(self, create_tables: Callable[[], None]) -> None:
        """Create what is missing. Several workers may try at once.

        :param create_tables: creates Drools' own tables, in sessions of its
            own.
        :raises StateRefused: if the role may not.
        :raises ServerUnavailable: if the server cannot be asked now.
        """
        if self.survey().missing_tables:
            create_tables()
        with self._transaction() as connection:
            milliseconds = int(DDL_PATIENCE * 1000)
            connection.execute(f"SET LOCAL lock_timeout = {milliseconds}")
            connection.execute(sql.LOCK_SCHEMA)
            # Where the tables are, whatever the search_path of a writer is.
            row = connection.execute(sql.SCHEMA).fetchone()
            assert row is not None
            schema = Identifier(row[0]).as_string(connection)
            connection.execute(sql.CREATE_FENCE.format(schema=schema))
            for (table,) in connection.execute(
                sql.UNFENCED, {"fenced": list(sql.FENCED_TABLES)}
            ).fetchall():
                connection.execute(
                    sql.CREATE_TRIGGER.format(schema=schema, table=table)
                )

    @staticmethod
    def _lacking(connection: Connection[Any]) -> list[str]:
        wanted = [
            (table, privilege)
            for table, privileges in sql.PRIVILEGES.items()
            for privilege in privileges
        ]
        rows = connection.execute(
            sql.LACKING,
            {
                "tables": [table for table, _ in wanted],
                "privileges": [privilege for _, privilege in wanted],
            },
        )
        return [name for (name,) in rows]

    # -- terms -----------------------------------------------------------

    def claim(self, key: int, holder: int) -> Claim:
        """Begin a term: from here on nobody else's writes are let in.

        :param key: of the advisory lock that makes a leader.
        :param holder: process id of the server session that holds it.
        :raises LeadershipLost: if that session does not hold the lock.
        :raises ServerUnavailable: if the server cannot be asked now.
        """
        bits = key % 2**64
        wanted = {
            **self._names,
            "holder": holder,
            "high": bits >> 32,
            "low": bits & 0xFFFFFFFF,
        }
        for _ in range(CLAIM_TRIES):
            try:
                return self._claim(wanted)
            except _RowInUse:
                logger.warning(
                    "A write of an earlier leader is still under way: "
                    "ending its sessions"
                )
            self._end_writers()
        raise ServerUnavailable("somebody keeps the row of the term locked")

    def _claim(self, wanted: dict[str, Any]) -> Claim:
        with self._transaction() as connection:
            patience = int(CLAIM_PATIENCE * 1000)
            connection.execute(f"SET LOCAL lock_timeout = {patience}")
            connection.execute(sql.FIRST_TERM, wanted)
            last = connection.execute(sql.LOCK_TERM, wanted).fetchone()
            row = connection.execute(sql.CLAIM_TERM, wanted).fetchone()
        if row is None:
            raise LeadershipLost("the lock was gone before the term began")
        assert last is not None
        return Claim(int(row[0]), dict(row[1]), str(last[0]))

    def _end_writers(self) -> None:
        # Those of another role have to end by themselves.
        with suppress(StateRefused), self._transaction() as connection:
            connection.execute(sql.END_WRITERS, self._names)

    def set_primed(self, primed: dict[str, str]) -> None:
        """Remember which rulesets have had their gathered facts.

        :raises ServerUnavailable: if that could not be stored.
        """
        with self._transaction() as connection:
            connection.execute(
                sql.SET_PRIMED, {**self._names, "primed": json.dumps(primed)}
            )

    # -- records ---------------------------------------------------------

    def delete_matches(
        self, uuids: Iterable[str], signatures: Iterable[str] = ()
    ) -> None:
        """Record that all actions of these matches have run.

        :param signatures: of the time windows among them.
        :raises StateFenced: if another worker leads.
        :raises ServerUnavailable: if that could not be stored.
        """
        values = {**self._names, "uuids": list(uuids)}
        fired = list(signatures)
        with self._statement() as connection:
            if fired:
                values["signatures"] = fired
                connection.execute(sql.DELETE_FIRED, values)
            else:
                connection.execute(sql.DELETE_MATCHES, values)

    def fired(self) -> set[str]:
        """The time windows whose actions have run, in any term.

        :raises ServerUnavailable: if the server cannot be asked now.
        """
        with self._transaction() as connection:
            connection.execute(sql.FORGET_FIRED, self._names)
            rows = connection.execute(sql.FIRED, self._names).fetchall()
        return {str(signature) for (signature,) in rows}

    def progress(self) -> set[tuple[str, int]]:
        """Which actions of pending matches have a record.

        :raises ServerUnavailable: if the server cannot be asked now.
        """
        with self._transaction() as connection:
            rows = connection.execute(sql.PROGRESS, self._names).fetchall()
        return {(match, index) for match, index in rows}

    def session_shas(self) -> dict[str, str]:
        """Each ruleset's checksum of its state, as stored.

        :raises ServerUnavailable: if the server cannot be asked now.
        """
        with self._transaction() as connection:
            rows = connection.execute(sql.SESSION_SHAS, self._names)
            return {str(name): str(sha) for name, sha in rows}

    def set_session_sha(self, name: str, sha: str) -> None:
        """Store another checksum for a ruleset's state.

        :raises StateFenced: if another worker leads.
        :raises ServerUnavailable: if that could not be stored.
        """
        with self._transaction() as connection:
            connection.execute(
                sql.SET_SESSION_SHA, {**self._names, "name": name, "sha": sha}
            )

    # -- the session -----------------------------------------------------

    def abort(self) -> None:
        """Shut the socket down, so that whoever waits on it wakes up.

        For another thread: a frozen server answers nothing, and no time
        limit of TCP notices, since its kernel still does.
        """
        connection = self._connection
        if connection is None:
            return
        with suppress(psycopg.Error, OSError):
            copy = os.dup(connection.fileno())
            with socket.socket(fileno=copy) as wire:
                wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the session."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()

    @contextmanager
    def _statement(self) -> Iterator[Connection[Any]]:
        """The session, for one statement that commits itself."""
        try:
            with self._turn:
                yield self._open()
        except psycopg.Error as error:
            raise self._classified(error) from None

    @contextmanager
    def _transaction(self) -> Iterator[Connection[Any]]:
        with self._statement() as connection, connection.transaction():
            yield connection

    def _open(self) -> Connection[Any]:
        if self._connection is not None and _has_news(self._connection):
            self.close()  # unasked for, it can only be the last word
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def connect(self) -> Connection[Any]:
        """Another session of the same kind, for who asks.

        :raises ServerUnavailable: if it cannot be had now.
        """
        try:
            return self._connect()
        except psycopg.Error as error:
            raise self._classified(error) from None

    def _connect(self) -> Connection[Any]:
        return psycopg.connect(
            make_conninfo("", **self._conninfo.merged(**self._options())),
            autocommit=True,
            prepare_threshold=None,
        )

    def _options(self) -> dict[str, Any]:
        limit = self._timings.demote_within
        ours: dict[str, Any] = {
            "application_name": self._writer,
            "connect_timeout": min(max(int(limit / 2), 2), LONGEST_CONNECT),
            "tcp_user_timeout": max(int(limit * 1000), 1000),
            "keepalives_idle": max(1, int(limit)),
            "keepalives_interval": 1,
            "keepalives_count": 3,
        }
        if not self._conninfo.get("target_session_attrs"):
            ours["target_session_attrs"] = "read-write"
        return ours

    def _classified(self, error: psycopg.Error) -> HaError:
        text = self._conninfo.redact(str(error))
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return _RowInUse(text)
        if error.sqlstate == sql.FENCED:
            return StateFenced(text)
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return StateRefused(text)
        # What was under way is unknown: begin with a new session.
        self.close()
        if isinstance(
            error, (psycopg.OperationalError, psycopg.InterfaceError)
        ):
            return ServerUnavailable(text)
        return HaError(text)


class _RowInUse(ServerUnavailable):
    """Somebody else's transaction took too long; trying again may help."""


def _has_news(connection: Connection[Any]) -> bool:
    """Whether the server said something, or hung up, since the last use."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (psycopg.Error, OSError):
        return True
