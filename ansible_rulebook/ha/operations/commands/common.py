"""Options that commands share, and what they stand for."""

from __future__ import annotations

import argparse
import getpass
import math
import os
import re
import socket
import sys
import uuid
from typing import Callable

from ...conninfo import Conninfo
from ...election.lease import Timings
from ...errors import OptionError
from ...options import DSN, HA_UUID, read_uuid
from ...own_process import hide
from ...redaction import LONGEST_LINE, clean
from ...state.session import StateSession
from ..asking import APPLICATION, in_time
from ..cluster import Cluster, look
from ..exit_codes import ExitCode
from ..switchover import Refused

Begin = Callable[[argparse.Namespace], ExitCode]
OnServer = Callable[[argparse.Namespace, StateSession], ExitCode]

PROGRAM = "ansible-rulebook-ha"
TIMEOUT = 5.0  # seconds
LONG_TIMEOUT = 300.0  # seconds, for what has more to do than to look
CHANGE_TIMEOUT = 120.0  # seconds, twice the --shutdown-delay of upstream
LOOK_TIMEOUT = 10.0  # seconds at most, for a look before a change
LONGEST = 86_400.0  # seconds, for any option
UNITS = {"s": 1, "m": 60, "h": 3600}  # seconds


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
        help=f"give up after that time, default {timeout:g}",
    )


def add_uuid(command: argparse.ArgumentParser) -> None:
    """Let it be told the cluster."""
    command.add_argument(
        HA_UUID.flag,
        metavar="UUID",
        help=f"the cluster. Can also be passed via {HA_UUID.variable}.",
    )


def add_cluster(
    command: argparse.ArgumentParser, timeout: float = TIMEOUT
) -> None:
    """Let it be told a cluster and its server, and print JSON."""
    add_uuid(command)
    add_dsn(command, timeout)
    add_json(command)


def add_change(
    command: argparse.ArgumentParser, is_confirmed: bool = True
) -> None:
    """Let it be told a reason, and not to ask before it acts."""
    command.add_argument(
        "--reason",
        default="",
        metavar="TEXT",
        help="why this is done; it is logged and shown",
    )
    if is_confirmed:
        command.add_argument(
            "--yes",
            action="store_true",
            help="do not ask; required where there is no terminal",
        )


def seen(args: argparse.Namespace, terms: int = 2) -> Cluster:
    """The cluster as it is now.

    :param terms: how many of its last terms, if it keeps state.
    :raises HaError: if the server cannot be asked.
    """
    where, name, limit = conninfo(args), ha_uuid(args), args.timeout
    (found,) = in_time(lambda: look(where, name, limit, terms), limit)
    return found


def cluster(
    args: argparse.Namespace, where: Conninfo, name: uuid.UUID
) -> Cluster:
    """The cluster as it is before a change.

    :raises HaError: if the server cannot be asked.
    """
    limit = min(args.timeout, LOOK_TIMEOUT)
    (found,) = in_time(lambda: look(where, name, limit), limit)
    return found


def confirm(args: argparse.Namespace, question: str) -> None:
    """Ask on the terminal whether to do it.

    :raises OptionError: if there is no terminal.
    :raises Refused: if the answer is no.
    """
    if args.yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise OptionError("there is no terminal to ask on: say --yes")
    question = clean(question, LONGEST_LINE)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("not done")


def myself() -> str:
    """``user@host``, for the logs."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # none that has a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def conninfo(args: argparse.Namespace) -> Conninfo:
    """The server. Its string is hidden from those who list processes.

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
    """Give a command a session that may write, and the limit --timeout."""

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


def period(flag: str) -> Callable[[str], float]:
    """The type of an option that is a time, such as ``10m``."""
    in_seconds = seconds(flag)

    def parse(text: str) -> float:
        found = re.fullmatch(r"(.*?)([smh]?)", text, re.DOTALL)
        assert found is not None
        number, unit = found.groups()
        return in_seconds(str(_number(flag, number) * UNITS[unit or "s"]))

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
