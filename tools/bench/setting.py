"""What every part is given."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from rig.process import Line, ManagedProcess, ProcessError

WATCH_INTERVAL = 0.002  # seconds between two looks at several processes
COMMAND_TIMEOUT = 90.0  # seconds
TOOLS = Path(__file__).resolve().parent.parent
# The embedded server does not flush otherwise, which no server should.
AS_A_SERVER = {"fsync": True}


@dataclass
class Setting:
    """Where a part keeps files, and what it may spend.

    `stack` ends with the part: what is entered there is never left behind.
    """

    root: Path
    quick: bool
    stack: ExitStack
    say: Callable[[str], None]

    def pick(self, full: int, quick: int) -> int:
        """How many rounds."""
        return quick if self.quick else full

    def folder(self, name: str) -> Path:
        made = self.root / name
        made.mkdir(parents=True, exist_ok=True)
        return made


def tools_env() -> dict[str, str]:
    """The environment of our own programs: they find the tools."""
    paths = [str(TOOLS), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
    }


def operate(variables: Mapping[str, str], *words: str) -> str:
    """Run ``ansible-rulebook-ha``; what it printed.

    :param variables: of its environment, that tell the cluster.
    :raises ProcessError: if it fails.
    """
    program = Path(sys.executable).with_name("ansible-rulebook-ha")
    done = subprocess.run(
        [str(program), *words],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT,
    )
    if done.returncode:
        raise ProcessError(done.stdout)
    return done.stdout


def first_to_say(
    processes: Iterable[ManagedProcess], pattern: str, timeout: float
) -> tuple[ManagedProcess, Line]:
    """The first of them that has such a line, and the line.

    :raises ProcessError: if none has one in time.
    """
    processes = list(processes)
    deadline = time.monotonic() + timeout
    while True:
        for process in processes:
            found = process.find(pattern)
            if found:
                return process, found[0]
        if time.monotonic() > deadline:
            tails = "\n".join(process.tail(15) for process in processes)
            raise ProcessError(f"nobody said {pattern!r}\n{tails}")
        time.sleep(WATCH_INTERVAL)
