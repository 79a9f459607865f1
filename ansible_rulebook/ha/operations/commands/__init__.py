"""``ansible-rulebook-ha``: commands that show clusters and steer them.

A command is a module with ``add(commands)``, which declares it with its
options and sets ``begin``: a function that returns the exit code.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from ...errors import HaError, OptionError, ServerUnavailable
from ...redaction import LONGEST_LINE, clean, mask_password, one_line
from ..asking import Unasked
from ..exit_codes import ExitCode
from ..output import print_json
from ..switchover import Unanswered
from . import (
    check,
    demo,
    drill,
    forget,
    history,
    init_db,
    leader,
    new_uuid,
    pause,
    status,
    switchover,
    why,
)
from .common import PROGRAM

COMMANDS = (
    *(status, leader, history, why, check),
    *(switchover, pause, drill),
    *(init_db, forget, new_uuid, demo),
)
BROKEN_PIPE = 141  # as a shell says it


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :returns: the exit code.
    """
    _print_anything()
    try:
        code = _run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads the output any more, so what Python still writes at
        # its end goes nowhere.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except OptionError as error:  # of an option's type
        return _fail(None, ExitCode.USAGE, str(error))
    try:
        return int(args.begin(args))
    except OptionError as error:
        return _fail(args, ExitCode.USAGE, str(error))
    except Unanswered as error:
        return _fail(args, ExitCode.TIMED_OUT, str(error))
    except (Unasked, ServerUnavailable) as error:
        return _fail(args, ExitCode.UNASKED, str(error))
    except HaError as error:
        return _fail(args, ExitCode.REFUSED, str(error))


class _Parser(argparse.ArgumentParser):
    """Repeats a mistyped option in its error, but no password."""

    def error(self, message: str) -> NoReturn:
        super().error(clean(mask_password(message), LONGEST_LINE))


class _Version(argparse.Action):
    """Prints the versions. They are looked up only if they are asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata  # takes long to load

        for name in (PROGRAM, "ansible-rulebook", "psycopg"):
            try:
                print(f"{name} {metadata.version(name)}")
            except metadata.PackageNotFoundError:
                print(f"{name} is not installed")
        print(f"Python {platform.python_version()} {sys.executable}")
        parser.exit(ExitCode.DONE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Shows clusters of ansible-rulebook workers, steers them, "
        "prepares what they need, and cleans up after them.",
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="show the versions of what is installed, and exit",
    )
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, dest="command"
    )
    for module in COMMANDS:
        module.add(commands)
    return parser


def _fail(
    args: argparse.Namespace | None, code: ExitCode, message: str
) -> int:
    message = one_line(message)
    if getattr(args, "json", False):
        assert args is not None
        print_json(args.command, exit=int(code), error=message)
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return int(code)


def _print_anything() -> None:
    """Print escapes for characters that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore
