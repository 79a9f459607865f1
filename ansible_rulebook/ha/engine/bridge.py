"""Drools' sessions, called directly through a small Java part of our own.

They take the place of drools_jpy's own calls. A call on the bridge returns
the matches of an event and the changes of the working memory, as records. A
new session is filled from such records. The sources are in ``java/``, with the
command that compiles them.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

from ..errors import HaError, StateRefused
from ..redaction import one_line
from .session_times import SessionTimes

JAR = Path(__file__).parent / "java" / "bridge.jar"
PACKAGE = "ansible_rulebook_ha"
SEPARATOR = "\x1e"  # JSON has none
GONE = "-"


class Match(NamedTuple):
    """A rule that has matched."""

    rule: str
    """The rule's name, as JSON."""
    found_at: int
    """When, by the session's clock: milliseconds since 1970."""
    data: str
    """The events and facts by their names in the condition, as JSON."""


class Record(NamedTuple):
    """One object of a session's working memory, as it is stored."""

    number: int
    """Rises in the order of insertion or of the last change, within a
    ruleset."""
    kind: str
    """``E`` event, ``F`` fact, ``C`` one of the engine's own."""
    inserted_at: int
    """By the session's clock: milliseconds since 1970."""
    expires: int
    """Milliseconds after the insertion, -1 if the ruleset says when."""
    text: str
    """JSON, encrypted if there is a key."""


class Answer(NamedTuple):
    """The result of a call: matches, and changes of the working memory."""

    matches: Sequence[Match] = ()
    kept: Sequence[Record] = ()
    """Records that are new or have changed."""
    gone: Sequence[int] = ()
    """The numbers of records that are gone."""


NOTHING = Answer()


class Bridge:
    """Sessions with recorded working memory.

    Everything runs on the thread that calls. Exceptions of Java's arrive as
    RuntimeError, from jpy.

    :param engine: drools_jpy's Java object, which knows where Drools is.
    :raises StateRefused: if the bridge does not fit this drools_jpy.
    """

    def __init__(self, engine: Any) -> None:
        self._java = _load(engine)
        self.is_encrypting = False
        self.times = SessionTimes()
        """What time it is in each session."""

    def encrypt(self, key: str, old_key: str | None = None) -> None:
        """Encrypt what is stored from here on (AES-256-GCM, as Drools).

        :param key: 32 bytes, Base64.
        :param old_key: for records that were encrypted with it.
        :raises StateRefused: if a key cannot be used.
        """
        try:
            self._java.encrypt(key, old_key)
        except RuntimeError as error:
            raise StateRefused(one_line(error)) from None
        self.is_encrypting = True

    def encrypted(self, text: str) -> str:
        """Encrypt a text that is to be stored, if there is a key."""
        if not self.is_encrypting:
            return text
        return str(self._java.encrypted(text))

    def decrypted(self, text: str) -> str:
        """The reverse of :meth:`encrypted`.

        :raises HaError: if no key fits.
        """
        if not self.is_encrypting and text[:1] in "{[":
            return text  # plain JSON
        try:
            return str(self._java.decrypted(text))
        except RuntimeError as error:
            raise HaError(
                f"the stored state cannot be read: {one_line(error)}"
            ) from None

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Have Drools log nothing below a warning meanwhile."""
        self._java.setQuiet(True)
        try:
            yield
        finally:
            self._java.setQuiet(False)

    def create(self, ruleset: str) -> int:
        """Begin a session.

        :param ruleset: as upstream defines it, JSON.
        :returns: its number.
        """
        return int(self._java.create(ruleset))

    def dispose(self, session: int) -> str | None:
        """End a session; returns its statistics as JSON."""
        found: str | None = self._java.dispose(session)
        return found

    def stats(self, session: int) -> str | None:
        """A session's statistics as JSON, None if it is gone."""
        found: str | None = self._java.stats(session)
        return found

    def facts(self, session: int) -> str:
        """What is in the working memory, as JSON."""
        return str(self._java.facts(session))

    def assert_event(self, session: int, at: int, event: str) -> Answer:
        """Let time pass until ``at``, then give the session an event."""
        return _answer(self._java.assertEvent(session, at, event))

    def assert_fact(self, session: int, at: int, fact: str) -> Answer:
        """As :meth:`assert_event`, with a fact."""
        return _answer(self._java.assertFact(session, at, fact))

    def retract(
        self,
        session: int,
        at: int,
        fact: str,
        partial: bool = False,
        exclude: Sequence[str] = (),
    ) -> Answer:
        """Let time pass until ``at``, then take out the facts that are equal.

        :param partial: facts with more keys than ``fact`` count as equal.
        :param exclude: keys that are not compared.
        """
        import jpy

        keys = jpy.array("java.lang.String", list(exclude))
        return _answer(self._java.retract(session, at, fact, partial, keys))

    def advance(self, session: int, at: int) -> Answer:
        """Let time pass until ``at``."""
        return _answer(self._java.advance(session, at))

    def time(self, session: int) -> int:
        """What the session's clock shows: milliseconds since 1970."""
        return int(self._java.time(session))

    def retained(self, session: int) -> int:
        """How many objects are in the working memory."""
        return int(self._java.retained(session))

    def restore(self, session: int, records: str) -> None:
        """Fill an empty session. No rule fires for records put back.

        Afterwards its clock shows the time of the last record.

        :param records: :func:`packed`.
        """
        self._java.restore(session, records)


def packed(records: Sequence[Record]) -> str:
    """Records, in the order of their numbers, for :meth:`Bridge.restore`."""
    return "".join(
        f"{SEPARATOR.join(map(str, r))}{SEPARATOR}" for r in records
    )


def numbers_of(records: str) -> list[int]:
    """The numbers of packed records."""
    fields = len(Record._fields)
    return [int(each) for each in records.split(SEPARATOR)[:-1:fields]]


@cache
def rule_name(rule: str) -> str:
    """The name of a :class:`Match`'s rule."""
    return str(json.loads(rule))


def _answer(text: str | None) -> Answer:
    if text is None:
        return NOTHING
    fields = text.split(SEPARATOR)
    place = 1 + 3 * int(fields[0])
    matches = [
        Match(fields[n], int(fields[n + 1]), fields[n + 2])
        for n in range(1, place, 3)
    ]
    kept: list[Record] = []
    gone: list[int] = []
    while place < len(fields) - 1:
        number, kind = int(fields[place]), fields[place + 1]
        if kind == GONE:
            gone.append(number)
            place += 2
            continue
        at, expires = int(fields[place + 2]), int(fields[place + 3])
        kept.append(Record(number, kind, at, expires, fields[place + 4]))
        place += 5
    return Answer(matches, kept, gone)


def _load(engine: Any) -> Any:
    import jpy

    file = jpy.get_type("java.io.File")(str(JAR))
    try:
        # Not on the class path: Java may run before we are asked for state.
        loader = jpy.get_type("java.net.URLClassLoader")(
            jpy.array("java.net.URL", [file.toURI().toURL()]),
            engine.getClass().getClassLoader(),
        )
        none = jpy.array("java.lang.Class", 0)
        nothing = jpy.array("java.lang.Object", 0)
        names = loader.loadClass(f"{PACKAGE}.Names")
        missing = names.getDeclaredMethod("missing", none).invoke(
            None, nothing
        )
        if missing is not None:
            raise StateRefused(
                f"this drools_jpy lacks {missing}, which the state needs"
            )
        bridge = loader.loadClass(f"{PACKAGE}.Bridge")
        return bridge.getDeclaredConstructor(none).newInstance(nothing)
    except (RuntimeError, AttributeError) as error:
        raise StateRefused(
            f"drools_jpy cannot be extended: {one_line(error)}"
        ) from None
