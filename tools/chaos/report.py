"""What a run has shown: tables for people, JSON for programs."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .campaign import Campaign
from .cluster import Settings
from .schedule import KINDS
from .summary import Done, Found, Summary

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

    def add(self, outcome: Done) -> None:
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
    """What several schedules have shown.

    :param command: that makes the same.
    :param settings: what their workers were like.
    """

    campaign: Campaign
    command: str
    settings: Settings

    @property
    def summaries(self) -> list[Summary]:
        """One for each schedule."""
        return self.campaign.summaries

    @property
    def violations(self) -> list[tuple[int, Found]]:
        """Each with the seed of its schedule."""
        return [
            (each.seed, found)
            for each in self.summaries
            for found in each.found
        ]

    @property
    def errors(self) -> list[tuple[int, str]]:
        """Schedules that were cut short, and why."""
        return [
            (each.seed, each.error)
            for each in self.summaries
            if each.error is not None
        ]

    def groups(self) -> list[Group]:
        """One for each kind of fault that there was, and one for all."""
        total = Group("all")
        groups = {name: Group(kind.title) for name, kind in KINDS.items()}
        for each in self.summaries:
            for done in each.done:
                groups[done.kind].add(done)
                total.add(done)
            for found in each.found:
                total.violations += 1
                if found.after in groups:
                    groups[found.after].violations += 1
        return [*(g for g in groups.values() if g.count), total]

    def counts(self) -> dict[str, int]:
        """How much there was to check."""
        total: Counter[str] = Counter()
        for each in self.summaries:
            total.update(each.counts)
        return dict(total)

    def overruns(self) -> list[float]:
        """Seconds that actions went on beside another leader."""
        return [x for each in self.summaries for x in each.overruns]

    def setting(self) -> str:
        """What the clusters were like."""
        settings = self.settings
        return (
            f"{settings.workers} workers, poll interval {settings.poll:g} s, "
            f"lease {settings.lease:g} s, "
            f"{'with' if settings.state else 'without'} state"
        )

    def notes(self) -> list[str]:
        """What stands below the table."""
        counted = ", ".join(
            f"{n:,} {name}" for name, n in self.counts().items()
        )
        overruns = self.overruns()
        minutes = sum(each.seconds for each in self.summaries) / 60
        notes = [
            f"{len(self.summaries)} schedules of {minutes:.0f} minutes in "
            f"all, {self.setting()}: {counted}.",
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

    def as_json(self) -> dict[str, Any]:
        """What the schedules come to; they themselves are the campaign's."""
        return {
            "command": self.command,
            "state": self.settings.state,
            "poll": self.settings.poll,
            "lease": self.settings.lease,
            "faults": [group.as_json() for group in self.groups()],
            "counts": self.counts(),
        }

    def show_one(self, summary: Summary, console: Console) -> None:
        """A line, as soon as it has ended."""
        with_ = ", ".join(summary.has) or "nothing"
        console.print(
            f"seed {summary.seed} with {with_}: {len(summary.done)} faults "
            f"in {summary.seconds:.0f} s, {len(summary.found)} violations"
            f"{', cut short' if summary.error else ''}",
            highlight=False,
        )

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
        for seed, found in self.violations:
            self._show(f"seed {seed}:", str(found), console)
        for seed, error in self.errors:
            self._show(f"seed {seed} was cut short:", error, console)

    @staticmethod
    def _show(what: str, text: str, console: Console) -> None:
        console.print(
            f"[bold red]{what}[/] {escape(text)}",
            highlight=False,
            soft_wrap=True,
        )

    def write_rst(self, path: Path) -> None:
        """The table as the documentation includes it."""
        path.write_text(rst(self), "utf-8")


def rst(report: Report) -> str:
    """The table in reStructuredText, with the command that made it."""
    where = report.campaign.about["machine"]
    lines = [
        ".. code-block:: console",
        "",
        f"   $ {report.command}",
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
