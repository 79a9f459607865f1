"""The last terms of a cluster: who led, from when to when, and why no more.

Each leader completes the row of its own term, and writes into the row of the
term before what it has found out about its end. A former leader that is still
alive knows better: what it says of its own term replaces that.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..election.reasons import Reason
from . import sql
from .names import stored
from .session import StateSession

TERMS = 1000  # of a cluster that stay
LONGEST_EVIDENCE = 500  # characters


@dataclass(frozen=True)
class Beginning:
    """What a new leader has found."""

    replaces: str = ""
    """The worker that led before; empty if nobody did."""
    reason: Reason = Reason.UNKNOWN
    """Why that one no longer leads, as far as can be told."""
    evidence: str = ""
    """What that is concluded from, for people."""
    gap: float | None = None
    """Seconds that nobody led; None if unknown."""
    records: int | None = None
    """How many events and facts were recovered."""
    matches: int | None = None
    """How many matches were, whose actions had not all run."""


class History:
    """Writes the terms of one worker. Its calls block.

    :param session: for the time of each call.
    :param ha_uuid: the cluster.
    :raises ServerUnavailable: each call does, if that cannot be done now.
    :raises StateRefused: each call does, if the role may not.
    """

    def __init__(self, session: StateSession, ha_uuid: str) -> None:
        self._session = session
        self._ha_uuid = ha_uuid

    def close(self) -> None:
        """Disconnect."""
        self._session.close()

    def begin_term(self, term: int, found: Beginning) -> None:
        """A term that was claimed has begun.

        It ends the term before, at the time at which the gap began.
        """
        names = {
            "ha_uuid": self._ha_uuid,
            "term": term,
            "replaces": stored(found.replaces),
            "evidence": stored(found.evidence[:LONGEST_EVIDENCE]),
            "gap": found.gap,
            "records": found.records,
            "matches": found.matches,
            "ended": found.reason.value,
        }
        with self._session.transaction() as connection:
            connection.execute(sql.BEGIN_HISTORY, names)
            connection.execute(sql.END_HISTORY_BEFORE, names)

    def end_term(
        self,
        term: int,
        reason: Reason,
        events: int | None = None,
        actions: int | None = None,
        ago: float = 0.0,
    ) -> None:
        """A term of this worker is over; others may have led since.

        :param events: how many events it processed.
        :param actions: how many actions it ran.
        :param ago: seconds since it ended.
        """
        names = {
            "ha_uuid": self._ha_uuid,
            "term": term,
            "ended": reason.value,
            "events": events,
            "actions": actions,
            "ago": ago,
        }
        with self._session.transaction() as connection:
            connection.execute(sql.END_HISTORY, names)

    def prune(self, term: int) -> int:
        """Delete all but the last terms.

        :param term: the present one.
        :returns: how many rows that were.
        """
        names = {"ha_uuid": self._ha_uuid, "term": term, "terms": TERMS}
        with self._session.transaction() as connection:
            return connection.execute(sql.FORGET_HISTORY, names).rowcount
