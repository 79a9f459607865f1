"""What the election says in the log."""

from __future__ import annotations

import logging
import uuid
from typing import Callable, Iterable

from ..log import WorkerLog
from . import clock as lease_clock
from .term import Term

logger = logging.getLogger(__name__)


class ElectionLog(WorkerLog):
    """One line for each change, and one for each outage.

    :param clock: that of the election.
    """

    def __init__(
        self,
        worker_id: str,
        ha_uuid: uuid.UUID,
        clock: Callable[[], float] = lease_clock.now,
    ) -> None:
        super().__init__(logger, worker_id, ha_uuid)
        self._clock = clock
        self._led_at: float | None = None
        self.leader = ""
        """Who led when this worker last saw a leader."""
        self.in_outage = False
        """Whether the last thing known of the server is that it is away."""

    # -- the server ------------------------------------------------------

    def outage(self, error: Exception, expected: bool = False) -> None:
        """There is no session. Only the first line of an outage is seen.

        :param expected: this worker is stopping.
        """
        if self.in_outage or expected:
            self.debug("Still no session", str(error))
            return
        self.in_outage = True
        self.warning(
            "No session with PostgreSQL, following and retrying", str(error)
        )

    def reachable(self) -> None:
        """The server has answered; ends an outage."""
        if self.in_outage:
            self.in_outage = False
            self.info("Reconnected to PostgreSQL")

    def lock_delay(self, seconds: float) -> None:
        """A free lock is not taken for this long."""
        self.info(
            "Lock delay, since the server was started or promoted and "
            "its last leader may not know yet",
            seconds=round(seconds, 1),
        )

    def same_id(self, names: Iterable[str]) -> None:
        """Other processes go on to use this worker's id."""
        self.warning(
            "Another worker of the cluster has the same id: logs and "
            "tables cannot tell the two apart",
            ", ".join(sorted(names)),
        )

    # -- leadership ------------------------------------------------------

    def was_led(self, at: float | None = None) -> None:
        """Another worker led, as far as is known.

        :param at: on the clock; None: just now.
        """
        self._led_at = self._clock() if at is None else at

    def following(
        self, leader: str | None, again: bool = False, leads: bool = True
    ) -> None:
        """Another session holds the lock.

        :param again: this is asked all the time, so only a change is news.
        :param leads: whether it leads; a pause does not.
        """
        if leads:
            self.was_led()
        if again and leader == self.leader and not self.in_outage:
            return
        self.leader = leader or ""
        self.reachable()
        self.info("Following", leader=leader)

    def acquired(self, term: Term) -> float | None:
        """The term is announced.

        :returns: seconds that nobody led before, if that is known.
        """
        fields: dict[str, object] = {"term": term.number}
        gap = None
        if self._led_at is not None:
            gap = self._clock() - self._led_at
            fields["nobody_led"] = f"{gap:.2f} s"
        if term.cause.replaces not in ("", self._worker_id):
            fields["replaces"] = term.cause.replaces
        fields["because"] = term.cause.reason.value
        self.leader = self._worker_id
        self.write(
            logging.INFO, "Successfully acquired leadership", fields=fields
        )
        return gap

    def lost(
        self, term: Term, reason: str, confirmed_at: float | None
    ) -> None:
        """A term that was announced is over.

        :param confirmed_at: if its end was not asked for, when the last
            renewal that succeeded was sent.
        """
        # Not "now" for a process that was paused.
        self._led_at = min(self._clock(), term.trusted_until)
        if confirmed_at is None:
            self.info("Lost leadership", reason, term=term.number)
            return
        # How long a process was paused, for one thing.
        silence = self._clock() - confirmed_at
        self.warning(
            "Lost leadership",
            reason,
            term=term.number,
            last_confirmed=f"{silence:.1f} s ago",
        )
