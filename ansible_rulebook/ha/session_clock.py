"""Time as the engine's sessions see it, moved by the leader.

Drools would move it each 100 ms from a thread of its own, store the matches
of timers there, amid whatever else is being stored, and keep a failure to
itself. What one of the two has failed to store, the other one then takes for
stored. So that clock is stopped, and ours moves the time between two events.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any, Callable, Iterable

from .java import call, peek

logger = logging.getLogger(__name__)

PERIOD = 0.1  # seconds, as Drools' own clock
STEP = 100  # milliseconds, the same
LATE = 0.25  # seconds; something has kept the event loop from ticking
NEVER = "100000 hours"

LONG = "java.lang.Long"
SYSTEM = "java.lang.System"
UNIT = "java.util.concurrent.TimeUnit"
MAPPER = "org.drools.ansible.rulebook.integration.api.io.JsonMapper"


def without_clock(ruleset: str) -> str:
    """The same ruleset, with Drools' own clock at a standstill.

    :param ruleset: as JSON.
    """
    return json.dumps({**json.loads(ruleset), "clock_period": NEVER})


def advance(engine: Any, session: int, limit: int | None) -> str | None:
    """Move one session's clock towards the present, and store what matches.

    :param engine: the Java object.
    :param limit: milliseconds to move by at most.
    :returns: the matches of timers that have run out as JSON; None if the
        clock shows the present.
    :raises RuntimeError: if they could not be stored, for example.
    """
    import jpy

    container = peek(engine, "rulesExecutorContainer")
    evaluator = peek(container.get(session), "rulesEvaluator")
    now = int(jpy.get_type(SYSTEM).currentTimeMillis())
    behind = now - int(call(evaluator, "getCurrentTime"))
    if behind <= 0:
        return None
    long = jpy.get_type(LONG).valueOf
    step = behind if limit is None else min(behind, limit)
    milliseconds = jpy.get_type(UNIT).MILLISECONDS
    matches = call(evaluator, "internalAdvanceTime", long(step), milliseconds)
    if matches.isEmpty():
        return "[]"
    # Stores them; a commit for each empty step would be ten per second.
    stored = call(engine, "handleScheduledMatchesHA", long(session), matches)
    return str(jpy.get_type(MAPPER).toJson(stored))


class SessionClock:
    """Keeps the time of a leader's sessions.

    Lives on the event loop on which events are posted.

    :param advance: moves the time of all sessions, as :func:`advance` does;
        returns each match with its session.
    :param deliver: told of each match, and of its session before that.
    :param failed: told why the time could not be moved.
    """

    def __init__(
        self,
        advance: Callable[[int | None], Iterable[tuple[int, Any]]],
        deliver: Callable[[int, Any], None],
        failed: Callable[[RuntimeError], None],
    ) -> None:
        self._advance = advance
        self._deliver = deliver
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._ticked_at = 0.0

    def start(self) -> None:
        """Show the present, and keep showing it.

        :raises RuntimeError: if the engine cannot.
        """
        # A follower's sessions are as old as the process, and empty.
        self._tick(limit=None)
        self._task = asyncio.ensure_future(self._run())

    def stop(self) -> None:
        """Time stands still."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def catch_up(self) -> None:
        """After a blocked event loop, have timers run out before an event.

        :raises RuntimeError: if the engine cannot.
        """
        late = time.monotonic() > self._ticked_at + LATE
        if late and self._task is not None:
            self._tick(limit=STEP)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            try:
                self._tick(limit=STEP)
            except RuntimeError as error:
                self._failed(error)

    def _tick(self, limit: int | None) -> None:
        self._ticked_at = time.monotonic()
        for session, match in self._advance(limit):
            try:
                self._deliver(session, match)
            except Exception as error:
                logger.warning("A timed match was skipped: %s", error)
