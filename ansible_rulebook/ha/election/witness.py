"""Remembers who led last, for the time when this worker leads."""

from __future__ import annotations

from .cause import Cause, Trail, find_cause
from .holder import LockHolder
from .lock_delay import ServerLife
from .reasons import Reason


class Witness:
    """What one worker has seen of the leaders before it.

    :param own: this worker's id.
    """

    def __init__(self, own: str) -> None:
        self._own = own
        self._at = 0.0
        self._life: ServerLife | None = None
        self._own_end: Reason | None = None
        self._unannounced: Cause | None = None
        self.holder: LockHolder | None = None
        """Who held the lock at the last look; this worker not included."""

    def saw(
        self, holder: LockHolder | None, now: float, life: ServerLife | None
    ) -> None:
        """Another session holds the lock, if any does.

        :param now: seconds of a clock that never steps back.
        :param life: the server's.
        """
        if holder is None:
            return
        # Its own session of before may hold the lock until it has ended.
        if self._own_end is None or holder.worker != self._own:
            self.holder, self._at, self._life = holder, now, life
            self._own_end = self._unannounced = None

    def led(self, ended: Reason, life: ServerLife | None) -> None:
        """This worker has led itself.

        :param ended: why it does no more.
        :param life: the server's, in which it did.
        """
        self.holder = self._unannounced = None
        self._own_end, self._life = ended, life

    def won(
        self,
        last_word: LockHolder | None,
        now: float,
        life: ServerLife | None,
        lease: float,
        has_waited: bool,
    ) -> Cause:
        """This worker has got the lock: why, see :class:`.Trail`."""
        self._unannounced = find_cause(
            Trail(
                own=self._own,
                lease=lease,
                holder=self.holder,
                ago=now - self._at,
                has_waited=has_waited,
                is_new_life=life != self._life,
                own_end=self._own_end,
                last_word=last_word,
                unannounced=self._unannounced,
            )
        )
        return self._unannounced
