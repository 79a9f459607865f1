"""What the election is compared with; each is a process that wants a lock.

``wait`` is the limit of what can be had: a session that sleeps in
``pg_advisory_lock()`` and stamps the time when the call returns. ``poll`` is
what people write themselves: ``pg_try_advisory_lock()`` every few seconds.

::

    python -m bench.rivals --dsn DSN --key 1 wait
    python -m bench.rivals --dsn DSN --key 1 poll --interval 5

Prints ``asking`` before the first try, and ``locked NANOSECONDS`` of the
machine's monotonic clock. Keeps the lock until its standard input ends.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
from rig.process import ManagedProcess

from .setting import tools_env

LOCKED = r"^locked (\d+)"


class RivalProcess(ManagedProcess):
    """The program above."""

    def __init__(
        self, dsn: str, key: int, name: str, root: Path, *how: str
    ) -> None:
        argv = [sys.executable, "-m", "bench.rivals", "--dsn", dsn]
        argv += ["--key", str(key), *how]
        super().__init__(
            argv,
            name=name,
            log=root / f"{name}.log",
            env=tools_env(),
            stdin=True,
        )

    def locked_at(self) -> int | None:
        """When it got the lock, in nanoseconds, by its own word."""
        found = self.find(LOCKED)
        return int(found[0].text.split()[1]) if found else None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.rivals")
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--key", required=True, type=int)
    parser.add_argument("how", choices=("wait", "poll"))
    parser.add_argument("--interval", type=float, default=5.0)
    options = parser.parse_args(argv)
    connection = psycopg.connect(
        options.dsn, autocommit=True, application_name=f"bench-{options.how}"
    )
    print("asking", flush=True)
    if options.how == "wait":
        connection.execute("SELECT pg_advisory_lock(%s)", (options.key,))
    else:
        poll(connection, options.key, options.interval)
    print("locked", time.monotonic_ns(), flush=True)
    sys.stdin.read()
    return 0


def poll(
    connection: psycopg.Connection[tuple[bool]], key: int, interval: float
) -> None:
    """Try until the lock is ours."""
    first = True
    while True:
        row = connection.execute(
            "SELECT pg_try_advisory_lock(%s)", (key,)
        ).fetchone()
        if row is not None and row[0]:
            return
        # Workers that are started together would else stay in step.
        time.sleep(interval * (random.random() if first else 1.0))
        first = False


if __name__ == "__main__":
    sys.exit(main())
