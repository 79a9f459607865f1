"""``demo``: a killed leader and the takeover, on this machine alone."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

EXIT_INTERRUPTED = 130


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="watch a worker take over, on this machine alone",
        description="Starts a PostgreSQL and two workers with an example "
        "rulebook, kills the leader, shows how the other one takes over, and "
        "stops everything. The exit code is 0 only if all of that was seen. "
        "Needs the extra 'embedded'.",
    )
    command.add_argument(
        "--logs",
        type=Path,
        metavar="FOLDER",
        help="copy the workers' logs there",
    )
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> int:
    """Show it. Nothing is left running, also after an interrupt.

    :raises EmbeddedError: if the extra is missing, or the server does not
        start.
    """
    from ...embedded.binaries import wheel_binaries

    wheel_binaries()  # raises if the extra is missing, which comes next
    from ...embedded.demo import play

    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            signal.signal(signum, _interrupt)
    try:
        return play.run(args.logs)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt  # cleans up as Ctrl-C does
