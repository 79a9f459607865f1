"""``leader``: the leader's id and nothing else."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ...redaction import clean
from ..exit_codes import ExitCode
from ..health import judge
from ..output import print_json
from . import common

LONGEST = 1000  # characters of an id


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "leader",
        help="print the leader's id",
        description="Prints the id of the worker that leads, and nothing "
        "else. Exit code 1, without output, if nobody leads.",
    )
    common.add_cluster(command)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Print it.

    :raises HaError: if the server cannot be asked.
    """
    cluster = common.seen(args)
    leader, health = cluster.leader, judge(cluster)
    name = leader.name if leader else None
    if args.json:
        print_json("leader", exit=int(health.code), leader=name)
    elif name is not None:
        print(clean(name, LONGEST))
    else:
        print(f"{common.PROGRAM}: {health.problems[0]}", file=sys.stderr)
    return health.code
