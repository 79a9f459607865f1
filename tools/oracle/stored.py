"""What is stored of a session."""

from __future__ import annotations

import json
from typing import Any

from ansible_rulebook.ha.engine.bridge import NOTHING, Answer, Record, packed
from ansible_rulebook.ha.state.changes import Changes

from .errors import Difference

MOST_CHANGES = 20  # of a transaction


class Stored:
    """The records that the answers left to store.

    Several answers are stored by one transaction, as the journal does it.
    """

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        """With those of the transaction that comes next."""
        self.is_known = False
        self._committed: dict[int, Record] = {}
        self._changes = Changes()

    def wrote(self, answer: Answer) -> None:
        if answer is not NOTHING:
            self.is_known = True
        for gone in answer.gone:
            if gone not in self.records:
                raise Difference(f"{gone} has gone, and was not there")
            del self.records[gone]
        for kept in answer.kept:
            self.records[kept.number] = kept
        self._changes.answer("", answer)
        if self._changes.size > MOST_CHANGES:
            self.commit()

    def commit(self) -> None:
        for (_, number), record in self._changes.records.items():
            if record is None:
                self._committed.pop(number, None)
            else:
                self._committed[number] = record
        self._changes = Changes()
        if self._committed != self.records:
            raise Difference(f"{self._committed} stored, not {self.records}")

    def packed(self) -> str:
        self.commit()
        records = self._committed
        return packed([records[each] for each in sorted(records)])

    def comparable(self) -> list[Any]:
        """Without the numbers, of which lost answers have taken some."""
        places = {number: n for n, number in enumerate(sorted(self.records))}
        found = []
        for number in places:
            _, kind, at, expires, text = self.records[number]
            body = json.loads(text)
            for reference in body.get("references", {}).values():
                # One that is not there any more is as good as none.
                reference["record"] = places.get(reference["record"])
            found.append([kind, at, expires, body])
        return found
