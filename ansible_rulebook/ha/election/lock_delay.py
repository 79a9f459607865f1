"""The lock delay: how long a free lock must not be taken."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 16  # lives to remember


@dataclass(frozen=True)
class ServerLife:
    """What tells one life of a server from the next.

    The locks are in the server's memory, and end with its life.

    :param began: when it was started, or has recovered from a crash of one
        of its processes, which empties the table of locks, too.
    :param lineage: which data it has. Another server has other data, and so
        has a standby since its promotion. Empty if the server does not tell.
    """

    began: str
    lineage: str = ""


class LockDelay:
    """The lock delay in each life of the server that a worker has met.

    A server that is started again, or a standby that takes its place, knows
    nothing of the lock that was held before. If the machine of the old one
    died without a word, or the network did, its leader learns of that only
    when it asks the next time. So the leader is given the time that it would
    have had: the lease (Gray and Cheriton, "Leases", 1989, let a server that
    was started again wait for the longest lease that it may have granted).
    The name is that of Chubby (Burrows, 2006) and Consul.
    """

    def __init__(self) -> None:
        self._until: dict[ServerLife, float] = {}

    def until(
        self,
        life: ServerLife,
        now: float,
        lease_duration: float,
        led_last: bool = False,
    ) -> float:
        """When a free lock may be taken, in a session that is open now.

        When this life began is not asked for: that would be by the clock of
        a machine that may have been started just now, too.

        :param now: seconds of the lease clock, as all other times.
        :param lease_duration: seconds.
        :param led_last: the last claim of a term, which is durable and of
            the same lineage, is this worker's own: nobody has led since.
        :returns: the time, which is past if there is no delay.
        """
        if life not in self._until:
            # The first one is met without a delay: there is nothing to tell
            # of another one before, and each first start would take as long.
            no_delay = led_last or not self._until
            if len(self._until) >= MOST:
                self._until.clear()
            self._until[life] = (
                float("-inf") if no_delay else now + lease_duration
            )
        return self._until[life]
