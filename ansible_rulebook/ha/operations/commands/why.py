"""``why``: the last transition, in sentences."""

from __future__ import annotations

import argparse
from typing import Any

from ..exit_codes import ExitCode
from ..health import judge
from ..output import Printer, print_json
from ..why import explain
from . import common


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "why",
        help="explain the last transition",
        description="Explains in sentences why the present worker leads: what "
        "happened, how that is known, how long nobody led, what was "
        "recovered, and what to do. Exit codes as those of status.",
    )
    common.add_cluster(command)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Explain it.

    :raises HaError: if the server cannot be asked.
    """
    cluster = common.seen(args)
    code, sentences = judge(cluster).code, explain(cluster)
    if args.json:
        print_json(
            "why",
            exit=int(code),
            ha_uuid=cluster.ha_uuid,
            sentences=sentences,
        )
        return code
    printer = Printer()
    for sentence in sentences:
        printer.line(sentence)
    return code
