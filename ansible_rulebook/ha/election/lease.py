"""How long a leader may trust its lock without asking the server."""

from __future__ import annotations

import math
from dataclasses import dataclass

POLL_INTERVAL = 5.0  # seconds
LEASES_PER_POLL = 3.0  # default lease, in poll intervals
LONGEST = 3600.0  # seconds, for either
SHORTEST_LEASE = 1.0  # seconds
SHORTEST_POLL = 0.01  # seconds; less would only keep the server busy


@dataclass(frozen=True)
class Timings:
    """Poll interval and lease duration, and what follows from them.

    The scheme is that of a lease with a safety margin (Gray and Cheriton,
    "Leases", 1989; the same split as in Kubernetes' leader election): the
    server frees the lock when it heard nothing for ``lease_duration``, the
    leader trusts it no longer after two thirds of that, counted from when the
    last successful renewal was *sent*. The last third is for demotion.

    :param poll_interval: seconds between two looks at the lock.
    :param lease_duration: seconds after which the server gives the lock of
        a silent leader to the next worker.
    :raises ValueError: if one of them is out of range.
    """

    poll_interval: float = POLL_INTERVAL
    lease_duration: float = POLL_INTERVAL * LEASES_PER_POLL

    def __post_init__(self) -> None:
        check_seconds("poll_interval", self.poll_interval, SHORTEST_POLL)
        check_seconds("lease_duration", self.lease_duration, SHORTEST_LEASE)

    @classmethod
    def of(
        cls, poll_interval: float, lease_duration: float | None = None
    ) -> Timings:
        """Timings with the default lease where none is given."""
        check_seconds("poll_interval", poll_interval, SHORTEST_POLL)
        if lease_duration is None:
            lease_duration = poll_interval * LEASES_PER_POLL
            lease_duration = min(max(lease_duration, SHORTEST_LEASE), LONGEST)
        return cls(poll_interval, lease_duration)

    def shortened(self, lease_duration: float) -> Timings:
        """The same with a lease that is at most ``lease_duration``."""
        if lease_duration >= self.lease_duration:
            return self
        return Timings(self.poll_interval, max(lease_duration, SHORTEST_LEASE))

    @property
    def renew_every(self) -> float:
        """Seconds from one renewal of the leader to the next."""
        return min(self.poll_interval, self.lease_duration / 3)

    @property
    def trust_for(self) -> float:
        """Seconds from sending a renewal to the end of trust in the lock."""
        return self.lease_duration * 2 / 3

    @property
    def demote_within(self) -> float:
        """Seconds that a demotion may take."""
        return self.lease_duration / 3


def check_seconds(name: str, value: float, least: float) -> None:
    """Check a duration.

    :raises ValueError: saying what ``name`` must be.
    """
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a positive number of seconds")
    if value < least:
        raise ValueError(f"{name} must be at least {least:g} seconds")
    if value > LONGEST:
        raise ValueError(f"{name} must be at most {LONGEST:g} seconds")
