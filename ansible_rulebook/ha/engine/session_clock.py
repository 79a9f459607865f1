"""Time as the engine's sessions see it, moved by the leader.

Drools' own clock moves in a thread, ten times per second. Here each call
first brings its session up to date, so that no event overtakes a timer that
ran out before it. In between this clock does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Callable

logger = logging.getLogger(__name__)

PERIOD = 0.1  # seconds, as Drools' own clock


class SessionClock:
    """Keeps the time of a leader's sessions.

    Lives on the event loop on which events are posted.

    :param advance: brings all sessions up to date.
    """

    def __init__(self, advance: Callable[[], None]) -> None:
        self._advance = advance
        self._task: asyncio.Task[None] | None = None
        self._told = ""

    def start(self) -> None:
        """Let time pass from now on."""
        self.pause()
        self._task = asyncio.ensure_future(self._run())

    def pause(self) -> None:
        """Let no time pass for the rules until :meth:`start`."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                self._advance()
            except Exception as error:
                if str(error) != self._told:
                    self._told = str(error)
                    logger.exception("Timers of the rules cannot run")
            await asyncio.sleep(PERIOD)
