"""Measure what the HA extension costs and what it gives: ``make bench``.

::

    export PYTHONPATH=tools
    python -m bench [--quick] [--strict] [--json FILE [--resume]]
                    [--rst FILE] [--charts FOLDER] [part ...]
    python -m bench --from FILE [--rst FILE] [--charts FOLDER]

Needs nothing but the environment it runs in: PostgreSQL and Java come from
the ``[embedded]`` extra. What ``[bench]`` adds are the peers that part
"peers" compares with, and matplotlib for the charts; ZooKeeper, Redis, etcd
and HAProxy come from the system's packages. Without them the rest is measured.

What a part has found is in the file of --json as soon as it has ended. With
--resume those that are there are not run again, so an interrupted run goes on
where it was.

Exits with 1 if a part could not be run, and with ``--strict`` also if a goal
was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

from rich.console import Console
from rig.checkout import revision
from rig.program import run
from rig.server import EmbeddedRig

from bench import (
    chart,
    connections,
    haproxy,
    inbox,
    load,
    lock,
    memory,
    monitoring,
    network,
    peers,
    pending,
    questions,
    recovery,
    startup,
    state,
    statements,
    storm,
    switchover,
    tables,
    throughput,
    timeline,
    webhook,
    worker,
)
from bench.report import Result, machine, show
from bench.setting import Setting

PARTS: dict[str, Callable[[Setting], Result]] = {
    "lock": lock.measure,
    "peers": peers.measure,
    "worker": worker.measure,
    "timeline": timeline.measure,
    "switchover": switchover.measure,
    "statements": statements.measure,
    "load": load.measure,
    "throughput": throughput.measure,
    "state": state.measure,
    "webhook": webhook.measure,
    "inbox": inbox.measure,
    "storm": storm.measure,
    "haproxy": haproxy.measure,
    "network": network.measure,
    "recovery": recovery.measure,
    "pending": pending.measure,
    "connections": connections.measure,
    "memory": memory.measure,
    "monitoring": monitoring.measure,
    "questions": questions.measure,
    "startup": startup.measure,
}
EXIT_FAILED = 1


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure takeover times, statements, events per second.",
    )
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="part",
        help=f"which parts to run: {', '.join(PARTS)} (default: all)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few rounds: shows that it works, not what it can do",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 on a missed goal"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures there"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave out what the file of --json has, and add the rest to it",
    )
    parser.add_argument(
        "--rst",
        type=Path,
        metavar="FILE",
        help="write all tables there, as the docs have them",
    )
    parser.add_argument(
        "--charts",
        type=Path,
        metavar="FOLDER",
        help="draw takeover.svg, failover.svg and retained.svg there",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="measure nothing: show and draw what --json has written",
    )
    return parser


def run_part(name: str, quick: bool, console: Console) -> Result:
    """Run one part; what it started has ended when this returns."""
    with ExitStack() as stack:
        root = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        )
        status = stack.enter_context(console.status(name))
        setting = Setting(
            root, quick, stack, lambda text: status.update(f"{name}: {text}")
        )
        try:
            return PARTS[name](setting)
        except Exception:
            return Result(name, "", error=traceback.format_exc())


def describe_machine() -> dict[str, Any]:
    found = machine()
    with EmbeddedRig() as server:
        ((found["postgresql"],),) = server.query("SHOW server_version")
    return found


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run the parts and show each; all that is known about the run."""
    names = [n for n in PARTS if n in options.parts or not options.parts]
    report = begun(options)
    show_machine(report["machine"], console)
    for name in names:
        if not is_done(name, report):
            result = run_part(name, options.quick, console)
            report["parts"][name] = result.as_json()
            save(report, options.json)  # the next part may be interrupted
        show(Result.from_json(name, report["parts"][name]), console)
    # In their order, whichever was run again.
    report["parts"] = {n: report["parts"][n] for n in names}
    return report


def begun(options: argparse.Namespace) -> dict[str, Any]:
    """A report without parts, or the one that is to be gone on with.

    :raises ValueError: if that is of other arguments, code or machine.
    """
    words = [*options.parts, *(["--quick"] if options.quick else [])]
    started = datetime.now(timezone.utc)
    report: dict[str, Any] = {
        "started": started.isoformat(timespec="seconds"),
        "arguments": " ".join(words),
        "quick": options.quick,
        "code": revision("HEAD:ansible_rulebook/ha"),
        "machine": describe_machine(),
        "parts": {},
    }
    if not options.resume or not options.json.exists():
        return report
    before: dict[str, Any] = json.loads(options.json.read_text("utf-8"))
    for key in ("arguments", "code", "machine"):
        if _lasting(before[key]) != _lasting(report[key]):
            raise ValueError(
                f"cannot go on with {options.json}: {key}: {before[key]}"
            )
    return before


def _lasting(value: Any) -> Any:
    """Without what is another each time."""
    if not isinstance(value, dict):
        return value
    return {k: v for k, v in value.items() if k != "load before"}


def is_done(name: str, report: Mapping[str, Any]) -> bool:
    found = report["parts"].get(name)
    return found is not None and found["error"] is None


def save(report: Mapping[str, Any], path: Path | None) -> None:
    if path is not None:
        text = json.dumps(report, indent=2, ensure_ascii=False)
        path.write_text(f"{text}\n", "utf-8")


def show_machine(where: Mapping[str, Any], console: Console) -> None:
    for key, value in where.items():
        console.print(f"{key:>16}: {value}", highlight=False)
    console.print()


def results_of(report: Mapping[str, Any]) -> dict[str, Result]:
    return {
        part: Result.from_json(part, found)
        for part, found in report["parts"].items()
    }


def write(
    report: Mapping[str, Any], options: argparse.Namespace, console: Console
) -> None:
    """The files that were asked for."""
    results = results_of(report)
    pictures: dict[str, str] = {}
    save(report, options.json)
    if options.charts is not None and not chart.can_draw():
        console.print("no charts: matplotlib is not installed")
    elif options.charts is not None:
        for part, path in chart.draw(results, options.charts).items():
            beside = (options.rst or path).parent.resolve()
            pictures[part] = os.path.relpath(path.resolve(), beside)
    if options.rst is not None:
        text = tables.document(
            list(results.values()),
            report["machine"],
            report["arguments"],
            pictures,
        )
        options.rst.write_text(text, "utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = get_parser()
    options = parser.parse_args(argv)
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"no such part: {name}")
    if options.resume and options.json is None:
        parser.error("--resume needs --json")
    console = Console()
    if options.source is not None:
        report = json.loads(options.source.read_text("utf-8"))
        show_machine(report["machine"], console)
        for result in results_of(report).values():
            show(result, console)
    else:
        try:
            report = measure(options, console)
        except ValueError as error:
            parser.error(str(error))
    write(report, options, console)
    results = list(results_of(report).values())
    missed = [
        f"{result.part}: {goal.name}"
        for result in results
        for goal in result.goals
        if not goal.met
    ]
    if missed:
        console.print(f"[bold red]goals missed:[/] {'; '.join(missed)}")
    if any(result.error is not None for result in results):
        return EXIT_FAILED
    return EXIT_FAILED if missed and options.strict else 0


if __name__ == "__main__":
    run(main)
