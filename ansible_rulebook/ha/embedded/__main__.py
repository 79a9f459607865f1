"""``python -m ansible_rulebook.ha.embedded``."""

import argparse
import sys
from typing import List, Optional, Sequence

from .errors import EmbeddedError
from .run import DSN_VARIABLE, run_shared


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point of ``python -m ansible_rulebook.ha.embedded``."""
    parser = argparse.ArgumentParser(
        prog="python -m ansible_rulebook.ha.embedded",
        description="Share an embedded PostgreSQL between commands.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser(
        "run",
        help=f"run a command with {DSN_VARIABLE} and a Java set",
        usage="%(prog)s -- COMMAND [ARG ...]",
    )
    run.add_argument("command", nargs=argparse.REMAINDER)
    command: List[str] = parser.parse_args(argv).command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        run.error("which command?")
    try:
        return run_shared(command)
    except FileNotFoundError as error:
        print(f"embedded: no such command: {error.filename}", file=sys.stderr)
        return 127
    except (EmbeddedError, OSError) as error:
        print(f"embedded: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
