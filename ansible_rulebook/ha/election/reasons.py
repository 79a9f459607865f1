"""Why the role of a worker changes: a closed list.

It is the same in tables, metrics and words.
"""

from __future__ import annotations

import enum


class Reason(enum.Enum):
    """Why a worker no longer leads, or why it does."""

    STOPPED = "stopped"
    STEPPED_DOWN = "stepped_down"
    SWITCHOVER = "switchover"
    PRIORITY = "priority"
    PAUSED = "paused"
    SESSION_LOST = "session_lost"
    LEASE_EXPIRED = "lease_expired"
    PROMOTION_FAILED = "promotion_failed"
    STATE_FAILED = "state_failed"
    ENGINE_FAILED = "engine_failed"
    KILLED = "killed"
    SERVER_RESTARTED = "server_restarted"
    FIRST = "first"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, text: str | None) -> Reason:
        """The reason of that name; UNKNOWN for every other text."""
        try:
            return cls(text)
        except ValueError:
            return cls.UNKNOWN

    @property
    def words(self) -> str:
        """What happened to the worker, as the rest of a sentence."""
        return _WORDS[self][0]

    @property
    def advice(self) -> str:
        """What an operator does about it: whole sentences."""
        return _WORDS[self][1]


_NOTHING = "Nothing has to be done."
_WORDS = {
    Reason.STOPPED: (
        "was stopped in good order",
        "Nothing has to be done if the stop was wanted. Otherwise look for "
        "what stopped it, such as a rulebook that ended.",
    ),
    Reason.STEPPED_DOWN: (
        "gave up leadership by itself",
        "Look in its log for the reason.",
    ),
    Reason.SWITCHOVER: ("was asked to hand over", _NOTHING),
    Reason.PRIORITY: (
        "was asked to hand over by a worker of a higher priority",
        _NOTHING,
    ),
    Reason.PAUSED: ("was asked to hand over for a pause", _NOTHING),
    Reason.SESSION_LOST: (
        "lost its session with PostgreSQL",
        "Look in its log and in PostgreSQL's log, and check the network "
        "between the two.",
    ),
    Reason.LEASE_EXPIRED: (
        "did not renew its lease in time",
        "Check whether its machine is overloaded or paused, and the network "
        "to PostgreSQL. If it happens often, give a longer lease.",
    ),
    Reason.PROMOTION_FAILED: (
        "could not finish its promotion",
        "Look in its log for the error of the promotion.",
    ),
    Reason.STATE_FAILED: (
        "could not write the state of the rules",
        "Look in its log for the error, and run 'ansible-rulebook-ha check'.",
    ),
    Reason.ENGINE_FAILED: (
        "had a failure in its rule engine",
        "Look in its log for the error of the engine.",
    ),
    Reason.KILLED: (
        "ended without a word",
        "See whether its process and its machine are alive. Look for an end "
        "by the kernel (out of memory), a crash, or a kill.",
    ),
    Reason.SERVER_RESTARTED: (
        "lost its session when PostgreSQL was started again",
        "Nothing has to be done if the restart was wanted. Otherwise look in "
        "PostgreSQL's log.",
    ),
    Reason.FIRST: (
        "is the first leader, or nobody had led for a while",
        "Nothing has to be done if all workers had been stopped.",
    ),
    Reason.UNKNOWN: (
        "no longer leads, and nobody recorded why",
        "Look in its log.",
    ),
}
