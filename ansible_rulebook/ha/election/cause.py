"""Why a worker leads, as far as it can know that by itself.

It has seen who held the lock before, and what that one said. A leader that
gives the lock up says why in the statement that frees it (its *last word*).
Who ends without one leaves the look of it: a session that has ended, one that
had given no sign for as long as its lease, another life of the server.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .beacon import Beacon
from .holder import LockHolder
from .names import application_name
from .reasons import Reason

LATE = 0.5  # of the lease; a leader renews three times in it
OUT = 0.9  # of the lease: it has run out, but for the time that asking takes


@dataclass(frozen=True)
class Cause:
    """What a new leader has found out."""

    reason: Reason = Reason.UNKNOWN
    """Why it leads: why the one before it no longer does, or FIRST."""
    replaces: str = ""
    """The worker that led before; empty if none is known."""
    evidence: str = ""
    """What that is concluded from, for people."""

    @property
    def ended(self) -> Reason:
        """Why the last leader on record no longer leads."""
        is_of_another = self.reason in (Reason.FIRST, Reason.PAUSED)
        return Reason.UNKNOWN if is_of_another else self.reason

    def recorded(self, worker: str) -> Cause:
        """The same with what the table of terms says.

        :param worker: the worker of the last term; empty if there is none.
        """
        if not worker or self.replaces == worker:
            return self
        is_same = _name(self.replaces) == _name(worker)
        if is_same or self.reason in (Reason.FIRST, Reason.PAUSED):
            return replace(self, replaces=worker)
        seen = self.replaces or "nobody"
        return Cause(
            Reason.UNKNOWN,
            worker,
            f"the last leader that this worker has seen is {seen}",
        )


def _name(worker: str) -> str:
    return application_name(0, worker)  # which may be all that is known


@dataclass(frozen=True)
class Trail:
    """What a worker knows when it gets the lock."""

    own: str
    """This worker's id."""
    lease: float
    """Seconds."""
    holder: LockHolder | None = None
    """Who held the lock when it last looked; itself not included."""
    ago: float = 0.0
    """Seconds since that look."""
    has_waited: bool = False
    """It was in the queue behind that session until now."""
    is_new_life: bool = False
    """The server was started again or promoted since."""
    own_end: Reason | None = None
    """Why its own term ended, if it was the last leader that it knows."""
    last_word: LockHolder | None = None
    """A session that has just given the lock up, and says why."""
    unannounced: Cause | None = None
    """Why it led before, if that promotion was not finished."""


def find_cause(trail: Trail) -> Cause:
    """Why the worker leads now."""
    holder, word = trail.holder, trail.last_word
    if word is not None and word.said is not None:
        return _by_last_word(word, word.said)
    if holder is not None and holder.is_pause:
        ended = f"the pause by {holder.worker} is over: its session ended"
        return Cause(Reason.PAUSED, evidence=ended)
    before = trail.own if trail.own_end else holder and holder.worker
    if before and trail.is_new_life:
        return Cause(
            Reason.SERVER_RESTARTED,
            before,
            f"PostgreSQL was started again or promoted since {before} led",
        )
    if trail.own_end is not None:
        return Cause(trail.own_end, trail.own, "this worker had led itself")
    if holder is not None and trail.has_waited:
        return _by_silence(holder, trail)
    if trail.unannounced is not None:
        return trail.unannounced
    if holder is None:
        return Cause(Reason.FIRST, evidence="nobody led when it came")
    return Cause(
        Reason.UNKNOWN,
        holder.worker,
        "the lock was free when it was connected again",
    )


def _by_last_word(word: LockHolder, said: Beacon) -> Cause:
    if word.is_pause:
        return Cause(
            Reason.PAUSED, evidence=f"the pause by {word.worker} is over"
        )
    why = f": {said.reason}" if said.reason else ""
    return Cause(Reason.of(said.ended), word.worker, f"it said so{why}")


def _by_silence(holder: LockHolder, trail: Trail) -> Cause:
    if not holder.is_worker:
        return Cause(
            Reason.UNKNOWN,
            holder.worker,
            "a session that was no worker's held the lock",
        )
    silent = None if holder.silent is None else holder.silent + trail.ago
    # One that was on time when it was last looked at may have gone on.
    if (
        silent is not None
        and silent >= OUT * trail.lease
        and silent - trail.ago >= LATE * trail.lease
    ):
        return Cause(
            Reason.LEASE_EXPIRED,
            holder.worker,
            f"it gave no sign for {silent:.1f} s, and its lease is "
            f"{trail.lease:g} s",
        )
    return Cause(Reason.KILLED, holder.worker, "its session ended")
