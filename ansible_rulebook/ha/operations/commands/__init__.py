"""``ansible-rulebook-ha``: what is done to a cluster from outside.

A command is a module with ``add(commands)``, which declares it, and a function
that returns the exit code: 0, 1 if the server did not do it, 2 if it was
called wrongly.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ...conninfo import Conninfo
from ...election.lease import Timings
from ...errors import HaError, OptionError
from ...options import DSN
from ...own_process import hide
from ...redaction import mask_password, one_line
from ...state.session import StateSession
from . import demo, forget, init_db

PROGRAM = "ansible-rulebook-ha"
APPLICATION = "eda-ha-command"
EXIT_SERVER = 1
EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :returns: the exit code.
    """
    args = _parser().parse_args(argv)
    try:
        code: int = args.begin(args)
    except OptionError as error:
        return _fail(EXIT_USAGE, str(error))
    except HaError as error:
        return _fail(EXIT_SERVER, str(error))
    return code


def _on_server(args: argparse.Namespace) -> int:
    session = StateSession(_conninfo(args), APPLICATION, Timings())
    try:
        code: int = args.run(args, session)
    finally:
        session.close()
    return code


class _Parser(argparse.ArgumentParser):
    """Repeats a mistyped option in its error, but no password."""

    def error(self, message: str) -> NoReturn:
        super().error(mask_password(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Prepares what ansible-rulebook's high availability "
        "needs, cleans up after it, and shows it at work.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (init_db, forget):
        command = module.add(commands)
        command.add_argument(
            DSN.flag,
            metavar="DSN",
            help="PostgreSQL connection string. Can also be passed via "
            f"{DSN.variable}.",
        )
        command.set_defaults(begin=_on_server)
    demo.add(commands).set_defaults(begin=demo.run)
    return parser


def _conninfo(args: argparse.Namespace) -> Conninfo:
    dsn = DSN.read(args, os.environ)
    if dsn is None:
        raise OptionError(f"{DSN.origin} is required")
    parsed = Conninfo(dsn, DSN.origin)
    hide(parsed)
    return parsed


def _fail(code: int, message: str) -> int:
    print(f"{PROGRAM}: error: {one_line(message)}", file=sys.stderr)
    return code
