"""The last terms of a cluster: who led, from when to when, why it ended.

Each leader writes the row of its own term. It also writes into the row of the
term before how that one ended, as far as it can tell. If the former leader is
alive, it knows better: what it writes of its own term replaces that.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..election.reasons import Reason
from . import sql
from .names import stored
from .session import StateSession

TERMS = 1000  # of a cluster that are kept
LONGEST_EVIDENCE = 500  # characters


@dataclass(frozen=True)
class Beginning:
    """What a new leader has found."""

    replaces: str = ""
    """The worker that led before; empty if nobody did."""
    reason: Reason = Reason.UNKNOWN
    """Why that one no longer leads, as far as can be told."""
    evidence: str = ""
    """Why that is believed, for people."""
    gap: float | None = None
    """Seconds that nobody led; None if unknown."""
    records: int | None = None
    """How many events and facts were recovered."""
    matches: int | None = None
    """How many matches with actions still to run were recovered."""


class History:
    """Writes the terms of one worker. Its calls block.

    Each call raises :class:`.ServerUnavailable` if the server cannot do it
    now, and :class:`.StateRefused` if the role may not.

    :param session: opened by the first call, closed by :meth:`close`.
    :param ha_uuid: the cluster.
    """

    def __init__(self, session: StateSession, ha_uuid: str) -> None:
        self._session = session
        self._ha_uuid = ha_uuid

    def close(self) -> None:
        """Disconnect."""
        self._session.close()

    def begin_term(self, term: int, found: Beginning) -> None:
        """A term of this worker has begun; it was claimed before.

        The term before is taken to have ended when the gap began.
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
