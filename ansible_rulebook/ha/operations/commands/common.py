"""Options that commands share, and what they stand for."""

from __future__ import annotations

import argparse
import math
import os
import uuid
from typing import Callable

from ...conninfo import Conninfo
from ...election.lease import Timings
from ...errors import OptionError
from ...options import DSN, HA_UUID, read_uuid
from ...own_process import hide
from ...state.session import StateSession
from ..asking import APPLICATION, in_time
from ..exit_codes import ExitCode

Begin = Callable[[argparse.Namespace], ExitCode]
OnServer = Callable[[argparse.Namespace, StateSession], ExitCode]

PROGRAM = "ansible-rulebook-ha"
TIMEOUT = 5.0  # seconds
LONG_TIMEOUT = 300.0  # seconds, for what has more to do than to look
LONGEST = 86_400.0  # seconds, for any option


def add_json(command: argparse.ArgumentParser) -> None:
    """Let it print JSON."""
    command.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object on a line; its key v is the format's "
        "version",
    )


def add_dsn(
    command: argparse.ArgumentParser, timeout: float = TIMEOUT
) -> None:
    """Let it be told the server, and how long it may take."""
    command.add_argument(
        DSN.flag,
        metavar="DSN",
        help="PostgreSQL connection string. Can also be passed via "
        f"{DSN.variable}.",
    )
    command.add_argument(
        "--timeout",
        type=seconds("--timeout"),
        default=timeout,
        metavar="SECONDS",
        help=f"give up after that long, default {timeout:g}",
    )


def add_uuid(command: argparse.ArgumentParser) -> None:
    """Let it be told the cluster."""
    command.add_argument(
        HA_UUID.flag,
        metavar="UUID",
        help=f"the cluster. Can also be passed via {HA_UUID.variable}.",
    )


def conninfo(args: argparse.Namespace) -> Conninfo:
    """The server, hidden from now on from who looks at this process.

    :raises OptionError: if it is not given, or no connection string.
    """
    dsn = DSN.read(args, os.environ)
    if dsn is None:
        raise OptionError(f"{DSN.origin} is required")
    parsed = Conninfo(dsn, DSN.origin)
    hide(parsed)
    return parsed


def ha_uuid(args: argparse.Namespace) -> uuid.UUID:
    """The cluster.

    :raises OptionError: if it is not given, or no UUID.
    """
    found = read_uuid(args, os.environ)
    if found is None:
        raise OptionError(f"{HA_UUID.origin} is required")
    return found


def on_server(run: OnServer) -> Begin:
    """Give a command a session that may write, for as long as it may take."""

    def begin(args: argparse.Namespace) -> ExitCode:
        where = conninfo(args)

        def work() -> ExitCode:
            session = StateSession(where, APPLICATION, Timings())
            try:
                return run(args, session)
            finally:
                session.close()

        return in_time(work, args.timeout)

    return begin


def seconds(flag: str) -> Callable[[str], float]:
    """The type of an option that is a time."""

    def parse(text: str) -> float:
        value = _number(flag, text)
        if not 0.1 <= value <= LONGEST:
            raise OptionError(
                f"{flag}: give a number of seconds from 0.1 to {LONGEST:g}"
            )
        return value

    return parse


def whole(flag: str, least: int, most: int) -> Callable[[str], int]:
    """The type of an option that is a number of things."""

    def parse(text: str) -> int:
        value = _number(flag, text)
        if value != int(value) or not least <= value <= most:
            raise OptionError(
                f"{flag}: give a whole number from {least} to {most}"
            )
        return int(value)

    return parse


def _number(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise OptionError(f"{flag}: not a number") from None
    if not math.isfinite(value):
        raise OptionError(f"{flag}: not a number")
    return value
