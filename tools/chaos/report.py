"""What a run has shown: tables for people, JSON for programs."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.report import machine
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .checker import Outcome, Violation
from .run import Result
from .schedule import KINDS

HEADINGS = (
    "fault",
    "count",
    "leader changed",
    "median (s)",
    "p99 (s)",
    "max (s)",
    "nobody led (s)",
    "violations",
)


@dataclass
class Group:
    """All faults of one kind."""

    title: str
    count: int = 0
    takeovers: list[float] = field(default_factory=list)  # seconds
    leaderless: float = 0.0  # seconds
    violations: int = 0

    def add(self, outcome: Outcome) -> None:
        """One more of them."""
        self.count += 1
        self.leaderless = max(self.leaderless, outcome.leaderless)
        if outcome.takeover is not None:
            self.takeovers.append(outcome.takeover)

    def cells(self) -> list[str]:
        """As a row of the table has it."""
        times = self.takeovers
        figures = (
            [statistics.median(times), percentile(times, 99), max(times)]
            if times
            else []
        )
        shown = [f"{figure:.3f}" for figure in figures] or ["", "", ""]
        return [
            self.title,
            str(self.count),
            str(len(times)),
            *shown,
            f"{self.leaderless:.3f}",
            str(self.violations),
        ]

    def as_json(self) -> dict[str, Any]:
        """With every single time."""
        times = self.takeovers
        return {
            "title": self.title,
            "count": self.count,
            "changes of leader": len(times),
            "takeover": {
                "unit": "s",
                "median": statistics.median(times) if times else None,
                "p99": percentile(times, 99) if times else None,
                "max": max(times) if times else None,
                "values": [round(each, 6) for each in times],
            },
            "longest without a leader": round(self.leaderless, 6),
            "violations": self.violations,
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many do not exceed."""
    place = math.ceil(len(values) * percent / 100) - 1
    return sorted(values)[max(place, 0)]


@dataclass
class Report:
    """The results of several schedules."""

    results: list[Result] = field(default_factory=list)

    @property
    def violations(self) -> list[tuple[int, Violation]]:
        """Each with the seed of its schedule."""
        return [
            (result.task.seed, violation)
            for result in self.results
            for violation in result.verdict.violations
        ]

    @property
    def errors(self) -> list[tuple[int, str]]:
        """Schedules that were cut short, and why."""
        return [
            (result.task.seed, result.error)
            for result in self.results
            if result.error is not None
        ]

    def groups(self) -> list[Group]:
        """One for each kind of fault that there was, and one for all."""
        total = Group("all")
        found = {name: Group(kind.title) for name, kind in KINDS.items()}
        for result in self.results:
            for outcome in result.verdict.outcomes:
                for group in (found[outcome.fault.kind], total):
                    group.add(outcome)
            by_kind = _violations_by_kind(result)
            for name, count in by_kind.items():
                if name in found:
                    found[name].violations += count
            total.violations += sum(by_kind.values())
        return [*(g for g in found.values() if g.count), total]

    def counts(self) -> dict[str, int]:
        """How much there was to check."""
        total: Counter[str] = Counter()
        for result in self.results:
            total.update(result.verdict.counts)
        return dict(total)

    def overruns(self) -> list[float]:
        """Seconds that actions went on beside another leader."""
        return [
            overrun.seconds
            for result in self.results
            for overrun in result.verdict.overruns
        ]

    def setting(self) -> str:
        """What the clusters were like; the same in all schedules."""
        if not self.results:
            return "no cluster"
        settings = self.results[0].task.settings
        return (
            f"{settings.workers} workers, poll interval {settings.poll:g} s, "
            f"lease {settings.lease:g} s, "
            f"{'with' if settings.state else 'without'} state"
        )

    def notes(self) -> list[str]:
        """What stands below the table."""
        counts = self.counts()
        counted = ", ".join(f"{n:,} {name}" for name, n in counts.items())
        overruns = self.overruns()
        minutes = sum(result.seconds for result in self.results) / 60
        notes = [
            f"{len(self.results)} schedules in {minutes:.0f} minutes, "
            f"{self.setting()}: {counted}.",
            "Times are from the fault to the next announced term; where no "
            "server could be reached, from when one could be again. Nobody "
            "led: the longest such time.",
        ]
        if overruns:
            notes.append(
                f"{len(overruns)} actions were still being cut short when "
                f"the next worker led, the longest for {max(overruns):.3f} s."
            )
        return notes

    def as_json(self, command: str) -> dict[str, Any]:
        """All of it."""
        settings = self.results[0].task.settings if self.results else None
        return {
            "command": command,
            "machine": machine(),
            "seeds": [result.task.seed for result in self.results],
            "state": bool(settings and settings.state),
            "poll": settings and settings.poll,
            "lease": settings and settings.lease,
            "faults": [group.as_json() for group in self.groups()],
            "counts": self.counts(),
            "overruns": [round(each, 6) for each in self.overruns()],
            "violations": [
                {
                    "seed": seed,
                    "rule": violation.rule,
                    "what": violation.what,
                    "at": violation.at,
                    "lines": list(violation.lines),
                }
                for seed, violation in self.violations
            ],
            "errors": [
                {"seed": seed, "error": error} for seed, error in self.errors
            ],
        }

    def show(self, console: Console) -> None:
        """Print the table, and every violation with its lines."""
        table = Table(title="faults and what came of them")
        for place, heading in enumerate(HEADINGS):
            table.add_column(
                heading,
                justify="right" if place else "left",
                no_wrap=not place,
            )
        for group in self.groups():
            table.add_row(*group.cells())
        console.print(table)
        for note in self.notes():
            console.print(f"  {note}", highlight=False)
        for seed, violation in self.violations:
            console.print(
                f"[bold red]seed {seed}:[/] {escape(str(violation))}",
                highlight=False,
                soft_wrap=True,
            )
        for seed, error in self.errors:
            console.print(
                f"[bold red]seed {seed} was cut short:[/] {escape(error)}",
                highlight=False,
                soft_wrap=True,
            )

    def write_rst(self, path: Path, command: str) -> None:
        """The table as the documentation includes it."""
        path.write_text(rst(self, command), "utf-8")


def rst(report: Report, command: str) -> str:
    """The table in reStructuredText, with the command that made it."""
    where = machine()
    lines = [
        ".. code-block:: console",
        "",
        f"   $ {command}",
        "",
        f"On {where['cores']} cores ({where['processor']}), "
        f"{where['system']}, Python {where['python']}, "
        f"ansible-rulebook {where['ansible-rulebook']}:",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    for row in [list(HEADINGS), *(group.cells() for group in report.groups())]:
        for place, cell in enumerate(row):
            mark = "*" if not place else " "
            lines.append(f"   {mark} - {cell}".rstrip())
    lines.append("")
    for note in report.notes():
        lines += [note, ""]
    return "\n".join(lines)


def _violations_by_kind(result: Result) -> dict[str, int]:
    """To which fault each violation belongs: the last one before it."""
    faults = result.history.faults
    found: dict[str, int] = defaultdict(int)
    for violation in result.verdict.violations:
        before: Iterable[str] = (
            fault.kind for fault in faults if fault.at <= violation.at
        )
        found[([*before] or ["none"])[-1]] += 1
    return found
