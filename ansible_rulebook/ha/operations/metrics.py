"""What a worker counts, for whom it counts it, and what is counted at all.

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
    """The calls that a worker makes. None of them waits.

    :meth:`event` and :meth:`action` are for the rulebook's thread, the others
    for any.
    """

    def transition(self, to: str, reason: str) -> None:
        """The role changed to ``to``, for one of the :mod:`.reasons`."""

    def event(self, source: str, outcome: str) -> None:
        """An event met one of :data:`EVENT_OUTCOMES`."""

    def action(self, outcome: str) -> None:
        """An action met one of :data:`ACTION_OUTCOMES`."""

    def renewal(self, seconds: float) -> None:
        """The server confirmed the lock after so many seconds."""

    def renewal_failed(self) -> None:
        """The server did not."""

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

    def loop_lag(self, seconds: float) -> None:
        """The rulebook's event loop answered after so many seconds, or has
        not answered for so long."""

    def totals(self) -> tuple[float, float]:
        """Events processed and actions ended so far."""
        return 0.0, 0.0

    def close(self) -> None:
        """Nothing will be counted or asked for any more."""
