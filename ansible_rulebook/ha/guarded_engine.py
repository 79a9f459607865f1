"""What stands between upstream and the engine while state is kept."""

from __future__ import annotations

import logging
import re
import threading
from typing import Any, Callable, Iterator, NoReturn, Protocol

from .drools_state import (
    DroolsState,
    is_failed_write,
    is_surely_unstored,
    reason,
    reset,
)
from .errors import HaError, ServerUnavailable
from .flush import Mark
from .session_clock import SessionClock, advance, without_clock

logger = logging.getLogger(__name__)

# What changes the state: written before the call returns.
WRITES = (
    "assertFact",
    "retractFact",
    "retractMatchingFacts",
    "advanceTime",
    "addActionInfo",
    "updateActionInfo",
)
# In JSON; PostgreSQL's text cannot hold it. Behind a backslash of its own it
# is six harmless characters.
NUL = "\\u0000"
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Source(Protocol):
    """Where an event came from, and goes back to if it is not stored."""

    def is_hopeless(self) -> bool:
        """Whether that event could not be stored in too many tries."""

    def stored(self, mark: Mark) -> None:
        """That event is stored, and safe when this mark is."""


class Journal(Protocol):
    """Told of all writes."""

    def about_to_write(self) -> None:
        """The engine is about to write something."""

    def wrote(self) -> Mark | None:
        """It has; safe with this mark, or at once if there is none."""


Failed = Callable[[Exception, "Source | None", bool], None]


class GuardedEngine:
    """The engine, with each failed write told before anybody can go on.

    Drools' state is spoilt by a write that failed and is followed by one
    that succeeds, so the first has to be the last.

    :param engine: the Java object.
    :param drools: its state.
    :param source: finds out where the event of the present task came from,
        None if it is an action's.
    :param failed: told of a failed write, the source of the event that it
        has left unstored, if it was one, and whether that one may be stored
        after all.
    :param deliver: told of each match of a timer, and its session.
    :param completed: takes the place of ``deleteActionInfo``: told of each
        match whose last action has run.
    :param refused: told why there are rules whose state cannot be kept; if
        it raises, they are not built.
    :param journal: told of each write.
    """

    def __init__(
        self,
        engine: Any,
        drools: DroolsState,
        source: Callable[[], Source | None],
        failed: Failed,
        deliver: Callable[[int, Any], None],
        completed: Callable[[str], None],
        refused: Callable[[str], None],
        journal: Journal,
    ) -> None:
        self._engine = engine
        self._drools = drools
        self._source = source
        self._failed = failed
        self._completed = completed
        self._refused = refused
        self._journal = journal
        self._sessions: list[int] = []
        self._is_plain = False
        self._told = ""
        self.clock = SessionClock(self._advance, deliver, self._tick_failed)
        """The sessions' time; to run while this worker leads."""
        for name in WRITES:
            setattr(self, name, self._guarded(getattr(engine, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def stop_guarding(self) -> None:
        """No state is kept any more: be the engine and nothing else.

        Sessions that were made before have no clock of their own.
        """
        self.clock.stop()
        self._is_plain = True
        if self._drools.is_initialised:
            self._drools.disable_leader()
            self._drools.leave_ha_mode()

    # -- as the engine's -------------------------------------------------

    def createRuleset(self, rules: str) -> int:
        """A session for these rules, without state if need be.

        Drools 0.4 cannot build some rules if it is to keep their state.
        """
        if self._is_plain:
            return int(self._engine.createRuleset(rules))
        try:
            session = int(self._engine.createRuleset(without_clock(rules)))
        except RuntimeError as error:
            if not self._drools.is_initialised:
                raise RuntimeError(reason(error)) from None
            self._drools.leave_ha_mode()
            session = int(self._engine.createRuleset(rules))
            self._refused(
                f"Drools cannot keep the state of these rules: {reason(error)}"
            )
            self._begin_again()
        self._sessions.append(session)
        return session

    def assertEvent(self, session: int, event: str) -> Any:
        """Give the engine an event.

        :returns: the matches as JSON.
        """
        if self._is_plain:
            return self._engine.assertEvent(session, event)
        _check(event)
        source = self._source()
        if source is not None and source.is_hopeless():
            _refuse("An event that could never be stored is dropped")
        self._journal.about_to_write()
        try:
            self.clock.catch_up()
        except Exception as error:
            problem = self._tick_failed(error, source)
            if isinstance(problem, ServerUnavailable):
                raise RuntimeError(str(problem)) from None
        try:
            matches = self._engine.assertEvent(session, event)
        except RuntimeError as error:
            raise self._look_at(error, source) from None
        mark = self._journal.wrote()
        if source is not None and mark is not None:
            source.stored(mark)
        return matches

    def dispose(self, session: int) -> Any:
        """End a session."""
        if session in self._sessions:
            self._sessions.remove(session)
        return self._engine.dispose(session)

    def shutdown(self) -> None:
        """End the engine, and do not wait for that.

        It closes its connections, which takes long if the server does not
        answer, and the lock is not to wait for that.
        """
        self.clock.stop()
        threading.Thread(
            target=self._engine.shutdown, name="ha-engine-end", daemon=True
        ).start()

    def deleteActionInfo(self, session: int, match: str) -> None:
        """All actions of a match have run."""
        if not self._is_plain:
            self._completed(match)

    # -- time ------------------------------------------------------------

    def _advance(self) -> Iterator[tuple[int, Any]]:
        self._journal.about_to_write()
        for session in list(self._sessions):
            for match in advance(self._engine, session):
                self._journal.wrote()
                yield session, match

    def _tick_failed(
        self, error: Exception, source: Source | None = None
    ) -> HaError:
        """What came of it; the event of the source is not even begun."""
        why = reason(error)
        if is_failed_write(error):
            self._failed(error, source, False)
            return ServerUnavailable(why)
        if why != self._told:
            self._told = why
            logger.error("Timers of the rules cannot run: %s", why)
        return HaError(f"timers of the rules cannot run: {why}")

    # -- failures --------------------------------------------------------

    def _look_at(
        self, error: Exception, source: Source | None
    ) -> RuntimeError:
        if is_failed_write(error):
            self._failed(error, source, not is_surely_unstored(error))
        return RuntimeError(reason(error))

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(session: int, *values: Any) -> Any:
            if self._is_plain:
                return method(session, *values)
            if values and isinstance(values[0], str):
                _check(values[0])
            self._journal.about_to_write()
            try:
                result = method(session, *values)
            except RuntimeError as error:
                raise self._look_at(error, None) from None
            self._journal.wrote()
            return result

        return call

    def _begin_again(self) -> None:
        from drools.ruleset import RulesetCollection

        sessions, self._sessions = self._sessions, []
        for session in sessions:
            reset(RulesetCollection.get_by_session_id(session))


def _check(text: str) -> None:
    if NUL in text and _NUL.search(text):
        _refuse(
            "An event or fact with a NUL character cannot be stored in "
            "PostgreSQL and is dropped"
        )


def _refuse(why: str) -> NoReturn:
    """Not for the engine; a source with feedback is told to go on."""
    from drools.exceptions import MessageNotHandledException

    logger.error(why)
    raise MessageNotHandledException(why)
