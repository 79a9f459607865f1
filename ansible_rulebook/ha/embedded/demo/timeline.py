"""What the demo shows at its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

from .worker import LEADS, Entry, Worker

TAIL = 25  # lines of each log that are shown of a demo that failed


def show(
    console: Console, workers: Sequence[Worker], leaders: Sequence[Worker]
) -> None:
    """The timeline, and who led.

    Args:
        workers: all processes.
        leaders: the one that was killed, and the one that took over.
    """
    first, second = leaders
    killed_at, took_over = first.killed_at, second.when(LEADS)
    assert killed_at is not None and took_over is not None
    entries = [entry for worker in workers for entry in worker.roles()]
    entries.append(Entry(killed_at, first.name, "Killed with SIGKILL"))
    for worker in leaders:
        entries.append(Entry(min(worker.events()), worker.name, "First event"))
    console.print()
    console.print(_timeline(entries))
    console.print(_terms(leaders))
    console.print(
        "Takeover: "
        f"[bold]{(took_over - killed_at) * 1e3:.0f} ms[/] from SIGKILL to "
        "the next leader, "
        f"[bold]{(min(second.events()) - killed_at) * 1e3:.0f} ms[/] to "
        "its first event.",
        highlight=False,
    )


def show_failure(
    console: Console, workers: Sequence[Worker], error: Exception
) -> None:
    """What was not seen, and the end of each log."""
    console.print("\n[bold red]Not seen:[/]", end=" ")
    console.print(str(error), markup=False, highlight=False)
    for worker in workers:
        console.print()
        console.print(
            worker.tail(TAIL), markup=False, highlight=False, soft_wrap=True
        )


def _timeline(entries: Sequence[Entry]) -> Table:
    table = Table(title="Timeline", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("worker")
    table.add_column("what it did")
    began = min(entry.at for entry in entries)
    for entry in sorted(entries, key=lambda entry: entry.at):
        table.add_row(f"{entry.at - began:.3f} s", entry.who, entry.what)
    return table


def _terms(leaders: Sequence[Worker]) -> Table:
    table = Table(title="Who led", title_justify="left")
    for heading in ("worker", "from", "to", "ended by"):
        table.add_column(heading)
    table.add_column("events", justify="right")
    for worker in leaders:
        since, until = worker.when(LEADS), worker.led_until()
        assert since is not None and until is not None
        table.add_row(
            worker.name,
            _clock(since),
            _clock(until),
            "SIGKILL" if worker.killed_at else "SIGTERM",
            str(len(worker.events())),
        )
    return table


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]
