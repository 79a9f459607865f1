"""What is stored of a session."""

from __future__ import annotations

import json
from typing import Any

from ansible_rulebook.ha.engine.bridge import NOTHING, Answer, Record, packed

from .errors import Difference


class Stored:
    """The records that the answers left to store."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.is_known = False

    def wrote(self, answer: Answer) -> None:
        if answer is not NOTHING:
            self.is_known = True
        for gone in answer.gone:
            if gone not in self.records:
                raise Difference(f"{gone} has gone, and was not there")
            del self.records[gone]
        for kept in answer.kept:
            self.records[kept.number] = kept

    def packed(self) -> str:
        return packed([self.records[each] for each in sorted(self.records)])

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
