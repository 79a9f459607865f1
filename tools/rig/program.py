"""How a program of the tools ends."""

from __future__ import annotations

import signal
import sys
from typing import Callable, NoReturn

EXIT_INTERRUPTED = 130


def run(main: Callable[[], int]) -> NoReturn:
    """Exit with what `main` returns. SIGTERM cleans up as Ctrl-C does."""
    clean_up_when_terminated()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def clean_up_when_terminated() -> None:
    """Have SIGTERM raise KeyboardInterrupt in this process."""
    signal.signal(signal.SIGTERM, _terminated)


def _terminated(signum: int, frame: object) -> NoReturn:
    # Once: a second one would break off what cleans up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
