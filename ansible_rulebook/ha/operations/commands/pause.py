"""``pause``: no worker leads while this command runs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import uuid
from typing import TYPE_CHECKING, Any

from ...conninfo import Conninfo
from ...election.lease import Timings
from ...redaction import clean
from ..exit_codes import ExitCode
from ..output import Printer, print_json
from ..plain import moment
from ..switchover import Refused
from . import common

if TYPE_CHECKING:
    from ..pause import Pause


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "pause",
        help="keep all workers from leading while this runs",
        description="Has the leader hand over in good order to this process, "
        "which does nothing with the lead. A worker leads again when this "
        "process ends: by Ctrl-C or SIGTERM, after the time of --for, or by "
        "any failure. Exit code 0 if it was ended or its time is over, 1 if "
        "the leader refuses or the pause was lost.",
    )
    command.add_argument(
        "--for",
        dest="period",
        type=common.period("--for"),
        metavar="TIME",
        help="end after that time: seconds, or a number with m or h, as 10m",
    )
    common.add_change(command, is_confirmed=False)
    common.add_cluster(command, common.CHANGE_TIMEOUT)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Hold the lead until it is over.

    :raises Refused: by the leader, or if the pause is lost.
    :raises HaError: if the pause cannot begin.
    """
    where, ha_uuid = common.conninfo(args), common.ha_uuid(args)
    lease = common.cluster(args, where, ha_uuid).lease
    timings = Timings() if lease is None else Timings.of(lease / 3, lease)
    # The election's log lines are for workers, not for this command.
    logging.getLogger("ansible_rulebook.ha").addHandler(logging.NullHandler())
    return asyncio.run(_pause(args, where, ha_uuid, timings))


async def _pause(
    args: argparse.Namespace,
    where: Conninfo,
    ha_uuid: uuid.UUID,
    timings: Timings,
) -> ExitCode:
    from ..pause import Pause  # what others do not need takes long to load

    # The process id tells two pauses of one person apart, and a pause from
    # the workers on this machine.
    by = f"{common.myself()}-{os.getpid()}"
    pause = Pause(where, ha_uuid, by, args.reason, args.period, timings)
    async with pause:
        ended = asyncio.Event()
        beginning = asyncio.ensure_future(pause.begin(args.timeout))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(
                number, _end, ended, beginning
            )
        try:
            led = await beginning
        except asyncio.CancelledError:
            return ExitCode.INTERRUPTED
        _tell(args, pause, led.worker if led else None)
        lost = await pause.wait(ended)
    if lost:
        raise Refused(f"the pause was lost, and workers lead again: {lost}")
    if not args.json:
        Printer().line("The pause is over. Workers lead again.")
    return ExitCode.DONE


def _end(ended: asyncio.Event, beginning: asyncio.Future[Any]) -> None:
    ended.set()
    beginning.cancel()


def _tell(args: argparse.Namespace, pause: Pause, led: str | None) -> None:
    if args.json:
        print_json(
            "pause",
            exit=int(ExitCode.DONE),
            by=pause.by,
            before=led,
            until=pause.until,
        )
    else:
        until = moment(pause.until) if pause.until else "Ctrl-C"
        after = f", after {clean(led)}" if led else ""
        Printer().line(f"Paused until {until}{after}. Nobody leads.")
    sys.stdout.flush()
