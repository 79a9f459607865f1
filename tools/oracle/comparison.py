"""A case done with failovers and without."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ansible_rulebook.ha.engine.bridge import Bridge

from .case import Case
from .engine import rulesets_of
from .errors import Difference, Refused
from .sessions import Sessions, done

# What Drools refuses, by how often it did.
refused: Counter[str] = Counter()


def grouped(fired: Sequence[Any]) -> list[Any]:
    """Without the order of what one rule found at one time."""
    return [
        [key, sorted(json.dumps(each, sort_keys=True) for each in group)]
        for key, group in groupby(fired, lambda each: each[:3])
    ]


def run(bridge: Bridge, case: Case) -> None:
    """Do a case with and without failovers.

    :raises Difference: if that can be told from what comes.
    """
    rulesets = rulesets_of(case.rulebook)
    plain = Sessions(bridge, rulesets, ticks=True)
    other = Sessions(bridge, rulesets, ticks=False)
    done["examples"] += 1
    try:
        for number, step in enumerate(case.steps):
            want = plain.step(step._replace(faults=()), number)
            try:
                got = other.step(step, number)
            except Refused as error:
                raise Difference(f"step {number}: {error}") from None
            _compare(number, "fired", grouped(want), grouped(got))
            done["matches in another order"] += want != got
            _compare(number, "in memory", plain.memory(), other.memory())
            for one, two in zip(plain.stored, other.stored):
                _compare(number, "stored", one.comparable(), two.comparable())
    except Refused as error:
        refused[str(error)] += 1
    finally:
        plain.close()
        other.close()


def _compare(number: int, what: str, want: Any, got: Any) -> None:
    if want != got:
        raise Difference(
            f"step {number}, {what}:\n{json.dumps(want)}\n"
            f"with failovers:\n{json.dumps(got)}"
        )
