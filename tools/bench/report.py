"""Figures, goals, and how both are shown."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("ansible-rulebook", "drools_jpy", "psycopg")
# Things that there are no parts of.
COUNTED = ("posts", "events", "actions", "times")
HEADINGS = ("rounds", "min", "median", "max")


@dataclass(frozen=True)
class Figure:
    """Something that was measured several times.

    A value of infinity is one that never came while it was waited for.

    :param group: figures of one group make a table of their own.
    :param waited: for how long, in the same unit.
    :param missing: why there are no values, "not installed" for one.
    """

    name: str
    unit: str
    values: Sequence[float]
    group: str = ""
    waited: float | None = None
    missing: str = ""

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
        found: dict[str, Any] = {
            "name": self.name,
            "unit": self.unit,
            "rounds": len(self.values),
        }
        if self.values:
            found["min"] = _finite(self.least)
            found["median"] = _finite(self.median)
            found["max"] = _finite(self.most)
        found["values"] = [_finite(value) for value in self.values]
        # Not in every figure: most have none of these.
        for key in ("group", "waited", "missing"):
            if getattr(self, key) not in ("", None):
                found[key] = getattr(self, key)
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Figure:
        return cls(
            found["name"],
            found["unit"],
            [math.inf if v is None else v for v in found["values"]],
            found.get("group", ""),
            found.get("waited"),
            found.get("missing", ""),
        )

    def cells(self) -> tuple[str, str, str, str]:
        """Rounds, min, median and max, as a table shows them."""
        if not self.values:
            return ("0", "", self.missing, "")
        if math.isinf(self.least):
            return (str(len(self.values)), "", self._cell(self.least), "")
        return (
            str(len(self.values)),
            self._cell(self.least),
            self._cell(self.median),
            self._cell(self.most),
        )

    def _cell(self, value: float) -> str:
        if math.isfinite(value):
            return with_unit(value, self.unit)
        if self.waited is None:
            return "never"
        return f"none in {self.waited:g} {self.unit}"


def _finite(value: float) -> float | None:
    # Infinity is no JSON.
    return value if math.isfinite(value) else None


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

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Goal:
        return cls(
            found["name"],
            found["value"],
            found["bound"],
            found["unit"],
            found["kind"] == "at least",
        )


@dataclass
class Result:
    """All that one part found out."""

    part: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    data: dict[str, Any] = field(default_factory=dict)  # for a chart

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "figures": [figure.as_json() for figure in self.figures],
            "goals": [goal.as_json() for goal in self.goals],
            "notes": self.notes,
            "error": self.error,
            **({"data": self.data} if self.data else {}),
        }

    @classmethod
    def from_json(cls, part: str, found: Mapping[str, Any]) -> Result:
        return cls(
            part,
            found["title"],
            [Figure.from_json(each) for each in found["figures"]],
            [Goal.from_json(each) for each in found["goals"]],
            list(found["notes"]),
            found["error"],
            dict(found.get("data", {})),
        )

    def groups(self) -> dict[str, list[Figure]]:
        """The figures, table by table."""
        found: dict[str, list[Figure]] = {}
        for figure in self.figures:
            found.setdefault(figure.group, []).append(figure)
        return found


def with_unit(value: float, unit: str) -> str:
    """Three digits that matter, and the unit."""
    if unit == "s" and 0 < abs(value) < 1:
        value, unit = value * 1e3, "ms"
    if unit in COUNTED:
        text = f"{value:,.10g}"
    elif value and abs(value) < 0.001:
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
    for group, figures in result.groups().items():
        console.print(_figures(result, group, figures))
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


def _figures(result: Result, group: str, figures: list[Figure]) -> Table:
    title = f"{result.part}: {result.title}"
    table = Table(
        title=f"{title}, {group}" if group else title,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for figure in figures:
        table.add_row(figure.name, *figure.cells())
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
        # Two numbers tell enough; the rest names a provider's build.
        "system": f"{platform.system()} "
        + ".".join(platform.release().split(".")[:2]),
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
