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
from typing import Any, Callable, Iterable, Iterator

from .java import call, elements, method, peek

logger = logging.getLogger(__name__)

PERIOD = 0.1  # seconds, as Drools' own clock
STEP = 100  # milliseconds, the same
MOST_STEPS = 100  # at a time
LATE = 0.25  # seconds; something has kept the event loop from ticking
NEVER = "100000 hours"  # part of what is stored: other rules if it changes

CONTAINER = "rulesExecutorContainer"
STORE = "handleScheduledMatchesHA"
LONG = "java.lang.Long"
SYSTEM = "java.lang.System"
UNIT = "java.util.concurrent.TimeUnit"
MAPPER = "org.drools.ansible.rulebook.integration.api.io.JsonMapper"


def without_clock(ruleset: str) -> str:
    """The same ruleset, with Drools' own clock at a standstill.

    :param ruleset: as JSON.
    """
    return json.dumps({**json.loads(ruleset), "clock_period": NEVER})


def behind(evaluator: Any) -> int:
    """How far a session's clock is behind the present, in milliseconds."""
    import jpy

    now = int(jpy.get_type(SYSTEM).currentTimeMillis())
    return now - int(call(evaluator, "getCurrentTime"))


def advance(engine: Any, session: int) -> Iterator[Any]:
    """Bring one session's clock up to date, and store what matches.

    In steps, so that timers run out in their order, and in not too many of
    them, since the event loop waits: a machine may have slept.

    :param engine: the Java object.
    :returns: each match of a timer.
    :raises RuntimeError: if they could not be stored, for example.
    """
    import jpy

    evaluator = _evaluator(peek(engine, CONTAINER).get(session))
    left = behind(evaluator)
    step = max(STEP, left // MOST_STEPS + 1)
    while left > 0:
        matches = _move(evaluator, min(step, left))
        left -= step
        if not matches.isEmpty():
            # A commit for each empty step would be ten per second.
            stored = call(engine, STORE, _long(session), matches)
            yield from json.loads(str(jpy.get_type(MAPPER).toJson(stored)))


def show_present(engine: Any) -> None:
    """Bring the clocks of empty sessions up to date, before a recovery.

    What is recovered takes place at the time that they show.

    :raises StateRefused: if the engine lacks what this module needs.
    """
    method(engine, STORE)
    for executor in elements(peek(engine, CONTAINER).getAllExecutors()):
        evaluator = _evaluator(executor)
        left = behind(evaluator)
        if left > 0:
            _move(evaluator, left)


def _evaluator(executor: Any) -> Any:
    return peek(executor, "rulesEvaluator")


def _move(evaluator: Any, milliseconds: int) -> Any:
    import jpy

    unit = jpy.get_type(UNIT).MILLISECONDS
    return call(evaluator, "internalAdvanceTime", _long(milliseconds), unit)


def _long(number: int) -> Any:
    import jpy

    return jpy.get_type(LONG).valueOf(number)


class SessionClock:
    """Keeps the time of a leader's sessions.

    Lives on the event loop on which events are posted.

    :param advance: moves the time of all sessions, as :func:`advance` does;
        returns each match with its session.
    :param deliver: told of each match, and of its session before that.
    :param failed: told why the time could not be moved; returns what that
        means for who waits for it.
    """

    def __init__(
        self,
        advance: Callable[[], Iterable[tuple[int, Any]]],
        deliver: Callable[[int, Any], None],
        failed: Callable[[Exception], Exception],
    ) -> None:
        self._advance = advance
        self._deliver = deliver
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._ticked_at = 0.0

    def start(self) -> None:
        """Show the present, and keep showing it.

        :raises HaError: if the engine cannot.
        """
        self.stop()
        try:
            self._tick()
        except Exception as error:
            raise self._failed(error) from None
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
            self._tick()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            try:
                self._tick()
            except Exception as error:
                self._failed(error)

    def _tick(self) -> None:
        self._ticked_at = time.monotonic()
        for session, match in self._advance():
            try:
                self._deliver(session, match)
            except Exception as error:
                logger.warning("A timed match was skipped: %s", error)
