"""What stands between upstream and the engine while state is kept."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Callable, NoReturn, Protocol

from .drools_state import DroolsState, is_failed_write, reason, reset

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
ENDS = ("shutdown", "close")
# In JSON; PostgreSQL's text cannot hold it. Behind a backslash of its own it
# is six harmless characters.
NUL = "\\u0000"
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Source(Protocol):
    """Where an event came from, and goes back to if it is not stored."""

    may_overlap: bool
    """Nobody is told that the event is stored when the call returns."""

    def is_hopeless(self) -> bool:
        """Whether that event could not be stored in too many tries."""


Failed = Callable[[Exception, "list[Source]"], None]


@dataclass
class _Underway:
    """An event that the engine is at."""

    session: int
    future: Future[Any]
    source: Source


class GuardedEngine:
    """The engine, with each failed write told before anybody can go on.

    Drools' state is spoilt by a write that failed and is followed by one
    that succeeds, so the first has to be the last.

    An event takes the engine a while, most of which it waits for the
    database. Where nobody relies on the answer the event loop goes on
    meanwhile, until there is the next thing to do for the engine: events
    are stored one after the other, as ever.

    :param engine: the Java object.
    :param drools: its state.
    :param thread: where the engine works on events, one at a time.
    :param source: finds out where the event of the present task came from,
        None if it is an action's.
    :param failed: told of a failed write, and the sources of the events
        that it has left unstored, in order.
    :param completed: takes the place of ``deleteActionInfo``: told of each
        match whose last action has run.
    :param refused: told why there are rules whose state cannot be kept; if
        it raises, they are not built.
    """

    def __init__(
        self,
        engine: Any,
        drools: DroolsState,
        thread: Executor,
        source: Callable[[], Source | None],
        failed: Failed,
        completed: Callable[[str], None],
        refused: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._drools = drools
        self._thread = thread
        self._source = source
        self._failed = failed
        self._completed = completed
        self._refused = refused
        self._sessions: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._underway: _Underway | None = None
        self._is_plain = False
        for name in WRITES:
            setattr(self, name, self._guarded(getattr(engine, name)))
        for name in ENDS:
            setattr(self, name, self._after_events(getattr(engine, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def stop_guarding(self) -> None:
        """No state is kept any more: be the engine and nothing else."""
        self.settle()
        self._is_plain = True

    # -- as the engine's -------------------------------------------------

    def createRuleset(self, *rules: Any) -> int:
        """A session for these rules, without state if need be.

        Drools 0.4 cannot build some rules if it is to keep their state.
        """
        try:
            session = int(self._engine.createRuleset(*rules))
        except RuntimeError as error:
            if not self._drools.is_initialised:
                raise RuntimeError(reason(error)) from None
            self._drools.leave_ha_mode()
            session = int(self._engine.createRuleset(*rules))
            self._refused(
                f"Drools cannot keep the state of these rules: {reason(error)}"
            )
            self._begin_again()
        self._sessions.append(session)
        return session

    def assertEvent(self, session: int, event: str) -> Any:
        """Give the engine an event.

        :returns: the matches as JSON, or None if they come later.
        """
        if self._is_plain:
            return self._engine.assertEvent(session, event)
        _check(event)
        source = self._source()
        if source is not None and source.is_hopeless():
            _refuse("An event that could never be stored is dropped")
        self._settle(source)
        method = self._engine.assertEvent
        if source is None or not source.may_overlap:
            try:
                return method(session, event)
            except RuntimeError as error:
                self._look_at(error, [source] if source is not None else [])
                raise RuntimeError(reason(error)) from None
        future = self._thread.submit(method, session, event)
        underway = self._underway = _Underway(session, future, source)
        future.add_done_callback(lambda _: self._arrive_soon(underway))
        return None

    def dispose(self, session: int) -> Any:
        """End a session."""
        self.settle()
        if session in self._sessions:
            self._sessions.remove(session)
        return self._engine.dispose(session)

    def deleteActionInfo(self, session: int, match: str) -> None:
        """All actions of a match have run."""
        self._completed(match)

    # -- events under way ------------------------------------------------

    def settle(self) -> None:
        """Wait until the engine is at no event."""
        try:
            self._settle(None)
        except RuntimeError as error:
            logger.debug("The last event was not stored: %s", error)

    def _settle(self, next_source: Source | None) -> None:
        underway, self._underway = self._underway, None
        if underway is None:
            return
        try:
            answer = underway.future.result()
        except RuntimeError as error:
            left = [underway.source]
            if next_source is not None:
                left.append(next_source)
            if self._look_at(error, left):
                raise RuntimeError(reason(error)) from None
            logger.error("An event was not taken: %s", reason(error))
            return
        _deliver(underway.session, answer)

    def _arrive_soon(self, underway: _Underway) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrive, underway)
        except RuntimeError:
            logger.debug("The loop has ended before the engine was done")

    def _arrive(self, underway: _Underway) -> None:
        if self._underway is underway:  # else somebody has waited for it
            self.settle()

    # -- failures --------------------------------------------------------

    def _look_at(self, error: Exception, left: list[Source]) -> bool:
        if not is_failed_write(error):
            return False
        self._failed(error, left)
        return True

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(session: int, *values: Any) -> Any:
            if self._is_plain:
                return method(session, *values)
            if values and isinstance(values[0], str):
                _check(values[0])
            self._settle(None)
            try:
                return method(session, *values)
            except RuntimeError as error:
                self._look_at(error, [])
                raise RuntimeError(reason(error)) from None

        return call

    def _after_events(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            self.settle()
            return method(*values)

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


def _deliver(session: int, answer: str | None) -> None:
    """Hand the matches to upstream, as it would have done itself."""
    from drools.exceptions import RulesetNotFoundError
    from drools.ruleset import RulesetCollection

    if not answer:
        return
    try:
        ruleset = RulesetCollection.get_by_session_id(session)
    except RulesetNotFoundError:
        # Reset at the end of a term: they are stored, for the next leader.
        logger.debug("Matches of a session that has ended were skipped")
        return
    for match in json.loads(answer):
        try:
            ruleset.dispatch(match)
        except Exception as error:
            logger.error("A match was skipped: %s", error)
