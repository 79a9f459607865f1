"""Hurt a cluster at random and check what it did: ``make chaos``.

::

    export PYTHONPATH=tools
    python -m chaos [--seed N] [--duration S] [--schedules K]
        [--state off|required] [--json FILE] [--rst FILE] [fault ...]

Each schedule has a cluster of its own, of real workers and a real
PostgreSQL, and a seed: the first one --seed, the next one that plus one, and
so on. The same seed gives the same faults in the same order. Every other
schedule has a standby that can be promoted. In two of four the workers reach
the server through proxies, which can lose what is sent; in the other two
they reach it directly, and nothing but that can delay an answer.

Exits with 1 if something was found that must not be, or if a schedule was
cut short; the records are kept then.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.status import Status
from rig import program

from ansible_rulebook.ha.upstream.names import is_able_to_keep_state
from chaos.checker import Limits
from chaos.cluster import Settings
from chaos.report import Report
from chaos.run import Task, run, with_state
from chaos.schedule import KINDS, Plan

OUTPUT = ("json", "rst", "keep")
EXIT_FOUND = 1
WIDTH = 110  # columns, where there is no terminal


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description="Hurt a cluster at random, and check what it did.",
    )
    parser.add_argument(
        "kinds",
        nargs="*",
        metavar="fault",
        help=f"which faults to do: {', '.join(KINDS)} (default: all)",
    )
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    parser.add_argument(
        "--duration",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds in which faults begin, per schedule (default 120)",
    )
    parser.add_argument(
        "--faults",
        type=int,
        metavar="N",
        help="faults at most, per schedule",
    )
    parser.add_argument(
        "--schedules", type=int, default=1, metavar="K", help="default 1"
    )
    parser.add_argument(
        "--state",
        choices=("required", "off"),
        help="whether workers keep rule state (default: if they can)",
    )
    parser.add_argument(
        "--standby",
        choices=("some", "all", "none"),
        default="some",
        help="which schedules have a standby (default: every other one)",
    )
    parser.add_argument(
        "--proxies",
        choices=("some", "all", "none"),
        default="some",
        help="in which schedules the network can fail (default: two of four)",
    )
    parser.add_argument("--workers", type=int, default=3, metavar="N")
    parser.add_argument("--poll", type=float, default=1.0, metavar="S")
    parser.add_argument("--lease", type=float, default=3.0, metavar="S")
    parser.add_argument(
        "--slack",
        type=float,
        default=Limits.slack,
        metavar="S",
        help=f"seconds that this machine may add (default {Limits.slack:g})",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures there"
    )
    parser.add_argument(
        "--rst", type=Path, metavar="FILE", help="write the table there"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep all records and logs there",
    )
    return parser


def tasks(options: argparse.Namespace) -> list[Task]:
    """The schedules to run.

    :raises ValueError: if the options do not go together.
    """
    mode = options.state or ("required" if is_able_to_keep_state() else "off")
    if options.workers < 2:
        raise ValueError("it takes two workers at least")
    settings = with_state(
        Settings(
            workers=options.workers, poll=options.poll, lease=options.lease
        ),
        mode,
    )
    found = []
    for number in range(options.schedules):
        standby = options.standby == "all" or (
            options.standby == "some" and number % 2 == 1
        )
        proxied = options.proxies == "all" or (
            options.proxies == "some" and number % 4 < 2
        )
        Plan(
            standby=standby,
            proxied=proxied,
            state=settings.state,
            kinds=tuple(options.kinds),
        ).bag()
        found.append(
            Task(
                options.seed + number,
                options.duration,
                options.faults,
                standby,
                proxied,
                tuple(options.kinds),
                settings,
                Limits(slack=options.slack),
            )
        )
    return found


def command_of(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> str:
    """The command that does the same, wherever its output goes."""
    words: list[str] = []
    for name, value in vars(options).items():
        if name not in OUTPUT and value != parser.get_default(name):
            given = value if isinstance(value, list) else [f"--{name}", value]
            words += map(str, given)
    if not words:
        return "make chaos"
    return f"make chaos CHAOS_ARGS={shlex.quote(shlex.join(words))}"


def show_step(status: Status, seed: int, text: str) -> None:
    status.update(f"seed {seed}: {text}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = get_parser()
    options = parser.parse_args(argv)
    command = command_of(parser, options)
    try:
        todo = tasks(options)
    except ValueError as error:
        parser.error(str(error))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    report = Report()
    root = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    for task in todo:
        folder = root / f"seed-{task.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        with console.status(f"seed {task.seed}") as status:
            result = run(
                task,
                folder,
                partial(show_step, status, task.seed),
            )
        report.results.append(result)
        verdict = result.verdict
        console.print(
            f"seed {task.seed}: {len(verdict.outcomes)} faults in "
            f"{result.seconds:.0f} s, {len(verdict.violations)} violations"
        )
    report.show(console)
    if options.json is not None:
        text = json.dumps(report.as_json(command), indent=2)
        options.json.write_text(f"{text}\n", "utf-8")
    if options.rst is not None:
        report.write_rst(options.rst, command)
    if report.violations or report.errors:
        console.print(f"the records are in {root}")
        return EXIT_FOUND
    if options.keep is None:
        shutil.rmtree(root, ignore_errors=True)
    return 0


if __name__ == "__main__":
    program.run(main)
