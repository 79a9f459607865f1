"""Hurt a cluster at random and check what it did: ``make chaos``.

::

    export PYTHONPATH=tools
    python -m chaos [--seed N] [--duration S] [--schedules K] [--jobs J]
        [--state off|required] [--has LIST] [--json FILE [--resume]]
        [--rst FILE] [fault ...]

Each schedule has a cluster of its own, of real workers and a real
PostgreSQL, and a seed: the first one --seed, the next one that plus one, and
so on. The same seed gives the same faults in the same order, and decides what
the cluster has besides: a standby that can be promoted, or a small volume for
the server's data; proxies before the server, which can lose what is sent;
clocks that can be set.

With --json all that was found is written after each schedule. With --resume
those that are there are not run again, so an interrupted run goes on.

Exits with 1 if something was found that must not be, or if a schedule was
cut short; the records are kept then.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.report import machine
from rich.console import Console
from rig import program
from rig.checkout import revision
from rig.clocks import can_compile

from ansible_rulebook.ha.upstream.names import is_able_to_keep_state
from chaos.campaign import Campaign, run_all
from chaos.checker import Limits
from chaos.cluster import Settings
from chaos.report import Report
from chaos.run import Task, with_state
from chaos.schedule import (
    CHOICES,
    CLOCKS,
    KINDS,
    STATE,
    VOLUME,
    Plan,
    cluster_of,
)
from chaos.volume import can_mount

OUTPUT = ("json", "rst", "keep", "resume", "jobs")
HOW_MANY = ("seed", "schedules")  # of the same
CODE = ("ansible_rulebook/ha", "tools/chaos")  # what figures depend on
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
        "--jobs",
        type=int,
        default=1,
        metavar="J",
        help="schedules at a time (default 1)",
    )
    parser.add_argument(
        "--state",
        choices=("required", "off"),
        help="whether workers keep rule state (default: if they can)",
    )
    parser.add_argument(
        "--has",
        metavar="LIST",
        help="what each cluster has, with commas: "
        f"{', '.join(CHOICES)} or none (default: the seed decides)",
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
        "--resume",
        action="store_true",
        help="go on with what FILE has of the same code, machine and options",
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


def tasks(
    options: argparse.Namespace, impossible: frozenset[str] = frozenset()
) -> list[Task]:
    """The schedules to run.

    :param impossible: what no cluster can have on this machine.
    :raises ValueError: if the options do not go together.
    """
    mode = options.state or ("required" if is_able_to_keep_state() else "off")
    if options.schedules < 1:
        raise ValueError("--schedules: one at least")
    if options.workers < 2:
        raise ValueError("it takes two workers at least")
    settings = with_state(
        Settings(
            workers=options.workers, poll=options.poll, lease=options.lease
        ),
        mode,
    )
    kinds = tuple(options.kinds)
    found = []
    for seed in range(options.seed, options.seed + options.schedules):
        if options.has is None:
            has = cluster_of(seed, kinds)
        else:
            has = frozenset(options.has.split(",")) - {"none"}
        if not has <= set(CHOICES):
            raise ValueError(f"no cluster has {', '.join(has - set(CHOICES))}")
        has -= impossible
        Plan(
            has=has | ({STATE} if settings.state else set()), kinds=kinds
        ).bag()
        found.append(
            Task(
                seed,
                options.duration,
                options.faults,
                has,
                kinds,
                settings,
                Limits(slack=options.slack),
            )
        )
    return found


def impossible_here(console: Console) -> frozenset[str]:
    """What no cluster can have on this machine; says so."""
    found = set()
    if not can_mount():
        console.print("no server's volume is full: mounting is not allowed")
        found.add(VOLUME)
    if not can_compile():
        console.print("no clock is set: there is no C compiler")
        found.add(CLOCKS)
    return frozenset(found)


def command_of(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    without: Sequence[str] = OUTPUT,
) -> str:
    """The command that does the same, wherever its output goes."""
    words: list[str] = []
    for name, value in vars(options).items():
        if name not in without and value != parser.get_default(name):
            given = value if isinstance(value, list) else [f"--{name}", value]
            words += map(str, given)
    if not words:
        return "make chaos"
    return f"make chaos CHAOS_ARGS={shlex.quote(shlex.join(words))}"


def begun(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> Campaign:
    """One without schedules, or that which is to be gone on with.

    :raises ValueError: if that is of other options, code or machine.
    """
    where = machine()
    del where["load before"]
    campaign = Campaign(
        {
            "each": command_of(parser, options, (*OUTPUT, *HOW_MANY)),
            "code": {path: revision(f"HEAD:{path}") for path in CODE},
            "machine": where,
        }
    )
    if options.resume and options.json.exists():
        campaign.load(options.json)
    return campaign


def main(argv: Sequence[str] | None = None) -> int:
    parser = get_parser()
    options = parser.parse_args(argv)
    if options.resume and options.json is None:
        parser.error("--resume needs --json")
    if options.jobs < 1:
        parser.error("--jobs: one at least")
    command = command_of(parser, options)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    try:
        todo = tasks(options, impossible_here(console))
        campaign = begun(parser, options)
    except ValueError as error:
        parser.error(str(error))
    report = Report(campaign, command, todo[0].settings)
    root = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    with console.status("") as status:
        for summary in run_all(
            campaign.left(todo),
            root,
            options.jobs,
            options.keep is not None,
            status.update,
        ):
            campaign.summaries.append(summary)
            report.show_one(summary, console)
            if options.json is not None:
                campaign.save(options.json, report.as_json())
    report.show(console)
    if options.rst is not None:
        report.write_rst(options.rst)
    if report.violations or report.errors:
        console.print(f"the records are in {root}")
        return EXIT_FOUND
    if options.keep is None:
        shutil.rmtree(root, ignore_errors=True)
    return 0


if __name__ == "__main__":
    program.run(main)
