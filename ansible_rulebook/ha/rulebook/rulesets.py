"""The rulesets that run in this worker's engine."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Ruleset(Protocol):
    """What the worker needs of one running ruleset."""

    name: str
    text: str  # its definition; it changes when the rules do
    has_facts: bool  # gathered from the inventory

    @property
    def session(self) -> int:
        """The number of its engine session."""

    def is_running(self) -> bool:
        """Whether its engine session exists."""

    def is_idle(self) -> bool:
        """Whether no action runs, and no match waits for one."""

    def ended_unasked(self) -> bool:
        """Whether its engine ended though nobody had asked for that."""

    def prime(self) -> None:
        """Give the gathered facts to the engine; rules may match."""

    def drop_matches(self) -> int:
        """Drop matches whose actions have not started; returns how many."""

    def reset(self) -> None:
        """Begin an empty engine session in place of the present one."""

    def hurry(self) -> None:
        """Cut short a graceful shutdown: cancel what it waits for."""


class Rulesets:
    """All rulesets of this worker, from one load of the rulebook."""

    def __init__(self) -> None:
        self._all: list[Ruleset] = []
        self._expected = 0
        self.up = asyncio.Event()
        """Set while the engine runs and all rulesets wait for events."""
        self.over = asyncio.Event()
        """Set when all rulesets have ended."""

    def expect_one_more(self) -> None:
        """A ruleset has been built and is about to start."""
        self._expected += 1

    def started(self, ruleset: Ruleset) -> None:
        """A ruleset waits for events."""
        self._all.append(ruleset)
        if len(self._all) == self._expected:
            self.up.set()

    def ended(self, ruleset: Ruleset) -> None:
        """A ruleset has ended, perhaps one of an earlier load."""
        if ruleset in self._all and not any(
            each.is_running() for each in self._all
        ):
            self.over.set()

    def clear(self) -> None:
        """The rulebook is being loaded anew."""
        self._all.clear()
        self._expected = 0
        self.up.clear()
        self.over.clear()

    @property
    def are_idle(self) -> bool:
        """See :meth:`Ruleset.is_idle`."""
        return all(each.is_idle() for each in self._all)

    def ended_unasked(self) -> list[Ruleset]:
        """Those whose engine has died."""
        return [each for each in self._all if each.ended_unasked()]

    def with_facts(self) -> list[Ruleset]:
        """Those that have gathered facts to give to the engine."""
        return [each for each in self._all if each.has_facts]

    def texts(self) -> dict[str, str]:
        """The definitions of all rulesets, by name."""
        return {each.name: each.text for each in self._all}

    def sessions(self) -> dict[str, tuple[int, str]]:
        """Engine session and definition of each that runs, by name."""
        return {
            each.name: (each.session, each.text)
            for each in self._all
            if each.is_running()
        }

    def drop_matches(self) -> int:
        """See :meth:`Ruleset.drop_matches`."""
        return sum(ruleset.drop_matches() for ruleset in self._all)

    def reset(self) -> None:
        """Empty the engine: what it knows belongs to a past term."""
        for ruleset in self._all:
            if ruleset.is_running():
                ruleset.reset()

    def hurry(self) -> None:
        """See :meth:`Ruleset.hurry`."""
        for ruleset in self._all:
            ruleset.hurry()
