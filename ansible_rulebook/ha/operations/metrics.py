"""What a worker counts.

:class:`Metrics` counts nothing, so that a worker without ``/metrics`` pays
next to nothing; :class:`.prometheus.PrometheusMetrics` does.
"""

from __future__ import annotations

EVENT_OUTCOMES = (
    "processed",  # entered the rule engine
    "held",  # waits for this worker's next term
    "dropped",  # after a term's end, where the source will send it again
    "duplicate",  # processed in an earlier term
)
ACTION_OUTCOMES = (
    "successful",
    "failed",
    "cancelled",  # at the end of a term
    "refused",  # not started, since this worker did not lead
)
OTHER = "other"


class Metrics:
    """Called when something happens. No call waits.

    :meth:`event` and :meth:`action` are for the rulebook's thread, the others
    for any.
    """

    def transition(self, to: str, reason: str) -> None:
        """The role changed to ``to``, for one of the :mod:`.reasons`."""

    def event(self, source: str, outcome: str) -> None:
        """What became of an event: one of :data:`EVENT_OUTCOMES`."""

    def action(self, outcome: str) -> None:
        """How an action ended: one of :data:`ACTION_OUTCOMES`."""

    def renewal(self, seconds: float) -> None:
        """The server confirmed the lock after so many seconds."""

    def renewal_failed(self) -> None:
        """The server did not confirm the lock."""

    def reconnected(self) -> None:
        """A session was opened after an earlier one had ended."""

    def promotion(self, seconds: float) -> None:
        """A promotion took so many seconds."""

    def failover(self, seconds: float) -> None:
        """Nobody led for so many seconds before this worker did."""

    def commit(self, seconds: float) -> None:
        """A transaction of the journal took so many seconds."""

    def write_failed(self) -> None:
        """A write of the state failed."""

    def inbox(self, name: str, events: int, oldest: float | None) -> None:
        """So many events wait in an inbox, as the leader sees it.

        :param oldest: when the oldest arrived, in seconds since 1970; None if
            none waits, or this worker leads no more.
        """

    def loop_lag(self, seconds: float) -> None:
        """The rulebook's event loop answered after so many seconds, or has
        not answered for so long."""

    def totals(self) -> tuple[float, float]:
        """Events processed and actions ended so far."""
        return 0.0, 0.0

    def close(self) -> None:
        """Nothing will be counted or asked for any more."""
