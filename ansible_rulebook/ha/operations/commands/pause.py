"""``pause``: nobody leads for as long as this runs."""

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
from ..exit_codes import ExitCode
from ..output import Printer, print_json
from ..plain import clean, moment
from ..switchover import Refused
from . import common

if TYPE_CHECKING:
    from ..pause import Pause


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "pause",
        help="have nobody lead for as long as this runs",
        description="Has the leader hand over in good order to this process, "
        "which does nothing with the lead. The workers lead again when it is "
        "ended (Ctrl-C, SIGTERM), when its time is over, or when it dies in "
        "whatever way. Exit code 0 if it was ended or its time is over, 1 if "
        "the leader refuses or the pause was lost.",
    )
    command.add_argument(
        "--for",
        dest="period",
        type=common.period("--for"),
        metavar="TIME",
        help="end by itself after that long: seconds, or such as 10m or 1h",
    )
    common.add_change(command, is_confirmed=False)
    common.add_uuid(command)
    common.add_dsn(command, common.CHANGE_TIMEOUT)
    common.add_json(command)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Hold the lead until it is over.

    :raises Refused: by the leader, or if the pause is lost.
    :raises HaError: if it cannot be had.
    """
    where, ha_uuid = common.conninfo(args), common.ha_uuid(args)
    lease = common.cluster(args, where, ha_uuid).lease
    timings = Timings() if lease is None else Timings.of(lease / 3, lease)
    # What the election logs is for workers.
    logging.getLogger("ansible_rulebook.ha").addHandler(logging.NullHandler())
    return asyncio.run(_pause(args, where, ha_uuid, timings))


async def _pause(
    args: argparse.Namespace,
    where: Conninfo,
    ha_uuid: uuid.UUID,
    timings: Timings,
) -> ExitCode:
    from ..pause import Pause  # what others do not need takes long to load

    # It tells two of one person apart, and from workers on this machine.
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
