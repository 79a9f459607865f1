"""How far the actions of each match have come."""

from __future__ import annotations

from typing import Any, Callable, Mapping

Info = dict[str, Any]


class Progress:
    """Knows the progress of actions, and which of it has to be stored.

    Upstream asks before each action whether it ran before, and then stores
    that it has started. But only actions of a recovered match can have run
    before. And a stored start is of use for templates only: the next leader
    finds their job on the controller by it. So other starts are kept in
    memory. The outcome of an action is stored; upstream has one to tell if
    another action of the rule follows.

    :param store: called with all that is known of an action, if it has to be
        stored: the match, the action's place in the rule, what is known.
    """

    def __init__(self, store: Callable[[str, int, Info], None]) -> None:
        self._store = store
        self._recovered: set[tuple[str, int]] = set()
        self._known: dict[str, dict[int, Info]] = {}
        self._stored: set[str] = set()
        self.store_start = False
        """Whether the next action's start has to be stored."""

    def recovered(self, stored: Mapping[tuple[str, int], Info]) -> None:
        """A term begins: this is what earlier leaders have stored."""
        self._recovered = set(stored)
        self._known.clear()
        for (match, place), info in stored.items():
            self._known.setdefault(match, {})[place] = info
        self._stored = set(self._known)

    def look_up(self, match: str, place: int) -> Info | None:
        """What an earlier leader stored of this action, if anything."""
        if (match, place) not in self._recovered:
            return None
        return self._known[match][place]

    def update(
        self, match: str, place: int, info: Info, is_start: bool = False
    ) -> None:
        """Add to what is known of an action, and store it if need be.

        :param is_start: whether it says no more than that it has started.
        """
        actions = self._known.setdefault(match, {})
        merged = actions[place] = {**actions.get(place, {}), **info}
        if self.store_start or not is_start:
            self._stored.add(match)
            self._store(match, place, merged)

    def forget(self, match: str) -> bool:
        """All actions of a match have run: forget them.

        :returns: whether anything was stored of them.
        """
        for place in self._known.pop(match, {}):
            self._recovered.discard((match, place))
        was_stored = match in self._stored
        self._stored.discard(match)
        return was_stored
