"""What is kept of a schedule when its records are gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .checker import Verdict
from .records import Fault, History


@dataclass(frozen=True)
class Done:
    """One fault, and what it has led to; see :class:`.checker.Outcome`.

    :param takeover: seconds, None if the leader stayed.
    :param leaderless: seconds.
    """

    kind: str
    takeover: float | None
    leaderless: float


@dataclass(frozen=True)
class Found:
    """Something that must not be; see :class:`.checker.Violation`.

    :param after: the kind of the fault that came before it.
    """

    rule: str
    what: str
    lines: tuple[str, ...]
    after: str

    def __str__(self) -> str:
        shown = "".join(f"\n    {line}" for line in self.lines)
        return f"{self.rule}: {self.what}{shown}"


@dataclass(frozen=True)
class Summary:
    """One schedule.

    :param has: what its cluster had.
    :param seconds: how long it took.
    :param error: why it was cut short, if it was.
    :param overruns: seconds that actions went on beside another leader.
    :param counts: how much there was to check.
    """

    seed: int
    has: tuple[str, ...]
    seconds: float
    error: str | None = None
    done: tuple[Done, ...] = ()
    found: tuple[Found, ...] = ()
    overruns: tuple[float, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Summary:
        """What :meth:`as_json` made this of."""
        return cls(
            **{
                **values,
                "has": tuple(values["has"]),
                "done": tuple(Done(**each) for each in values["done"]),
                "found": tuple(
                    Found(**{**each, "lines": tuple(each["lines"])})
                    for each in values["found"]
                ),
                "overruns": tuple(values["overruns"]),
            }
        )


def summary_of(
    history: History,
    verdict: Verdict,
    has: frozenset[str],
    seconds: float,
    error: str | None = None,
) -> Summary:
    """What is to be kept."""
    return Summary(
        history.seed,
        tuple(sorted(has)),
        round(seconds, 3),
        error,
        tuple(
            Done(
                each.fault.kind,
                None if each.takeover is None else round(each.takeover, 6),
                round(each.leaderless, 6),
            )
            for each in verdict.outcomes
        ),
        tuple(
            Found(
                each.rule,
                each.what,
                each.lines,
                _before(history.faults, each.at),
            )
            for each in verdict.violations
        ),
        tuple(round(each.seconds, 6) for each in verdict.overruns),
        verdict.counts,
    )


def _before(faults: tuple[Fault, ...], at: int) -> str:
    kinds = [fault.kind for fault in faults if fault.at <= at]
    return kinds[-1] if kinds else ""
