"""One worker's time as leader."""

from __future__ import annotations

from typing import Callable

from .cause import Cause


class Term:
    """One worker's time as leader, from winning the lock to losing it.

    Safe to ask from any thread. Once over, it never becomes current again:
    a worker that leads again does so in a new term.
    """

    def __init__(
        self,
        number: int,
        trusted_until: float,
        session_is_over: Callable[[], bool],
        clock: Callable[[], float],
        session_pid: int = 0,
        lineage: str = "",
    ) -> None:
        self.number = number
        """Counts this worker's terms, from 1. With state it is the
        cluster's fencing token: it rises with each term of any worker."""
        self.session_pid = session_pid
        """Process id of the server session that holds the lock."""
        self.lineage = lineage
        """Which data that server has; empty if it does not tell."""
        self.cause = Cause()
        """Why this worker leads. With state, the table of terms adds to it."""
        self.gap: float | None = None
        """Seconds that nobody led before it was announced, if known."""
        self._trusted_until = trusted_until
        self._session_is_over = session_is_over
        self._clock = clock
        self._over = False

    def is_current(self) -> bool:
        """Whether the lock is surely ours at this instant.

        Not a cached flag: it compares the clock with the lease and asks the
        socket, so a process that was paused knows before it acts.
        """
        if (
            not self._over
            and self._clock() < self._trusted_until
            and not self._session_is_over()
        ):
            return True
        self._over = True  # what was answered once stays true
        return False

    @property
    def seen_over(self) -> bool:
        """Whether the end of the term has been seen.

        True once :meth:`end` was called, or :meth:`is_current` has answered
        no. A term may run out before that.
        """
        return self._over

    @property
    def trusted_until(self) -> float:
        """When trust in the lease ends unless renewed (lease clock)."""
        return self._trusted_until

    def renewed(self, trusted_until: float) -> None:
        """The server confirmed the lock once more."""
        self._trusted_until = trusted_until

    def end(self) -> None:
        """End the term."""
        self._over = True

    def __repr__(self) -> str:
        state = "current" if self.is_current() else "over"
        return f"<Term {self.number} {state}>"
