"""The changes that one transaction stores."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from ..engine.bridge import Answer, Record
from . import sql
from .arrays import bigints, texts, uuids
from .names import key_of_ruleset, stored

Statement = Tuple[str, "list[bytes]"]
"""SQL, and its parameters after the cluster's UUID, in binary format."""


class Found(NamedTuple):
    """A match whose actions have not run yet."""

    match: bytes
    """16 bytes, its UUID."""
    ruleset: str
    rule: str
    body: str
    """JSON, encrypted if there is a key."""


class Kept(NamedTuple):
    """A ruleset that has state."""

    digest: str
    """Of its definition; it changes when the rules do."""
    primed: bool
    """Whether it has had its gathered facts."""


class Changes:
    """Collects changes. Of several changes of a row, the last is written.

    A record that came and went within one transaction is not written at
    all. When a match is done, the rows of its actions are deleted, too.
    """

    def __init__(self) -> None:
        self.events: List[bytes] = []
        """Keys of the events that these changes come from."""
        self.records: Dict[Tuple[str, int], Optional[Record]] = {}
        """By ruleset and number; None for one that is gone."""
        self._rulesets: Dict[str, Kept] = {}
        self._forgotten: Set[str] = set()
        self._found: List[Found] = []
        self._done: List[bytes] = []
        self._actions: Dict[Tuple[bytes, int], str] = {}
        self._with_actions: List[bytes] = []
        self._consumed: Dict[Tuple[str, int], int] = {}
        self.forget_until = 0
        """Transactions up to this mark need not be remembered."""
        self.size = 0
        """How many changes there were; some may be of the same row."""

    def answer(self, ruleset: str, answer: Answer) -> None:
        """The working memory of a ruleset has changed."""
        records = self.records
        for record in answer.kept:
            records[ruleset, record.number] = record
        for number in answer.gone:
            records[ruleset, number] = None
        self.size += len(answer.kept) + len(answer.gone)

    def event(self, key: bytes) -> None:
        """An event has been processed."""
        self.events.append(key)
        self.size += 1

    def found(self, found: Found) -> None:
        """A rule has matched."""
        self._found.append(found)
        self.size += 1

    def done(self, match: bytes, has_actions: bool) -> None:
        """All actions of a match have run.

        :param has_actions: something was stored of them.
        """
        self._done.append(match)
        if has_actions:
            self._with_actions.append(match)
        self.size += 1

    def action(self, match: bytes, place: int, body: str) -> None:
        """How far an action has come, encrypted if there is a key."""
        self._actions[match, place] = body
        self.size += 1

    def consumed(self, inbox: str, number: int, parts: int = 0) -> None:
        """An event of an inbox has been processed, or never can be.

        :param parts: so many of its parts have; 0 if all.
        """
        self._consumed[inbox, number] = parts
        self.size += 1

    def ruleset(self, name: str, kept: Kept) -> None:
        """A ruleset has state."""
        self._rulesets[name] = kept
        self.size += 1

    def forget_ruleset(self, name: str) -> None:
        """Delete the records of a ruleset that earlier transactions stored."""
        self._forgotten.add(name)
        self.size += 1

    def statements(self, mark: int) -> list[Statement]:
        """The statements that write the changes, in the order to send them.

        :param mark: the number of the transaction.
        """
        number = str(mark).encode()
        done: list[Statement] = []
        if self._forgotten:
            names = [key_of_ruleset(name) for name in self._forgotten]
            done.append((sql.FORGET_RECORDS, [texts(names)]))
        if self._rulesets:
            done.append((sql.KEEP_RULESETS, self._ruleset_columns()))
        gone = [key for key, r in self.records.items() if r is None]
        if gone:
            columns = [
                texts([key_of_ruleset(ruleset) for ruleset, _ in gone]),
                bigints([n for _, n in gone]),
            ]
            done.append((sql.DROP_RECORDS, columns))
        if len(gone) < len(self.records):
            done.append((sql.KEEP_RECORDS, self._record_columns()))
        if self._found:
            columns = [number, *self._found_columns()]
            done.append((sql.ADD_MATCHES, columns))
        if self._actions:
            done.append((sql.KEEP_ACTIONS, self._action_columns()))
        if self._with_actions:
            done.append((sql.DROP_ACTIONS, [uuids(self._with_actions)]))
        if self._done:
            done.append((sql.DROP_MATCHES, [uuids(self._done)]))
        if not all(self._consumed.values()):
            done.append((sql.EMPTY_INBOX, self._consumed_columns(False)[:2]))
        if any(self._consumed.values()):
            done.append((sql.KEEP_PARTS, self._consumed_columns(True)))
        if self.forget_until > 0:
            until = str(self.forget_until).encode()
            done.append((sql.FORGET_COMMITS, [until]))
        return done

    def _ruleset_columns(self) -> list[bytes]:
        kept = self._rulesets.values()
        return [
            texts([key_of_ruleset(name) for name in self._rulesets]),
            texts([each.digest for each in kept]),
            bigints([int(each.primed) for each in kept]),
        ]

    def _record_columns(self) -> list[bytes]:
        kept = [(r, each) for (r, _), each in self.records.items() if each]
        return [
            texts([key_of_ruleset(ruleset) for ruleset, _ in kept]),
            bigints([each.number for _, each in kept]),
            texts([each.kind for _, each in kept]),
            bigints([each.inserted_at for _, each in kept]),
            bigints([each.expires for _, each in kept]),
            texts([each.text for _, each in kept]),
        ]

    def _found_columns(self) -> list[bytes]:
        return [
            uuids([each.match for each in self._found]),
            texts([key_of_ruleset(each.ruleset) for each in self._found]),
            texts([stored(each.rule) for each in self._found]),
            texts([each.body for each in self._found]),
        ]

    def _consumed_columns(self, in_part: bool) -> list[bytes]:
        rows = [
            (inbox, number, parts)
            for (inbox, number), parts in self._consumed.items()
            if bool(parts) is in_part
        ]
        return [
            texts([inbox for inbox, _, _ in rows]),
            bigints([number for _, number, _ in rows]),
            bigints([parts for _, _, parts in rows]),
        ]

    def _action_columns(self) -> list[bytes]:
        return [
            uuids([match for match, _ in self._actions]),
            bigints([place for _, place in self._actions]),
            texts(list(self._actions.values())),
        ]
