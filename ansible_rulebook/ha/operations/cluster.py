"""A cluster as PostgreSQL shows it: who holds the lock, and who waits.

Nothing but the right to connect is needed. What workers say of themselves is
in their beacons; what the tables of the state say is added where they are.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Collection, NamedTuple

from psycopg import Connection

from ..conninfo import Conninfo
from ..election.beacon import Beacon
from ..election.names import (
    APPLICATION,
    PAUSE,
    application_name,
    lock_key,
)
from ..election.reasons import Reason
from ..errors import ServerUnavailable
from ..state.names import original
from . import sql
from .asking import reading
from .snapshot import PauseView

LEADER = "leader"
FOLLOWER = "follower"

_NAME = re.compile(r"([a-z-]+):([0-9a-f]{16}):([A-Za-z0-9._-]*):(\w{0,8})")


class SessionName(NamedTuple):
    """The parts of an ``application_name``; see :mod:`.election.lock`."""

    kind: str
    key: int
    worker: str
    process: str

    @classmethod
    def parse(cls, text: str) -> SessionName | None:
        """Its parts, or None if it is not one of ours."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        kind, key, worker, process = found.groups()
        bits = int(key, 16)
        return cls(kind, bits - (bits >> 63 << 64), worker, process)


@dataclass(frozen=True)
class Worker:
    """One worker, by its session."""

    name: str
    """Its id, as it says itself; if it says nothing, from the name of its
    session, which may be cut."""
    role: str
    """LEADER if its session holds the lock, else FOLLOWER."""
    state: str
    """As it says itself; if it says nothing, what its session does."""
    session: str
    """The whole ``application_name``."""
    backend: int
    """Process id of the server's side."""
    connected: float | None
    """Since when, in seconds of the epoch; None if that is hidden."""
    silent: float | None
    """Seconds since its session last did something; None if hidden."""
    is_hidden: bool = False
    """It belongs to another role, whose statements ours may not see."""
    beacon: Beacon | None = None
    since: float | None = None
    """When its role began; None if that is not known."""


@dataclass(frozen=True)
class Stranger:
    """A session that holds the lock and is no worker's."""

    name: str
    backend: int
    since: float | None
    pauses: bool
    """It is there to pause the cluster."""
    reason: str = ""
    """What for, as it says."""
    until: float | None = None
    """When it ends, as it says; None: not by itself."""

    @property
    def view(self) -> PauseView:
        """It as a pause."""
        return PauseView(self.name, self.reason, self.since, self.until)


@dataclass(frozen=True)
class PastTerm:
    """A row of the history. What is not known is None or empty."""

    term: int
    worker: str
    since: float
    until: float | None
    ended: Reason | None
    replaces: str
    evidence: str
    gap: float | None
    records: int | None
    matches: int | None
    events: int | None
    actions: int | None


@dataclass(frozen=True)
class Stored:
    """What the tables have of a cluster."""

    term: int
    worker: str
    since: float
    records: int
    matches: int
    terms: tuple[PastTerm, ...] = ()
    """The last terms, the latest one first."""


@dataclass(frozen=True)
class Server:
    """The server that was asked."""

    place: str
    database: str
    version: str
    role: str
    now: float
    """Its time, in seconds of the epoch."""
    tables: str
    """What became of reading our tables: ``read``, ``absent``, or
    ``forbidden`` to this role."""
    has_inboxes: bool = False
    """There is a table of inboxes, and this role may read it."""

    def __str__(self) -> str:
        return (
            f"{self.place} database {self.database}, PostgreSQL {self.version}"
        )


@dataclass(frozen=True)
class Waiting:
    """An inbox in which events wait for a leader."""

    inbox: str
    events: int
    age: float
    """Seconds since the oldest of them arrived."""


@dataclass(frozen=True)
class Cluster:
    """Everything that is known about one cluster at one moment."""

    key: int
    server: Server
    ha_uuid: str | None = None
    """None if nothing but the lock's key is known."""
    workers: tuple[Worker, ...] = ()
    """The leader first."""
    stranger: Stranger | None = None
    stored: Stored | None = None
    waiting: tuple[Waiting, ...] = ()

    @property
    def name(self) -> str:
        """The UUID, or the lock's key if that is all there is."""
        return self.ha_uuid or f"{self.key % 2**64:016x}"

    @property
    def leader(self) -> Worker | None:
        """The worker that holds the lock."""
        first = self.workers[:1]
        return first[0] if first and first[0].role == LEADER else None

    @property
    def followers(self) -> tuple[Worker, ...]:
        """The workers that could take over."""
        return tuple(each for each in self.workers if each.role == FOLLOWER)

    @property
    def lease(self) -> float | None:
        """Seconds, as the leader says; without one, as another worker says."""
        said = [each.beacon.lease for each in self.workers if each.beacon]
        return next((each for each in said if each > 0), None)

    @property
    def term(self) -> int | None:
        """The present term, or the last one."""
        beacon = self.leader.beacon if self.leader else None
        if beacon and beacon.term:
            return beacon.term
        return self.stored.term if self.stored else None

    @property
    def pause(self) -> Stranger | None:
        """Who pauses the cluster."""
        stranger = self.stranger
        return stranger if stranger and stranger.pauses else None

    @property
    def is_silent(self) -> bool:
        """The leader has given no sign for longer than its lease.

        The server should have ended its session, and has not.
        """
        leader, lease = self.leader, self.lease
        if leader is None or leader.silent is None or lease is None:
            return False
        return leader.silent > lease

    @property
    def has_hidden(self) -> bool:
        """The role that asked may not see everything."""
        return any(each.is_hidden for each in self.workers)


@dataclass
class _Found:
    """What the rows that were read so far tell of one cluster."""

    workers: dict[str, Worker] = field(default_factory=dict)
    stranger: Stranger | None = None


def look(
    conninfo: Conninfo,
    ha_uuid: uuid.UUID | None,
    seconds: float,
    terms: int = 2,
) -> list[Cluster]:
    """Ask for one cluster, or for all of the database.

    :param ha_uuid: None for all of them.
    :param seconds: for each question.
    :param terms: how many of the last terms are wanted.
    :returns: exactly one if a UUID is given; it may have no workers.
    :raises ServerUnavailable: if the server cannot be asked.
    :raises Unasked: if it gives no answer.
    """
    with reading(conninfo, seconds) as connection:
        server = _server(connection)
        stored = {}
        if server.tables == "read":
            stored = _stored(connection, ha_uuid, terms)
        waiting = _waiting(connection, ha_uuid) if server.has_inboxes else {}
        names = {lock_key(uuid.UUID(name)): name for name in stored}
        prefix = f"{APPLICATION}:"
        if ha_uuid is not None:
            key = lock_key(ha_uuid)
            names = {key: str(ha_uuid)}
            prefix += f"{key % 2**64:016x}:"
        found = _sessions(connection, prefix, names)
    # Where all clusters are asked for, those without workers are left out.
    keys = found if ha_uuid is None else names
    return [
        replace(
            _cluster(
                key, found.get(key, _Found()), names.get(key), server, stored
            ),
            waiting=tuple(waiting.get(names.get(key, ""), ())),
        )
        for key in sorted(keys, key=lambda key: (names.get(key, "~"), key))
    ]


def _server(connection: Connection[Any]) -> Server:
    row = _one(connection, sql.SERVER, {"tables": sql.TABLES})
    if row.in_recovery:
        raise ServerUnavailable(
            "the server is a standby, which knows no locks of the primary: "
            "connect to the primary"
        )
    tables = "read" if row.may_read else "forbidden"
    info = connection.info
    place = f"{info.host or info.hostaddr}:{info.port}"
    return Server(
        place=place,
        database=row.database,
        version=row.version,
        role=row.role,
        now=row.now,
        tables=tables if row.has_tables else "absent",
        has_inboxes=row.has_inboxes,
    )


def _stored(
    connection: Connection[Any], ha_uuid: uuid.UUID | None, terms: int
) -> dict[str, Stored]:
    rows = connection.execute(sql.CLUSTERS, {"ha_uuid": ha_uuid}).fetchall()
    return {
        row.ha_uuid: Stored(
            term=row.term,
            worker=_name(row.worker_id),
            since=row.since,
            records=row.records,
            matches=row.matches,
            terms=_terms(connection, row.ha_uuid, terms),
        )
        for row in rows
    }


def _waiting(
    connection: Connection[Any], ha_uuid: uuid.UUID | None
) -> dict[str, list[Waiting]]:
    """For each cluster its inboxes in which something waits."""
    found: dict[str, list[Waiting]] = {}
    for row in connection.execute(sql.INBOXES, {"ha_uuid": ha_uuid}):
        waiting = Waiting(row.inbox, row.events, row.age)
        found.setdefault(row.ha_uuid, []).append(waiting)
    return found


def _terms(
    connection: Connection[Any], ha_uuid: str, most: int
) -> tuple[PastTerm, ...]:
    names = {"ha_uuid": ha_uuid, "most": most}
    return tuple(
        PastTerm(
            term=row.term,
            worker=_name(row.worker_id),
            since=row.since,
            until=row.until,
            ended=None if row.ended is None else Reason.of(row.ended),
            replaces=_name(row.replaces or ""),
            evidence=_name(row.evidence or ""),
            gap=row.gap,
            records=row.records,
            matches=row.matches,
            events=row.events,
            actions=row.actions,
        )
        for row in connection.execute(sql.TERMS, names)
    )


def _name(text: str) -> str:
    try:
        return original(text)
    except (UnicodeError, ValueError):  # somebody else wrote it
        return text


def _sessions(
    connection: Connection[Any], prefix: str, keys: Collection[int]
) -> dict[int, _Found]:
    names = {"prefix": prefix, "pause": f"{PAUSE}:", "keys": list(keys)}
    found: dict[int, _Found] = {}
    for row in connection.execute(sql.SESSIONS, names):
        name = SessionName.parse(row.application_name or "")
        if name is not None and name.kind == APPLICATION:
            cluster = found.setdefault(name.key, _Found())
            holds = bool(row.granted and row.key == name.key)
            _keep(cluster.workers, _worker(row, name, holds))
        elif row.granted and (row.key in keys or _is_pause(row, name)):
            stranger = _stranger(row, name)
            found.setdefault(row.key, _Found()).stranger = stranger
    return found


def _is_pause(row: Any, name: SessionName | None) -> bool:
    """Its name says so, and it holds the lock of the cluster it names."""
    return name is not None and name.kind == PAUSE and name.key == row.key


def _stranger(row: Any, name: SessionName | None) -> Stranger:
    said = Beacon.parse(row.beacon or "") or Beacon()
    pauses = _is_pause(row, name)
    shown = name.worker if name else row.application_name or ""
    return Stranger(
        name=(pauses and said.worker) or shown,
        backend=row.pid,
        since=(pauses and said.since) or row.connected,
        pauses=pauses,
        reason=said.reason if pauses else "",
        until=(pauses and said.until) or None,
    )


def _keep(workers: dict[str, Worker], worker: Worker) -> None:
    """Of the sessions of one process, keep the one that holds the lock.

    If none does, keep the latest: the others may have been lost without the
    server knowing it yet.
    """
    known = workers.get(worker.session)
    if known is None or known.role != LEADER:
        workers[worker.session] = worker


def _worker(row: Any, name: SessionName, holds: bool) -> Worker:
    beacon = Beacon.parse(row.beacon) if row.beacon else None
    waits = row.granted is False and row.key == name.key
    doing = "waiting" if waits else "connected"
    return Worker(
        name=(beacon and beacon.worker) or name.worker,
        role=LEADER if holds else FOLLOWER,
        state=(beacon and beacon.state) or ("holding" if holds else doing),
        session=row.application_name,
        backend=row.pid,
        connected=row.connected,
        silent=row.silent,
        is_hidden=bool(row.is_hidden),
        beacon=beacon,
        since=(beacon and beacon.since) or None,
    )


def _cluster(
    key: int,
    found: _Found,
    ha_uuid: str | None,
    server: Server,
    stored: dict[str, Stored],
) -> Cluster:
    kept = stored.get(ha_uuid or "")
    workers = [
        _as_stored(each, key, kept) if each.role == LEADER else each
        for each in found.workers.values()
    ]
    return Cluster(
        key=key,
        server=server,
        ha_uuid=ha_uuid,
        workers=tuple(
            sorted(
                workers,
                key=lambda each: (
                    each.role != LEADER,
                    each.name,
                    each.backend,
                ),
            )
        ),
        stranger=found.stranger,
        stored=kept,
    )


def _as_stored(leader: Worker, key: int, stored: Stored | None) -> Worker:
    """The leader. If it says nothing itself, with what the tables know."""
    if leader.beacon is not None or stored is None:
        return leader
    if not leader.session.startswith(application_name(key, stored.worker)):
        return leader
    return replace(leader, name=stored.worker, since=stored.since)


def _one(connection: Connection[Any], statement: str, names: Any) -> Any:
    row = connection.execute(statement, names).fetchone()
    assert row is not None
    return row
