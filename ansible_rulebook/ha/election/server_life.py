"""One life of a server, and with it of the locks in its memory."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 16  # lives to remember


@dataclass(frozen=True)
class ServerLife:
    """What tells one life of a server from the next.

    :param began: when it was started, or has recovered from a crash of one
        of its processes, which empties the table of locks, too.
    :param lineage: which data it has: another one's, or other ones since a
        standby was promoted; empty if it does not tell.
    """

    began: str
    lineage: str = ""


class KnownLives:
    """The lives that a worker has met, and how long it stands back in each.

    A server that is started again, or a standby that takes its place, knows
    nothing of the lock that was held before. If the machine of the old one
    died without a word, or the network did, its leader learns of that only
    when it asks the next time, so it is given the time that it would have
    had: the lease (Gray and Cheriton, "Leases", 1989, let a server that was
    started again wait for the longest lease that it may have granted).
    """

    def __init__(self) -> None:
        self._until: dict[ServerLife, float] = {}

    def meet(
        self,
        life: ServerLife,
        now: float,
        lease_duration: float,
        led_last: bool = False,
    ) -> float:
        """A session is open.

        When this life began is not asked for: that would be by the clock of
        a machine that may have been started just now, too.

        :param now: seconds of the lease clock, as all other times.
        :param lease_duration: seconds.
        :param led_last: the last claim of a term, which is durable and of
            the same lineage, is this worker's own: nobody has led since.
        :returns: until when a free lock is to be left to others.
        """
        if life not in self._until:
            # The first one is met without a wait: there is nothing to tell
            # of another one before, and each first start would take as long.
            goes_first = led_last or not self._until
            if len(self._until) >= MOST:
                self._until.clear()
            self._until[life] = (
                float("-inf") if goes_first else now + lease_duration
            )
        return self._until[life]
