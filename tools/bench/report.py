"""Figures, goals, and how both are shown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("ansible-rulebook", "drools_jpy", "psycopg")


@dataclass(frozen=True)
class Figure:
    """Something that was measured several times."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "rounds": len(self.values),
            "min": self.least,
            "median": self.median,
            "max": self.most,
            "values": list(self.values),
        }


@dataclass(frozen=True)
class Goal:
    """A bound that a figure has to keep."""

    name: str
    value: float
    bound: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        if self.at_least:
            return self.value >= self.bound
        return self.value <= self.bound

    @property
    def wanted(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {with_unit(self.bound, self.unit)}"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "bound": self.bound,
            "kind": "at least" if self.at_least else "at most",
            "unit": self.unit,
            "met": self.met,
        }


@dataclass
class Result:
    """All that one part found out."""

    part: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "figures": [figure.as_json() for figure in self.figures],
            "goals": [goal.as_json() for goal in self.goals],
            "notes": self.notes,
            "error": self.error,
        }


def with_unit(value: float, unit: str) -> str:
    """Three digits that matter, and the unit."""
    if value and abs(value) < 0.001:
        text = f"{value:.2g}"
    elif abs(value) >= 100:
        text = f"{value:,.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    else:
        text = f"{value:.3f}"
    return f"{text} {unit}".rstrip()


def show(result: Result, console: Console) -> None:
    """Print one part."""
    if result.figures:
        console.print(_figures(result))
    for goal in result.goals:
        verdict = "[green]met[/]" if goal.met else "[bold red]missed[/]"
        console.print(
            f"  goal {verdict}: {goal.name} {goal.wanted}, "
            f"measured {with_unit(goal.value, goal.unit)}"
        )
    for note in result.notes:
        console.print(f"  {note}", highlight=False)
    if result.error is not None:
        console.print(f"[bold red]{result.part} failed to run[/]")
        console.print(result.error, markup=False, highlight=False)
    console.print()


def _figures(result: Result) -> Table:
    table = Table(
        title=f"{result.part}: {result.title}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("")
    for heading in ("rounds", "min", "median", "max"):
        table.add_column(heading, justify="right")
    for figure in result.figures:
        table.add_row(
            figure.name,
            str(len(figure.values)),
            with_unit(figure.least, figure.unit),
            with_unit(figure.median, figure.unit),
            with_unit(figure.most, figure.unit),
        )
    return table


def machine() -> dict[str, Any]:
    """What the figures were measured on; names no host."""
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        usable = os.cpu_count() or 0
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": usable,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load before": [round(load, 2) for load in os.getloadavg()],
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
