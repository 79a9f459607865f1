"""One life of a server, and with it of the locks in its memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerLife:
    """What tells one life of a server from the next.

    :param started: when its postmaster was started, as it says itself.
    :param timeline: changes when a standby is promoted.
    """

    started: str
    timeline: str


def stand_back_for(
    last: ServerLife | None,
    present: ServerLife | None,
    age: float,
    lease_duration: float,
) -> float:
    """How long a worker that has not led should let others go first.

    A server that is started again, or a standby that takes its place, knows
    nothing of the lock that was held before. If the machine of the old one
    died without a word, or the network did, its leader learns of that only
    when it asks the next time, so it is given the time that it would have
    had: the lease (Gray and Cheriton, "Leases", 1989, let a server that was
    started again wait for the longest lease that it may have granted).

    :param last: the life that this worker saw before.
    :param present: the one that it is connected to.
    :param age: seconds since that one was started, by the server's clock.
    :param lease_duration: seconds.
    :returns: seconds.
    """
    if last is None or present is None or last == present:
        return 0.0
    if last.timeline == present.timeline:
        return min(max(lease_duration - age, 0.0), lease_duration)
    return lease_duration  # when it was promoted nobody says
