"""``check``: whether everything is in order, host by host."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ...options import LEASE, read_lease, read_uuid
from ..exit_codes import ExitCode
from ..finding import Finding, Level, exit_code
from ..output import Printer, print_json
from . import common

STYLES = {Level.OK: "", Level.WARNING: "bold yellow", Level.FAULT: "bold red"}
TIMEOUT = 10.0  # seconds; it also starts a Python, which takes a while


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="see whether everything is in order",
        description="Asks every host of the connection string, and looks at "
        "settings, rights, tables, workers and this installation. Says what "
        "to do. Changes nothing. Exit code 0 if all is well, 1 for a fault, "
        "3 for warnings, 4 if no host could be asked.",
    )
    command.add_argument(
        LEASE.flag,
        metavar="SECONDS",
        help="the lease to try; default that of the workers that are "
        f"connected. Can also be passed via {LEASE.variable}.",
    )
    common.add_cluster(command, TIMEOUT)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Look at all of it.

    :raises OptionError: if it was called wrongly.
    """
    from ..check import check  # takes long, so other commands do not

    where = common.conninfo(args)
    ha_uuid = read_uuid(args, os.environ)
    lease = read_lease(args, os.environ)
    findings, is_reached = check(where, ha_uuid, args.timeout, lease)
    code = exit_code(findings) if is_reached else ExitCode.UNASKED
    if args.json:
        told = [_as_json(each) for each in findings]
        print_json("check", exit=int(code), findings=told)
        return code
    printer = Printer()
    for each in findings:
        head = f"{each.level.value:<8}{each.about}: "
        printer.line(head + each.words, STYLES[each.level])
        if each.advice:
            printer.line(f"{'':<8}What to do: {each.advice}")
    return code


def _as_json(finding: Finding) -> dict[str, str]:
    return {**finding._asdict(), "level": finding.level.value.lower()}
