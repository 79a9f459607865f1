"""How far the actions of each match have come."""

from __future__ import annotations

from typing import Any, Protocol

Info = dict[str, Any]


class Records(Protocol):
    """Where progress is stored: upstream's own calls, one commit each."""

    def read(self, ruleset: str, match: str, index: int) -> Info:
        """What is stored of an action that has a record.

        :raises RuntimeError: if it cannot be read.
        """

    def write(
        self, ruleset: str, match: str, index: int, info: Info, new: bool
    ) -> None:
        """Store it; ``new`` if it has no record yet."""


class Progress:
    """Reads and writes as little of it as recovery needs.

    Upstream asks the database before each action whether it ran before, and
    stores that it has started. Only a recovered match can have run before,
    and only templates on a controller have use for the start: their job is
    found again by it. So the rest is kept in memory until there is more to
    say, the outcome of an action that others follow.

    :param records: where it is stored.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._stored: set[tuple[str, int]] = set()
        self._known: dict[str, dict[int, Info]] = {}
        self.store_start = False
        """Whether the next action's start has to be stored."""

    def recovered(self, stored: set[tuple[str, int]]) -> None:
        """A term begins; these actions have a record."""
        self._stored = set(stored)
        self._known.clear()

    def look_up(self, ruleset: str, match: str, index: int) -> Info | None:
        """What an earlier leader stored of this action, if anything.

        :raises RuntimeError: if it cannot be read.
        """
        if (match, index) not in self._stored:
            return None
        info = self._records.read(ruleset, match, index)
        self._known.setdefault(match, {})[index] = info
        return info

    def update(
        self,
        ruleset: str,
        match: str,
        index: int,
        info: Info,
        create: bool = False,
    ) -> bool:
        """Something is known about an action, in addition.

        :returns: whether it was stored.
        """
        actions = self._known.setdefault(match, {})
        merged = actions[index] = {**actions.get(index, {}), **info}
        if create and not self.store_start:
            return False
        new = (match, index) not in self._stored
        self._records.write(ruleset, match, index, merged, new)
        self._stored.add((match, index))
        return True

    def forget(self, match: str) -> None:
        """All actions of a match have run."""
        for index in self._known.pop(match, {}):
            self._stored.discard((match, index))
