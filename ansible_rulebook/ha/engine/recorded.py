"""The engine as upstream calls it, with all its changes recorded."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Callable, Mapping, NoReturn, Protocol, Sequence

from ..redaction import one_line
from .bridge import Answer, Bridge
from .session_clock import SessionClock

logger = logging.getLogger(__name__)

# Upstream has Java stop for a full garbage collection every 1,000 events. That
# costs 6 % of a leader's throughput, and Java collects anyway when it has to.
COLLECT_AFTER = 10_000  # events, unless the operator has set it
COLLECT_VARIABLE = "DROOLS_JPY_GC_AFTER"

NO_CHANGE = Answer((), (), ())
MOST_FAILURES = 10  # calls in a row, then the engine is taken for broken


class Source(Protocol):
    """Where the event in hand came from: the one that is being processed."""

    def is_hopeless(self) -> bool:
        """Whether storing it failed too often to try again."""

    def is_repeated(self, ruleset: str) -> bool:
        """Whether it has been processed before. Then it is not again."""

    def key(self, ruleset: str) -> bytes | None:
        """The key that tells it from all others, if it may come again."""

    def done(self) -> tuple[str, int, int] | None:
        """It is processed. What to store of its row in an inbox, if any."""

    def written(self) -> None:
        """The changes by it are in the journal's hands."""

    def not_written(self) -> None:
        """It has not been processed, since the term is over."""


class Recording(Protocol):
    """Stores the changes of sessions."""

    @property
    def is_recording(self) -> bool:
        """Whether changes are stored: in a term in which no write failed."""

    def wrote(
        self,
        ruleset: str,
        answer: Answer,
        event: bytes | None = None,
        consumed: tuple[str, int, int] | None = None,
    ) -> list[str]:
        """Store a change; returns the matches in upstream's format."""

    def completed(self, match: str) -> None:
        """All actions of a match have run."""


class RecordedEngine:
    """In place of drools_jpy's engine, for sessions that keep their state.

    :param engine: drools_jpy's Java object.
    :param bridge: makes the sessions.
    :param recording: stores each change.
    :param source: finds the source of the event in hand; None if the present
        task runs an action.
    :param deliver: called with a ruleset and a match that a timer has caused.
    :param failed: called with the reason if the engine does not work any more.
    """

    def __init__(
        self,
        engine: Any,
        bridge: Bridge,
        recording: Recording,
        source: Callable[[], Source | None],
        deliver: Callable[[str, str], None],
        failed: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._bridge = bridge
        self._now = bridge.times.now
        self._recording = recording
        self._source = source
        self._deliver = deliver
        self._failed = failed
        self._failures = 0  # in a row
        self._names: dict[int, str] = {}
        self._is_plain = False
        self.clock = SessionClock(self._advance)
        """The sessions' time; to run while this worker leads."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def stop_recording(self) -> None:
        """No state is kept any more: make no more sessions of the bridge's."""
        self.clock.pause()
        self._is_plain = True

    # -- sessions --------------------------------------------------------

    def createRuleset(self, rules: str) -> int:
        """Begin a session for these rules."""
        if self._is_plain:
            return int(self._engine.createRuleset(rules))
        session = self._bridge.create(rules)
        self._names[session] = json.loads(rules)["name"]
        return session

    def dispose(self, session: int) -> Any:
        """End a session; returns its statistics."""
        if self._names.pop(session, None) is None:
            return self._engine.dispose(session)
        return self._bridge.dispose(session)

    def sessionStats(self, session: int | None) -> Any:
        """A session's statistics; None while it is being replaced."""
        if session is None:
            return None
        if session in self._names:
            return self._bridge.stats(session)
        return self._engine.sessionStats(session)

    def getFacts(self, session: int) -> Any:
        """What is in the working memory, as JSON."""
        if session in self._names:
            return self._bridge.facts(session)
        return self._engine.getFacts(session)

    # -- what changes the state --------------------------------------------

    def assertEvent(self, session: int, event: str) -> Any:
        """Give a session an event; returns the matches as JSON."""
        ruleset = self._names.get(session)
        if ruleset is None:
            return self._engine.assertEvent(session, event)
        source = self._source()
        self._check(source)
        if source is not None and source.is_hopeless():
            _refuse("An event that could never be stored is dropped")
        if source is not None and source.is_repeated(ruleset):
            consumed = source.done()
            if consumed is not None:
                self._recording.wrote(ruleset, NO_CHANGE, None, consumed)
            source.written()
            return "[]"
        answer = self._call(
            self._bridge.assert_event, session, self._now(session), event
        )
        return self._record(ruleset, answer, source)

    def assertFact(self, session: int, fact: str) -> Any:
        """Give a session a fact; returns the matches as JSON."""
        ruleset = self._names.get(session)
        if ruleset is None:
            return self._engine.assertFact(session, fact)
        self._check(self._source())
        answer = self._call(
            self._bridge.assert_fact, session, self._now(session), fact
        )
        return self._record(ruleset, answer)

    def retractFact(self, session: int, fact: str) -> Any:
        """Take a fact out; returns the matches as JSON."""
        if session not in self._names:
            return self._engine.retractFact(session, fact)
        return self.retractMatchingFacts(session, fact, False, [])

    def retractMatchingFacts(
        self, session: int, fact: str, partial: bool, exclude: Sequence[str]
    ) -> Any:
        """Take facts out; returns the matches as JSON."""
        ruleset = self._names.get(session)
        if ruleset is None:
            return self._engine.retractMatchingFacts(
                session, fact, partial, exclude
            )
        self._check(self._source())
        answer = self._call(
            self._bridge.retract,
            session,
            self._now(session),
            fact,
            partial,
            exclude,
        )
        return self._record(ruleset, answer)

    def advanceTime(self, session: int, amount: int, unit: str) -> Any:
        """Let time pass; returns the matches as JSON."""
        ruleset = self._names.get(session)
        if ruleset is None:
            return self._engine.advanceTime(session, amount, unit)
        self._check(self._source())
        import jpy

        units = jpy.get_type("java.util.concurrent.TimeUnit")
        until = units.valueOf(unit.upper()).toMillis(amount)
        until += self._bridge.time(session)
        return self._record(ruleset, self._bridge.advance(session, until))

    def deleteActionInfo(self, session: int, match: str) -> None:
        """All actions of a match have run."""
        if not self._is_plain and match:
            self._recording.completed(match)

    def _advance(self) -> None:
        failure: RuntimeError | None = None
        for session, ruleset in list(self._names.items()):
            if not self._recording.is_recording:
                break
            try:
                answer = self._call(
                    self._bridge.advance, session, self._now(session)
                )
            except RuntimeError as error:
                failure = failure or error  # go on with other rulesets
                continue
            if any(answer):
                for match in self._recording.wrote(ruleset, answer):
                    self._deliver(ruleset, match)
        if failure is not None:
            raise failure

    def _check(self, source: Source | None) -> None:
        """Let nothing change after a write that was lost, or after the term.

        An action is cancelled rather than failed: upstream records an action
        that fails as one that has run. The next leader runs it again.

        :raises asyncio.CancelledError: in an action.
        :raises RuntimeError: in the processing of an event.
        """
        if self._recording.is_recording:
            return
        if source is None:
            raise asyncio.CancelledError
        source.not_written()
        raise RuntimeError("this worker does not lead any more")

    def _call(self, work: Callable[..., Answer], *args: Any) -> Answer:
        """Call the bridge; step down after too many failures in a row.

        One failure may be the event's fault, many are the engine's. A leader
        that can process nothing must let another worker lead.
        """
        try:
            answer = work(*args)
        except RuntimeError as error:  # jpy's, with Java's words
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                self._failures = 0
                self._failed(reason(error))
            raise RuntimeError(reason(error)) from None
        self._failures = 0
        return answer

    def _record(
        self, ruleset: str, answer: Answer, source: Source | None = None
    ) -> str:
        key = None if source is None else source.key(ruleset)
        consumed = None if source is None else source.done()
        matches = []
        if any(answer) or consumed is not None:
            matches = self._recording.wrote(ruleset, answer, key, consumed)
        if source is not None:
            source.written()
        return f"[{','.join(matches)}]"


def _refuse(why: str) -> NoReturn:
    """Drop the event in hand. A source with feedback is told of it."""
    from drools.exceptions import MessageNotHandledException

    logger.error(why)
    raise MessageNotHandledException(why)


def collect_less(environ: Mapping[str, str]) -> None:
    """See COLLECT_AFTER."""
    from drools import ruleset

    if COLLECT_VARIABLE not in environ:
        ruleset.DROOLS_JPY_GC_AFTER = COLLECT_AFTER


def reason(error: BaseException) -> str:
    """The first sentence of an exception of Java's, on one line."""
    return one_line((str(error).splitlines() or [""])[0])
