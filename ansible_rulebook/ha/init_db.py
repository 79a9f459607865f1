"""``ansible-rulebook-ha init-db``: the tables for the state, made beforehand.

The role that runs it owns the tables. Workers then need no right to create
anything: what they do need is printed as GRANT statements, fit for psql::

    ansible-rulebook-ha init-db --worker-role eda | psql
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from . import embedded
from . import state_sql as sql
from .conninfo import Conninfo
from .errors import HaError, OptionError, ServerUnavailable, StateRefused
from .jdbc import jdbc_parameters
from .lease import Timings
from .options import DSN
from .redaction import mask_password, one_line
from .state_database import StateDatabase

PROGRAM = "ansible-rulebook-ha"
EXIT_USAGE = 2
EXIT_SERVER = 1
APPLICATION = "eda-init-db"
NOBODY = uuid.UUID(int=0)  # the cluster that Drools is told of
SOME_ROLE = "worker"  # stands in the statements unless a role is named
CONNECT_TIMEOUT = 10  # seconds
ANSWER_TIMEOUT = 30  # seconds for each of Drools' statements
# Drools locks its tables outright. Less than PostgreSQL's deadlock_timeout of
# a second, so that between a leader and this command the leader goes on.
LOCK_TIMEOUT = 500  # milliseconds
TRIES = 20  # to get these locks
PAUSE = 0.25  # seconds between two of them

# Where everything is, quoted, as this session's search_path finds it.
PLACES = """
SELECT pg_catalog.quote_ident(pg_catalog.current_database()),
       pg_catalog.array_agg(DISTINCT pg_catalog.quote_ident(nspname)),
       pg_catalog.jsonb_object_agg(
           name, pg_catalog.format('%%I.%%I', nspname, relname)),
       pg_catalog.array_remove(pg_catalog.array_agg(
           CASE WHEN EXISTS (
               SELECT FROM pg_catalog.pg_attribute
                WHERE attrelid = pg_class.oid AND attname = 'id'
           ) THEN pg_catalog.pg_get_serial_sequence(
               pg_catalog.format('%%I.%%I', nspname, relname), 'id')
           END ORDER BY name), NULL),
       pg_catalog.quote_ident(%(role)s)
  FROM pg_catalog.unnest(%(tables)s::text[]) AS wanted (name)
  JOIN pg_catalog.pg_class ON pg_class.oid = pg_catalog.to_regclass(name)
  JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
"""

# Drools makes a row for each cluster that it is told of.
FORGET = "DELETE FROM drools_ansible_ha_stats WHERE ha_uuid = %(ha_uuid)s"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    :returns: the exit code: 0, 1 if the server or Java did not do it, 2 if
        it was called wrongly.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        conninfo = _conninfo(args)
        if args.worker_role is not None and not args.worker_role.strip():
            raise OptionError("--worker-role: the name is empty")
        init_db(conninfo)
        for line in grants(conninfo, args.worker_role or SOME_ROLE):
            print(line)
    except OptionError as error:
        return _fail(EXIT_USAGE, str(error))
    except HaError as error:
        return _fail(EXIT_SERVER, str(error))
    if args.worker_role is None:
        _say(
            f"grant these to the role of your workers instead of {SOME_ROLE} "
            "(--worker-role names it)"
        )
    return 0


def init_db(conninfo: Conninfo) -> None:
    """Create what is missing, and bring up to date what is there.

    Does no harm to a cluster that is running.

    :raises StateRefused: if that cannot be, with the reason.
    :raises ServerUnavailable: if the server cannot be asked, or the tables
        stay in use.
    """
    database = StateDatabase(
        conninfo, NOBODY, APPLICATION, APPLICATION, Timings()
    )
    try:
        _check(database)
        params = jdbc_parameters(
            conninfo,
            APPLICATION,
            options=f"-c lock_timeout={LOCK_TIMEOUT}",
            extra={
                "connectTimeout": str(CONNECT_TIMEOUT),
                "socketTimeout": str(ANSWER_TIMEOUT),
            },
        )
        _start_java()
        with _stdout_to_stderr():
            _create_tables(database, params)
        database.create(lambda: None)  # the fence
    finally:
        database.close()
    with _session(conninfo) as connection:
        connection.execute(FORGET, {"ha_uuid": str(NOBODY)})


def grants(conninfo: Conninfo, role: str) -> list[str]:
    """The statements that allow a role what a worker does, and no more.

    With a comment where the tables are not in the usual schema.

    :raises ServerUnavailable: if the server cannot be asked.
    """
    tables = list(sql.PRIVILEGES)
    with _session(conninfo) as connection:
        row = connection.execute(
            PLACES, {"role": role, "tables": tables}
        ).fetchone()
    assert row is not None
    database, schemas, places, sequences, quoted = row
    comment = one_line(
        "-- Workers find the tables by their search_path "
        f"(in the DSN: options=-csearch_path={','.join(schemas)})."
    )
    return [
        *([comment] if schemas != ["public"] else []),
        f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {quoted};",
        f"GRANT USAGE ON SCHEMA {', '.join(schemas)} TO {quoted};",
        *(
            f"GRANT {', '.join(privileges)} ON {places[table]} TO {quoted};"
            for table, privileges in sql.PRIVILEGES.items()
        ),
        f"GRANT USAGE ON SEQUENCE {', '.join(sequences)} TO {quoted};",
    ]


def _check(database: StateDatabase) -> None:
    """Find out what would fail, before a JVM is started for it."""
    survey = database.survey()
    if survey.schema is None:
        raise StateRefused(
            f"no schema of the search_path {survey.search_path} exists, or "
            f"role {survey.role} may use none of them"
        )
    if not survey.may_create:
        raise StateRefused(
            f"role {survey.role} lacks CREATE on schema {survey.schema}"
        )


def _create_tables(database: StateDatabase, params: Mapping[str, str]) -> None:
    from .drools_state import DroolsState

    for left in reversed(range(TRIES)):
        try:
            DroolsState.create_tables(str(NOBODY), params)
            return
        except ServerUnavailable as error:
            if not left:
                raise ServerUnavailable(
                    f"the tables cannot be changed now: {error}"
                ) from None
            database.survey()  # raises if it is the server that is away
            time.sleep(PAUSE)


def _start_java() -> None:
    """Start the JVM that has Drools in it.

    :raises StateRefused: if there is no Java, or no Drools that keeps state.
    """
    home = _java_home()
    if home is None:
        raise StateRefused(
            "no Java found, and Drools' own code makes its tables: install "
            "Java 17 or newer, or set JAVA_HOME"
        )
    os.environ["JAVA_HOME"] = home
    # Of an error they would print a page, and it is told in one line.
    os.environ.setdefault("DROOLS_JPY_JVM_LOG", f"logFile={os.devnull}")
    logging.getLogger("jpyutil").disabled = True
    try:
        from drools.ruleset import RulesetCollection

        with _stdout_to_stderr():
            RulesetCollection.create_engine()
    except Exception as error:  # jpy's are of several kinds
        raise StateRefused(
            f"Java cannot be started: {one_line(str(error))}"
        ) from None
    if not hasattr(RulesetCollection, "initialize_ha"):
        raise StateRefused(
            "the installed drools_jpy keeps no state: that takes "
            "ansible-rulebook 1.3"
        )


def _java_home() -> str | None:
    from ansible_rulebook.util import get_java_home

    # That of the [embedded] extra, where there is no other.
    found: str | None = embedded.java_home() or get_java_home()
    return found


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Only statements go to standard output, whatever Java prints."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(ours, 1)
        os.close(ours)


@contextlib.contextmanager
def _session(conninfo: Conninfo) -> Iterator[Connection[Any]]:
    usual = {
        "connect_timeout": str(CONNECT_TIMEOUT),
        "target_session_attrs": "read-write",
    }
    changes = {
        name: conninfo.get(name) or value for name, value in usual.items()
    }
    changes["application_name"] = APPLICATION
    try:
        with psycopg.connect(
            make_conninfo("", **conninfo.merged(**changes)), autocommit=True
        ) as connection:
            yield connection
    except psycopg.Error as error:
        raise ServerUnavailable(conninfo.redact(str(error))) from None


# -- the command line ------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Repeats a mistyped option in its error, but no password."""

    def error(self, message: str) -> NoReturn:
        super().error(mask_password(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Prepares what ansible-rulebook's high availability "
        "needs.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    command = commands.add_parser(
        "init-db",
        help="create the tables for the rules' state",
        description="Creates the tables for the rules' state, or brings "
        "them up to date, and prints the GRANT statements for the workers' "
        "role. It executes none of these. Run it as the role that is to own "
        "the tables, again after each upgrade.",
    )
    command.add_argument(
        DSN.flag,
        metavar="DSN",
        help="PostgreSQL connection string. Can also be passed via "
        f"{DSN.variable}.",
    )
    command.add_argument(
        "--worker-role",
        metavar="ROLE",
        help=f"the role to name in the statements, default {SOME_ROLE}",
    )
    return parser


def _conninfo(args: argparse.Namespace) -> Conninfo:
    dsn = DSN.read(args, os.environ)
    if dsn is None:
        raise OptionError(f"{DSN.origin} is required")
    return Conninfo(dsn, DSN.origin)


def _fail(code: int, message: str) -> int:
    _say(f"error: {message}")
    return code


def _say(message: str) -> None:
    print(f"{PROGRAM}: {one_line(message)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
