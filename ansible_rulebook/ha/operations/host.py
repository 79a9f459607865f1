"""One host of a connection string, as a worker would find it."""

from __future__ import annotations

import ipaddress
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import psycopg
from psycopg import Connection

from ..conninfo import Conninfo
from ..election.lease import Timings
from ..election.settings import (
    LEASE_LIMITS,
    ON_TCP,
    SHORTEST_MS,
    UNLIMITED,
    Found,
    dropped,
    lock_limits,
    names_to_read,
    not_in_effect,
    stricter,
    warning,
)
from ..election.sql import LINEAGE, READ_SETTINGS, WRITE_SETTING
from ..errors import HaError
from ..redaction import one_line
from ..state import schema
from ..state.session import StateSession
from . import sql
from .asking import APPLICATION, LIMIT, connect
from .finding import Finding, fault, ok, warn

# A key of no cluster, to see whether the role may lock. ("eda-chek")
KEY = 0x6564612D6368656B
MAY_LOCK = "SELECT pg_catalog.pg_try_advisory_xact_lock_shared(%s)"
OLDEST = 140000  # of PostgreSQL, with idle_session_timeout
LEAST_QUERY_SIZE = 1000  # bytes


@dataclass(frozen=True)
class Seen:
    """What is known of a host once it was looked at."""

    about: str
    findings: tuple[Finding, ...]
    is_reached: bool = False
    primary: str = ""
    """Which primary it is, since which start; empty if it is none. Two hosts
    with different ones are two primaries."""


def split(conninfo: Conninfo) -> list[Conninfo]:
    """One connection string for each host. A standby is accepted, too."""
    names = {
        name: (conninfo.get(name) or "").split(",")
        for name in ("host", "hostaddr", "port")
    }
    made = []
    for number in range(conninfo.hosts):
        changes: dict[str, Any] = {"target_session_attrs": "any"}
        for name, values in names.items():
            value = values[number] if number < len(values) else values[0]
            # An empty one is a host that libpq knows itself.
            if value or conninfo.hosts > 1:
                changes[name] = value or None
        made.append(conninfo.with_params(**changes))
    return made


def name_of(conninfo: Conninfo) -> str:
    """The host's name and port, for people."""
    host = conninfo.get("host") or conninfo.get("hostaddr") or "local socket"
    return f"{host}:{conninfo.get('port') or 5432}"


def examine(
    conninfo: Conninfo, timings: Callable[[], Timings], seconds: float
) -> Seen:
    """Connect to it, and look at everything that a worker relies on.

    Nothing is left behind there.

    :param timings: of the lease to try; asked once it is connected.
    """
    about = name_of(conninfo)
    try:
        with closing(connect(conninfo, seconds)) as connection:
            connection.execute("BEGIN")
            connection.execute(LIMIT, (str(int(seconds * 1000)),))
            return _examine(about, connection, conninfo, timings())
    except (psycopg.Error, OSError, ValueError) as error:
        words = one_line(conninfo.redact(str(error))).rstrip(".")
        found = fault(
            about,
            f"It cannot be asked: {words}{'' if words[-1:] == '?' else '.'}",
            "See that PostgreSQL runs there, that the network lets this "
            "machine reach it, and that role, password and pg_hba.conf are "
            "right.",
        )
        return Seen(about, (found,))


def _examine(
    about: str,
    connection: Connection[Any],
    conninfo: Conninfo,
    timings: Timings,
) -> Seen:
    row: Any = connection.execute(sql.HOST).fetchone()
    kind = "a standby" if row.in_recovery else "a primary"
    findings = [ok(about, f"It is {kind} with PostgreSQL {row.version}.")]
    findings += _server(about, row)
    findings += _wire(about, row, connection)
    pooled = row.backend != connection.info.backend_pid
    if pooled:
        findings.append(
            warn(
                about,
                "A connection pooler is in between.",
                "Connect to PostgreSQL itself. If the pooler keeps whole "
                "sessions, give the workers --ha-session-pooler.",
            )
        )
    if row.in_recovery:
        return Seen(about, tuple(findings), is_reached=True)
    findings += _rights(about, row.role, connection)
    # Behind a pooler a setting could stay on somebody else's session.
    if not pooled:
        findings += _settings(about, row, connection, conninfo, timings)
    findings += _state(about, conninfo, timings)
    life = f"{row.started} {_lineage(connection)}"
    return Seen(about, tuple(findings), True, life)


def _server(about: str, row: Any) -> list[Finding]:
    findings = []
    if not row.in_recovery and row.is_read_only:
        findings.append(
            fault(
                about,
                f"Role {row.role} may only read by default.",
                "Set default_transaction_read_only to off for the role, or "
                "use another role.",
            )
        )
    if row.encoding == "SQL_ASCII":
        findings.append(
            warn(
                about,
                "The database's encoding is SQL_ASCII, so PostgreSQL checks "
                "no text. The election and the state work all the same.",
                "Use a database with the encoding UTF8.",
            )
        )
    if row.number < OLDEST:
        findings.append(
            warn(
                about,
                f"PostgreSQL {row.version} has no idle_session_timeout: a "
                "leader that is paused but not dead is not replaced.",
                "Use PostgreSQL 14 or later.",
            )
        )
    size = row.query_size.rstrip("B")
    if size.isdigit() and int(size) < LEAST_QUERY_SIZE:
        findings.append(
            warn(
                about,
                f"track_activity_query_size is {row.query_size}: what "
                "workers say of themselves may be cut off.",
                "Set it to 1024 or more, and restart PostgreSQL.",
            )
        )
    return findings


def _wire(about: str, row: Any, connection: Connection[Any]) -> list[Finding]:
    info = connection.info
    if connection.pgconn.ssl_in_use:
        return [ok(about, "The connection is encrypted with TLS.")]
    if row.is_local or _is_loopback(info.hostaddr):
        return [ok(about, "The connection does not leave this machine.")]
    return [
        warn(
            about,
            "The connection is not encrypted.",
            "Set up TLS in PostgreSQL, and give sslmode=verify-full in the "
            "connection string.",
        )
    ]


def _is_loopback(address: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return False


def _rights(
    about: str, role: str, connection: Connection[Any]
) -> list[Finding]:
    findings = []
    try:
        with connection.transaction():
            connection.execute(MAY_LOCK, (KEY,))
        findings.append(ok(about, f"Role {role} may take the lock."))
    except psycopg.Error as error:
        findings.append(
            fault(
                about,
                f"Role {role} may not take an advisory lock: "
                f"{one_line(error)}.",
                "GRANT EXECUTE on the functions of advisory locks to it.",
            )
        )
    return findings


def _settings(
    about: str,
    row: Any,
    connection: Connection[Any],
    conninfo: Conninfo,
    timings: Timings,
) -> list[Finding]:
    """Set what a worker's session sets, and see whether that works."""
    limits = lock_limits(timings)
    asked = conninfo.settings
    names = {
        "names": names_to_read(limits, UNLIMITED, ["lock_timeout"], asked)
    }
    before = _read(connection, names, row.is_local)
    wanted = {name: "0" for name in UNLIMITED if name in before}
    for name, limit in limits.items():
        if name in before:
            wanted[name] = str(stricter(limit, before[name][0]))
    for name in LEASE_LIMITS:
        if name in wanted:
            wanted[name] = str(max(int(wanted[name]), SHORTEST_MS))
    wanted["lock_timeout"] = str(int(timings.poll_interval * 1000))
    lost = dropped(asked, before)
    refusals = {}
    for name, value in {**lost, **wanted}.items():
        try:
            with connection.transaction():
                connection.execute(WRITE_SETTING, (name, value))
        except psycopg.Error as error:
            refusals[name] = one_line(error)
    after = _read(connection, names, row.is_local)
    findings = []
    missed = not_in_effect(wanted, lost, after)
    if missed:
        findings.append(
            warn(
                about,
                f"{warning(missed, after, refusals)}.",
                "Let the role change them (ALTER ROLE ... SET, GRANT SET), or "
                "connect without the pooler that replaces them.",
            )
        )
    shortened = timings
    for name in LEASE_LIMITS:
        milliseconds = int(after.get(name, ("0",))[0])
        if milliseconds:
            shortened = shortened.shortened(milliseconds / 1000)
    lease = shortened.lease_duration
    if lease < timings.lease_duration:
        findings.append(
            warn(
                about,
                f"A limit of the server or the role shortens the lease to "
                f"{lease:g} s.",
                "Give the workers that lease (--ha-lease-duration), or "
                f"raise {' and '.join(LEASE_LIMITS)} for the role.",
            )
        )
    if not findings:
        findings.append(
            ok(about, f"The settings of a lease of {lease:g} s take effect.")
        )
    return findings


def _read(
    connection: Connection[Any], names: dict[str, Any], is_local: bool
) -> Found:
    row = connection.execute(READ_SETTINGS, names).fetchone()
    found: Found = row[0] if row else {}
    return {
        name: value
        for name, value in found.items()
        if not (is_local and name.startswith(ON_TCP))
    }


def _state(
    about: str, conninfo: Conninfo, timings: Timings
) -> Sequence[Finding]:
    session = StateSession(conninfo, APPLICATION, timings)
    try:
        found = schema.survey(session)
        obstacle = found.obstacle()
    except HaError as error:
        obstacle = str(error)
    finally:
        session.close()
    if obstacle is None:
        where = (
            f"the tables are there (version {found.version})"
            if found.is_complete
            else f"the first leader makes the tables in {found.schema}"
        )
        return [ok(about, f"State can be kept: {where}.")]
    return [
        warn(
            about,
            f"State cannot be kept: {obstacle}.",
            "Run 'ansible-rulebook-ha init-db' as the role that is to own "
            "the tables, and the statements that it prints. Without state, "
            "say --ha-state off.",
        )
    ]


def _lineage(connection: Connection[Any]) -> str:
    try:
        with connection.transaction():
            row = connection.execute(LINEAGE).fetchone()
            return str(row[0]) if row else ""
    except psycopg.Error:  # some servers do not tell
        return ""
