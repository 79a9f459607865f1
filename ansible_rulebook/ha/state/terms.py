"""A leader's claim of the state, and what it finds there."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Sequence

from psycopg import Connection

from ..errors import (
    LeadershipLost,
    ServerUnavailable,
    StateFenced,
    StateRefused,
)
from . import schema, sql
from .changes import Kept
from .names import original
from .session import RowInUse, StateSession

logger = logging.getLogger(__name__)

CLAIM_PATIENCE = 0.25  # seconds for a write under way, before it is ended
CLAIM_TRIES = 50
MOST_EVENTS = 10_000  # that a recovery reads


@dataclass(frozen=True)
class Pending:
    """A match whose actions have not all run."""

    match: str
    ruleset: str
    rule: str
    body: str
    """Its data as JSON, encrypted if there is a key."""


@dataclass(frozen=True)
class Claim:
    """A term that a worker has claimed, and the state that it found."""

    term: int
    """Rises with each claim of any worker: a fencing token."""
    mark: int
    """That of the last transaction before this term."""
    began: int
    """When, by the server's clock: milliseconds since 1970."""
    last_worker: str
    """The worker that led before; empty if none did."""
    last_marks: dict[int, int] = field(default_factory=dict)
    """The last mark of each term that was asked for, if known."""
    rulesets: dict[str, Kept] = field(default_factory=dict)
    """By :func:`.names.key_of_ruleset`. So is all that follows."""
    records: dict[str, str] = field(default_factory=dict)
    """By ruleset, as :meth:`.Bridge.restore` takes them."""
    retained: dict[str, int] = field(default_factory=dict)
    """How many records each ruleset has."""
    matches: list[Pending] = field(default_factory=list)
    """In the order in which they were found."""
    actions: dict[tuple[str, int], str] = field(default_factory=dict)
    """By match and place, encrypted if there is a key."""
    events: list[bytes] = field(default_factory=list)
    """Keys of the last events, the oldest first."""


class Terms:
    """Claims terms for one worker. Its calls block.

    :param session: the state's session.
    :param ha_uuid: the cluster.
    :param worker_id: for people who look into the tables.
    :param key: that of the election's lock.
    :param claimant: names this process in the table.
    """

    def __init__(
        self,
        session: StateSession,
        ha_uuid: str,
        worker_id: str,
        key: int,
        claimant: str = "",
    ) -> None:
        self._session = session
        bits = key % 2**64
        self._names = {
            "ha_uuid": ha_uuid,
            "worker_id": worker_id,
            "claimant": claimant,
            "high": bits >> 32,
            "low": bits & 0xFFFFFFFF,
        }

    def claim(
        self, holder: int, ended: Sequence[int], lineage: str = ""
    ) -> Claim:
        """Begin a term, and read what the last one left.

        From here on the database refuses writes of earlier terms.

        :param holder: process id of the server session that holds the lock.
        :param ended: terms whose last mark to read.
        :param lineage: which data the server has, if it tells.
        :raises LeadershipLost: if that session does not hold the lock.
        :raises StateRefused: if the tables belong to a newer version.
        :raises ServerUnavailable: if the server cannot be asked now.
        """
        for _ in range(CLAIM_TRIES):
            try:
                return self._claim(holder, ended, lineage)
            except RowInUse:
                logger.warning(
                    "A write of an earlier leader is still under way: "
                    "ending its session"
                )
            self._end_writer(holder)
        raise ServerUnavailable(
            "another transaction keeps the row of the term locked"
        )

    def _claim(self, holder: int, ended: Sequence[int], lineage: str) -> Claim:
        names: dict[str, Any] = {
            **self._names,
            "holder": holder,
            "lineage": lineage,
            "after": [each + 1 for each in ended],
        }
        patience = int(CLAIM_PATIENCE * 1000)
        with self._session.transaction() as connection:
            # All in one round trip, but for the first error.
            with connection.pipeline():
                connection.execute("DEALLOCATE ALL")
                connection.execute(f"SET LOCAL lock_timeout = {patience}")
                connection.execute(sql.AT_ROW, names)
                connection.execute(sql.DURABLE)
                connection.execute(sql.FIRST_TERM, names)
                last = connection.execute(sql.LOCK_TERM, names)
                version = connection.execute(sql.VERSION)
                term = connection.execute(sql.CLAIM_TERM, names)
                connection.execute(sql.WRITE_HISTORY, names)
                marks = connection.execute(sql.LAST_MARKS, names)
                rulesets = connection.execute(sql.RULESETS, names)
                records = connection.execute(sql.RECORDS, names)
                matches = connection.execute(sql.MATCHES, names)
                actions = connection.execute(sql.ACTIONS, names)
                events = connection.execute(
                    sql.EVENTS.format(most=MOST_EVENTS), names
                )
            (_, oldest) = version.fetchone() or (0, 0)
            if oldest > schema.VERSION:
                raise StateRefused(
                    "the tables need a newer ansible-rulebook-ha"
                )
            claimed = term.fetchone()
            if claimed is None:
                raise LeadershipLost("the lock was gone before the term began")
            before = last.fetchone()
            assert before is not None
            by_ruleset = {name: (text, count) for name, text, count in records}
            return Claim(
                int(claimed[0]),
                int(claimed[1]),
                int(claimed[2]),
                original(str(before[1])),
                {term - 1: mark for term, mark in marks},
                {
                    name: Kept(digest, primed)
                    for name, digest, primed in rulesets
                },
                {name: text for name, (text, _) in by_ruleset.items()},
                {name: count for name, (_, count) in by_ruleset.items()},
                [
                    Pending(match, ruleset, original(rule), body)
                    for match, ruleset, rule, body in matches
                ],
                {(match, place): body for match, place, body in actions},
                [key.bytes for (key,) in events][::-1],
            )

    def reopen(self, term: int) -> Connection[Any]:
        """Another session for a term that goes on.

        :raises StateFenced: if another worker has begun a term.
        :raises ServerUnavailable: if the server cannot be asked now.
        """
        names = {**self._names, "term": term}
        with self._session.transaction() as connection:
            connection.execute(sql.AT_ROW, names)
            if connection.execute(sql.REOPEN, names).fetchone() is None:
                raise StateFenced("another worker has begun a term")
        return self._session.take()

    def keeps_state(self) -> bool:
        """Whether this cluster has state in the tables.

        :raises HaError: if that cannot be found out.
        """
        with self._session.transaction() as connection:
            found = connection.execute(sql.HAS_CLUSTERS).fetchone()
            if not (found and found[0]):
                return False
            row = connection.execute(
                sql.KEEPS_STATE, (self._names["ha_uuid"],)
            ).fetchone()
        return bool(row and row[0])

    def _end_writer(self, holder: int) -> None:
        names = {**self._names, "holder": holder}
        # A session of another role cannot be ended: then we wait for it.
        with suppress(StateRefused), self._session.transaction() as connection:
            connection.execute(sql.END_WRITER, names)
