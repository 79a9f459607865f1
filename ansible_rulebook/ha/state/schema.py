"""The state's tables: finds out what is there, and makes them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection
from psycopg.pq import ExecStatus, Format
from psycopg.rows import namedtuple_row
from psycopg.sql import Identifier

from ..engine.bridge import Answer, Record
from ..errors import StateRefused
from ..redaction import one_line
from . import sql
from .arrays import uuids
from .changes import Changes, Found, Kept
from .pipeline import format_of
from .session import StateSession

DDL_PATIENCE = 10.0  # seconds to wait for a table that is in use


class Migration(NamedTuple):
    """One step from a version of the schema to the next."""

    statements: str
    """With ``{schema}`` where the tables are."""
    oldest: int
    """The oldest version that a worker must know to write after it."""


# Never changed once released, only added to. A leader may be writing while
# one is applied, so each has to bear that: version N's writes on N+1's
# tables, unless ``oldest`` says otherwise.
MIGRATIONS = (
    Migration(sql.CREATE, 1),
    Migration(sql.TELL_TERMS, 1),
    Migration(sql.ADD_INBOX, 1),
)
VERSION = len(MIGRATIONS)


@dataclass(frozen=True)
class Survey:
    """What a role finds in the database, and what it may do there."""

    schema: str | None
    """Where new tables would go."""
    may_create: bool
    search_path: str
    role: str
    place: str | None
    """The schema that has the tables."""
    missing: tuple[str, ...]
    owners: int
    """How many roles own tables; more than one means trouble."""
    lacking: tuple[str, ...] = ()
    version: int = 0
    oldest: int = 0

    @property
    def is_complete(self) -> bool:
        """The tables are there."""
        return not self.missing

    @property
    def is_outdated(self) -> bool:
        """There are migrations to be made."""
        return self.version < VERSION

    def obstacle(self) -> str | None:
        """Why this role cannot keep state here, or None if it can."""
        if self.oldest > VERSION:
            return (
                f"the tables are of version {self.version}, which needs a "
                f"newer ansible-rulebook-ha (this one knows {VERSION})"
            )
        if self.owners > 1:
            return (
                f"the tables in schema {self.place} have more than one "
                "owner: somebody else made one of them"
            )
        if self.place and self.missing and not self.is_outdated:
            return (
                f"schema {self.place} has no {', '.join(self.missing)}, but "
                f"the other tables of version {self.version}"
            )
        if self.is_complete and self.lacking:
            return f"role {self.role} lacks {', '.join(self.lacking)}"
        if self.is_complete:
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


def survey(session: StateSession) -> Survey:
    """Look at what is there.

    :raises ServerUnavailable: if the server cannot be asked now.
    """
    wanted = [
        (table, privilege)
        for table, privileges in sql.PRIVILEGES.items()
        for privilege in privileges
    ]
    with session.transaction() as connection:
        cursor = connection.cursor(row_factory=namedtuple_row)
        row: Any = cursor.execute(
            sql.SURVEY,
            {
                "tables": list(sql.PRIVILEGES),
                "granted": [table for table, _ in wanted],
                "privileges": [privilege for _, privilege in wanted],
            },
        ).fetchone()
        version = oldest = 0
        may_read = f"SELECT on {sql.SCHEMA}" not in row.lacking
        if row.place is not None and may_read:
            version, oldest = _version(connection)
    return Survey(
        schema=row.schema,
        may_create=row.may_create,
        search_path=row.search_path,
        role=row.role,
        place=row.place,
        missing=tuple(row.missing),
        owners=row.owners,
        lacking=tuple(row.lacking),
        version=version,
        oldest=oldest,
    )


def create(session: StateSession) -> None:
    """Make what is missing. Several workers may try at once.

    :raises StateRefused: if the role may not.
    :raises ServerUnavailable: if the server cannot be asked now.
    """
    with session.transaction() as connection:
        milliseconds = int(DDL_PATIENCE * 1000)
        connection.execute(f"SET LOCAL lock_timeout = {milliseconds}")
        connection.execute(sql.LOCK_SCHEMA)
        found = connection.execute(sql.PLACE).fetchone()
        assert found is not None
        place, first = found
        version = 0 if place is None else _version(connection)[0]
        schema = Identifier(place or first).as_string(connection)
        for number, step in enumerate(MIGRATIONS[version:], version + 1):
            connection.execute(step.statements.format(schema=schema))
            connection.execute(
                sql.SET_VERSION.format(schema=schema), (number, step.oldest)
            )


def grants(session: StateSession, role: str) -> list[str]:
    """The statements that allow a role what a worker does, and no more.

    With a comment where the tables are not in the usual schema.

    :raises ServerUnavailable: if the server cannot be asked.
    """
    with session.transaction() as connection:
        row = connection.execute(
            sql.PLACES, {"role": role, "tables": list(sql.PRIVILEGES)}
        ).fetchone()
    assert row is not None
    database, schemas, places, quoted = row
    comment = one_line(
        "-- Workers find the tables by their search_path "
        f"(in the DSN: options=-csearch_path={','.join(schemas)})."
    )
    return [
        *([comment] if schemas != ["public"] else []),
        f"GRANT CONNECT ON DATABASE {database} TO {quoted};",
        f"GRANT USAGE ON SCHEMA {', '.join(schemas)} TO {quoted};",
        *(
            f"GRANT {', '.join(privileges)} ON {places[table]} TO {quoted};"
            for table, privileges in sql.PRIVILEGES.items()
        ),
    ]


def post_grants(session: StateSession, role: str) -> list[str]:
    """The statements that allow a role to post events, and no more.

    :raises ServerUnavailable: if the server cannot be asked.
    """
    with session.transaction() as connection:
        row = connection.execute(sql.POST_PLACE, {"role": role}).fetchone()
    assert row is not None
    database, place, function, quoted = row
    return [
        f"GRANT CONNECT ON DATABASE {database} TO {quoted};",
        f"GRANT USAGE ON SCHEMA {place} TO {quoted};",
        f"GRANT EXECUTE ON FUNCTION {function} TO {quoted};",
    ]


def rehearse(session: StateSession) -> None:
    """Do once what the journal will do, and roll it back.

    What the server refuses here, it would refuse at each promotion.

    :raises StateRefused: if it refuses.
    :raises ServerUnavailable: if the server cannot be asked now.
    """
    # A cluster of its own, so that two rehearsals need not wait in turn.
    nobody = str(uuid.uuid4())
    with session.transaction() as connection:
        connection.execute("SAVEPOINT rehearsal")
        connection.execute(sql.FIRST_TERM, {"ha_uuid": nobody})
        for text, params in _everything():
            _execute(connection, text, [nobody.encode(), *params])
        connection.execute("ROLLBACK TO SAVEPOINT rehearsal")


def _everything() -> list[tuple[str, list[bytes]]]:
    match = bytes(16)
    changes = Changes()
    changes.forget_ruleset("r")
    changes.ruleset("r", Kept("d", False))
    changes.answer("r", Answer((), [Record(1, "E", 0, -1, "{}")], [2]))
    changes.found(Found(match, "r", "r", "{}"))
    changes.action(match, 0, "{}")
    changes.done(match, has_actions=True)
    changes.consumed("r", 1)
    changes.consumed("r", 2, parts=1)
    changes.forget_until = 1
    commit = [b"0", b"1", uuids([])]
    fence = (sql.FENCE, [b"0"])
    return [fence, (sql.ADD_COMMIT, commit), *changes.statements(1)]


def _execute(
    connection: Connection[Any], text: str, params: list[bytes]
) -> None:
    # As the journal sends them.
    formats = [Format.TEXT, *map(format_of, params[1:])]
    result = connection.pgconn.exec_params(
        text.encode(), params, param_formats=formats
    )
    if result.status not in (
        ExecStatus.COMMAND_OK,
        ExecStatus.TUPLES_OK,
    ):
        raise psycopg.errors.error_from_result(result)


def _version(connection: Connection[Any]) -> tuple[int, int]:
    row = connection.execute(sql.VERSION).fetchone()
    if row is None:
        raise StateRefused(f"{sql.SCHEMA} is empty")
    return int(row[0]), int(row[1])
