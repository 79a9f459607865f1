"""Pictures of the results, as SVG; needs matplotlib (the ``bench`` extra).

The same figures give the same bytes: no date, no random ids, no path.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .peers.cluster import Fault
from .report import Figure, Result

OURS = "ansible-rulebook-ha"
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and can be searched
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
NO_METADATA = {"Date": None, "Creator": None}
# Told apart by who sees fewer colours, too (Okabe and Ito), and by shape.
LOOKS = {
    Fault.KILL: ("#0072b2", "o"),
    Fault.PAUSE: ("#d55e00", "s"),
    Fault.STOP: ("#009e73", "^"),
}
DARK = "#222222"
KILLED = "#d55e00"
LEAST = 1e-3  # seconds, where the axis begins at the latest
TICKS = {
    0.001: "1 ms",
    0.01: "10 ms",
    0.1: "0.1 s",
    1.0: "1 s",
    10.0: "10 s",
    100.0: "100 s",
}
NEVER = 200.0  # where those stand that never came, right of the axis


def can_draw() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(results: Mapping[str, Result], folder: Path) -> dict[str, Path]:
    """Draw what the results have; by part, the file that was written."""
    # Only here: it takes long to load, and only this needs it.
    import matplotlib

    matplotlib.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    with matplotlib.rc_context(STYLE):
        peers = results.get("peers")
        if peers is not None and peers.figures:
            written["peers"] = folder / "takeover.svg"
            _save(draw_takeover(peers.figures), written["peers"])
        timeline = results.get("timeline")
        if timeline is not None and timeline.data:
            written["timeline"] = folder / "failover.svg"
            _save(draw_failover(timeline.data["steps"]), written["timeline"])
        state = results.get("state")
        if state is not None and state.data:
            written["state"] = folder / "retained.svg"
            _save(draw_cost(state.data["cost"]), written["state"])
    return written


def _save(picture: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    metadata = NO_METADATA if path.suffix == ".svg" else None
    picture.savefig(path, metadata=metadata, bbox_inches="tight")
    plt.close(picture)
    if path.suffix == ".svg":
        # Its lines may end with blanks, which a checker of files dislikes.
        lines = path.read_text("utf-8").splitlines()
        text = "\n".join(line.rstrip() for line in lines)
        path.write_text(f"{text}\n", "utf-8")


def draw_takeover(figures: Sequence[Figure]) -> Any:
    """One row for each peer, one shape for each fault; a log scale."""
    import matplotlib.pyplot as plt

    rows: dict[str, dict[Fault, Figure]] = {}
    for figure in figures:
        if figure.values:
            fault = Fault(figure.group)
            rows.setdefault(figure.name, {})[fault] = figure
    names = sorted(rows, key=lambda name: _order(rows[name]))
    picture, axes = plt.subplots(figsize=(8, 0.34 * len(names) + 1.2))
    for height, name in enumerate(reversed(names)):
        axes.axhline(height, color="#dddddd", linewidth=0.6, zorder=0)
        for shift, fault in zip((0.22, 0.0, -0.22), Fault):
            if fault in rows[name]:
                _row(axes, height + shift, fault, rows[name][fault])
    axes.set_yticks(range(len(names)), list(reversed(names)))
    for label in axes.get_yticklabels():
        if label.get_text().startswith(OURS):
            label.set_fontweight("bold")
    axes.set_xscale("log")
    values = [v for f in figures for v in f.values if math.isfinite(v)]
    axes.set_xlim(min([LEAST, *values]) / 1.3, NEVER * 1.3)
    axes.set_xticks([*TICKS, NEVER], [*list(TICKS.values())[:-1], "", "never"])
    axes.set_xticks([], minor=True)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(
        "until the other one has the lock: each round, and the median"
    )
    for fault, (colour, shape) in LOOKS.items():
        axes.plot([], [], shape, color=colour, label=fault.value)
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.4, 1.0), ncol=3, frameon=False
    )
    return picture


def _order(row: Mapping[Fault, Figure]) -> tuple[float, float]:
    def median(fault: Fault) -> float:
        return row[fault].median if fault in row else math.inf

    return median(Fault.KILL), median(Fault.PAUSE)


def _row(axes: Any, height: float, fault: Fault, figure: Figure) -> None:
    colour, shape = LOOKS[fault]
    seen = [min(value, NEVER) for value in figure.values]
    heights = [height] * len(seen)
    axes.plot(
        seen, heights, shape, color=colour, markersize=3, alpha=0.35, mew=0
    )
    median = min(statistics.median(figure.values), NEVER)
    axes.plot([median], [height], shape, color=colour, markersize=6, mew=0)


def draw_failover(steps: Sequence[Mapping[str, Any]]) -> Any:
    """What happened where, from the kill to the first action."""
    import matplotlib.pyplot as plt

    lanes = ["the other worker", "PostgreSQL", "the leader"]  # from below
    last = max(step["seconds"] for step in steps) * 1e3
    early, late = -0.15 * last, last * 1.08
    picture, axes = plt.subplots(figsize=(8, 3.2))
    _bar(axes, 2, early, 0)
    axes.plot([0], [2], "X", color=KILLED, markersize=9, zorder=3)
    axes.annotate(
        "kill -9",
        (0, 2),
        xytext=(6, 6),
        textcoords="offset points",
        color=KILLED,
    )
    for height, lane in enumerate(lanes):
        axes.axhline(height, color="#dddddd", linewidth=0.6, zorder=0)
        points = sorted(
            (step["seconds"] * 1e3, step["what"])
            for step in steps
            if step["where"] == lane
        )
        if height == 0 and points:
            _bar(axes, 0, points[0][0], late)
        _notes(axes, height, points, last)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.3, 2.6)
    axes.set_xlim(early, late)
    axes.set_xlabel("milliseconds since the kill; blue: leads")
    return picture


def _bar(axes: Any, height: int, start: float, end: float) -> None:
    axes.barh(
        height,
        end - start,
        left=start,
        height=0.14,
        color=LOOKS[Fault.KILL][0],
        zorder=2,
    )


def _notes(
    axes: Any, height: int, points: Sequence[tuple[float, str]], last: float
) -> None:
    """Words above the points, so that no line crosses a word."""
    left = [point for point in points if point[0] < 0.6 * last]
    right = [point for point in points if point[0] >= 0.6 * last]
    stacked = [(point, "left") for point in reversed(left)]
    stacked += [(point, "right") for point in right]
    for row, ((at, what), side) in enumerate(stacked):
        axes.plot([at], [height], "o", color=DARK, markersize=5, zorder=3)
        axes.annotate(
            f"{what}: {at:.0f} ms",
            (at, height),
            xytext=(0, 10 + 12 * row),
            textcoords="offset points",
            horizontalalignment=side,
            color=DARK,
            fontsize=8,
            arrowprops={
                "arrowstyle": "-",
                "color": "#999999",
                "linewidth": 0.6,
                "relpos": (0.0 if side == "left" else 1.0, 0.0),
                "shrinkA": 0,
            },
        )


def draw_cost(lines: Mapping[str, Sequence[Sequence[float]]]) -> Any:
    """What an event costs, by how many are retained; a log scale."""
    import matplotlib.pyplot as plt

    picture, axes = plt.subplots(figsize=(8, 3.6))
    costs: list[float] = []
    for (colour, shape), (name, points) in zip(LOOKS.values(), lines.items()):
        retained = [point[0] for point in points]
        taken = [point[1] * 1e3 for point in points]
        axes.plot(retained, taken, f"-{shape}", color=colour, label=name)
        for at, value in zip(retained, taken):
            axes.annotate(
                f"{value:.2g}" if value < 10 else f"{value:.0f}",
                (at, value),
                xytext=(0, 7),
                textcoords="offset points",
                horizontalalignment="center",
                color=colour,
                fontsize=8,
            )
        costs += taken
    axes.set_yscale("log")
    axes.set_ylim(min(costs) / 2, max(costs) * 3)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(sorted({p[0] for each in lines.values() for p in each}))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_xlabel("events retained in the memory of the rules")
    axes.set_ylabel("milliseconds for an event")
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.4, 1.0), ncol=2, frameon=False
    )
    return picture
