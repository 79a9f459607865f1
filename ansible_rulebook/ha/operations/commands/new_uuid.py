"""``new-uuid``: a name for a new cluster."""

from __future__ import annotations

import argparse
import uuid
from typing import Any

from ..exit_codes import ExitCode
from ..output import print_json
from . import common


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "new-uuid",
        help="print a UUID for a new cluster",
        description="Prints a new random UUID. Give it to all workers of a "
        "cluster (--ha-uuid).",
    )
    common.add_json(command)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Print it."""
    made = str(uuid.uuid4())
    if args.json:
        print_json("new-uuid", exit=int(ExitCode.DONE), ha_uuid=made)
    else:
        print(made)
    return ExitCode.DONE
