#!/usr/bin/env python3
"""Measure what the HA extension costs and what it gives: ``make bench``.

::

    python tools/bench.py [--quick] [--strict] [--json FILE] [part ...]

Needs nothing but the environment it runs in: PostgreSQL and Java come from
the ``[embedded]`` extra. Exits with 1 if a part could not be run, and with
``--strict`` also if a goal was missed. The parts are in the package of the
same name beside this file.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

from bench import lock, startup, statements, throughput, worker
from bench.report import Result, machine, show
from bench.setting import Setting
from rich.console import Console
from rig.server import EmbeddedRig

PARTS: dict[str, Callable[[Setting], Result]] = {
    "lock": lock.measure,
    "worker": worker.measure,
    "statements": statements.measure,
    "throughput": throughput.measure,
    "startup": startup.measure,
}
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.py",
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


def main(argv: Sequence[str] | None = None) -> int:
    parser = get_parser()
    options = parser.parse_args(argv)
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"no such part: {name}")
    names = [n for n in PARTS if n in options.parts or not options.parts]
    console = Console()
    started = datetime.now(timezone.utc)
    where = describe_machine()
    for key, value in where.items():
        console.print(f"{key:>16}: {value}", highlight=False)
    console.print()
    results: list[Result] = []
    for name in names:
        results.append(run_part(name, options.quick, console))
        show(results[-1], console)
    if options.json is not None:
        report = {
            "started": started.isoformat(timespec="seconds"),
            "quick": options.quick,
            "machine": where,
            "parts": {result.part: result.as_json() for result in results},
        }
        text = json.dumps(report, indent=2, ensure_ascii=False)
        options.json.write_text(f"{text}\n", "utf-8")
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


def _terminated(signum: int, frame: object) -> None:
    raise KeyboardInterrupt  # cleans up as Ctrl-C does


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
