"""``forget``: deletes the state of a cluster."""

from __future__ import annotations

import argparse
from typing import Any

from ...election.names import lock_key
from ...election.sql import TRY_LOCK
from ...errors import StateRefused
from ...state.housekeeping import forget_some
from ...state.session import StateSession
from ..exit_codes import ExitCode
from ..output import print_json
from . import common

PORTION = 10_000  # rows at a time


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "forget",
        help="have a cluster forget its state",
        description="Deletes the state of a cluster: events and facts in the "
        "rules' memory, and matches whose actions have not run. Its next "
        "leader begins with empty rules. Stop the workers first.",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="do it while a worker leads, too; that worker keeps what it has "
        "in memory until it ends",
    )
    common.add_cluster(command, common.LONG_TIMEOUT)
    command.set_defaults(begin=common.on_server(run))
    return command


def run(args: argparse.Namespace, session: StateSession) -> ExitCode:
    """Delete it all, in portions.

    :raises StateRefused: if a worker leads.
    :raises ServerUnavailable: if the server cannot be asked now.
    """
    ha_uuid = common.ha_uuid(args)
    # A leader holds the lock; while we hold it, no worker can become leader.
    with session.transaction() as connection:
        row = connection.execute(TRY_LOCK, (lock_key(ha_uuid),)).fetchone()
    if not args.force and not (row and row[0]):
        raise StateRefused(
            f"a worker leads cluster {ha_uuid}: stop the workers first, or "
            "say --force"
        )
    rows, gone = 0, 1
    while gone:
        with session.transaction() as connection:
            gone = forget_some(connection, str(ha_uuid), PORTION)
        rows += gone
    if args.json:
        print_json(
            "forget",
            exit=int(ExitCode.DONE),
            ha_uuid=str(ha_uuid),
            rows=rows,
        )
    else:
        print(f"cluster {ha_uuid} has forgotten {rows} rows")
    return ExitCode.DONE
