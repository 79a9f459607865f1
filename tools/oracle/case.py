"""A rulebook and a script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

LOST = ("lost", "lost early", "lost twice")
FAULTS = ("before", "before twice", *LOST)


class Step(NamedTuple):
    """Time passes, then something comes."""

    wait: int
    """Milliseconds."""
    do: str
    """event, fact, retract, or nothing."""
    ruleset: int
    what: Any
    """For retract: the fact, whether that is a part of it, and keys that do
    not count."""
    faults: Sequence[str] = ()
    """What happens to the step's calls on the engine, see FAULTS."""


class Case(NamedTuple):
    rulebook: Sequence[Any]
    steps: Sequence[Step]

    @classmethod
    def from_json(cls, text: str) -> Case:
        rulebook, steps = json.loads(text)
        return cls(rulebook, [Step(*each) for each in steps])
