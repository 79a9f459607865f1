"""Which follower gets the lead from a leader of a lower priority."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .beacon import Beacon

HIGHEST = 1000
DEFAULT = 100
NEVER = 0  # this worker does not lead at all
LEASES = 2  # for which a worker is ready before it asks, and before it repeats


class Preference:
    """Decides when a follower asks a leader of a lower priority to hand over.

    Only ever upwards, so two workers do not take the lead from each other in
    turns. A worker that comes and goes is not ready for long enough.

    :param own: this worker's priority.
    """

    def __init__(self, own: int) -> None:
        self._own = own
        self._ready_since: float | None = None

    def lost_session(self) -> None:
        """This worker could not take over now."""
        self._ready_since = None

    def outranks(
        self, leader: Beacon | None, now: float, lease: float
    ) -> bool:
        """Whether to ask now. Counts the time from here if so.

        :param leader: what the leader says of itself; None if that is not
            known.
        :param now: seconds of a clock that never steps back.
        :param lease: seconds.
        """
        if self._ready_since is None:
            self._ready_since = now
        if leader is None or leader.role != "leader":
            return False
        if leader.priority >= self._own:
            return False
        if now < self._ready_since + LEASES * lease:
            return False
        self._ready_since = now
        return True
