"""What time it is in the engine's sessions, in milliseconds since 1970."""

from __future__ import annotations

import time

from ..election import clock


class SessionTimes:
    """The time of each session of one worker.

    A term begins at the time of the server, which all workers share, and goes
    on by a clock that nobody sets. So the wall clocks of the machines may show
    what they like: windows and throttles last as long as the rules say.

    A session never goes back. One that is ahead, since the server's clock was
    set back or another server took over, goes on from where it is.
    """

    def __init__(self) -> None:
        self._ahead: dict[int, int] = {}
        # Until the first term, in which only the warm-up asks.
        self.begin(time.time_ns() // 1_000_000)

    def begin(self, at: int) -> None:
        """It is that time in all sessions now."""
        self._offset = at - _steady()
        self._ahead.clear()

    def restored(self, session: int, at: int) -> int:
        """This session is at that time already.

        :returns: the present of it.
        """
        now = self.now(session)
        self._ahead[session] = max(0, at - now)
        return max(at, now)

    def now(self, session: int) -> int:
        """The present of this session."""
        return self._offset + _steady() + self._ahead.get(session, 0)


def _steady() -> int:
    return round(clock.now() * 1000)
