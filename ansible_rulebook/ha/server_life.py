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
        self._last: ServerLife | None = None
        self._heard_at = float("-inf")

    def heard(self, now: float) -> None:
        """The server that was met last is alive."""
        self._heard_at = max(self._heard_at, now)

    def meet(
        self,
        life: ServerLife,
        age: float,
        now: float,
        lease_duration: float,
        held_until: float,
    ) -> float:
        """A session is open.

        :param age: seconds since this life began, by the server's clock.
        :param now: seconds of the lease clock, as all other times.
        :param lease_duration: seconds.
        :param held_until: when the lock that this worker held can have been
            given away by a server that heard no more of it.
        :returns: until when a free lock is to be left to others.
        """
        if self._last is None:
            # There is nothing to tell it of another one before; to wait at
            # each first start would cost more than it gives.
            self._until[life] = float("-inf")
        elif life not in self._until:
            began = self._began(life, age, now)
            until = began + lease_duration
            if began <= held_until or until <= now:
                until = float("-inf")
            if len(self._until) >= MOST:
                self._until.clear()
            self._until[life] = until
        self._last = life
        self.heard(now)
        return self._until[life]

    def _began(self, life: ServerLife, age: float, now: float) -> float:
        """When, at the latest, this life's predecessor was heard for the last
        time by anybody."""
        last = self._last
        if last is None or not life.lineage or life.lineage != last.lineage:
            return now  # when a standby was promoted nobody says
        # Its clock may be set when its machine starts.
        return now - min(max(age, 0.0), now - self._heard_at)
