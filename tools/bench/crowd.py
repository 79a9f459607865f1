"""Many followers in one process, for loads that one machine cannot start.

::

    python -m bench.crowd --dsn DSN --uuid UUID --name a --count 10 --poll 5

Each is a LeaderElection with a session of its own, all on one event loop.
Prints ``following NUMBER`` for each once it waits for the lock, and
``locked NANOSECONDS`` of the machine's monotonic clock when one leads. Ends
with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from rig.process import ManagedProcess

from ansible_rulebook.ha import LeaderElection

from .setting import Setting, tools_env

FOLLOWING = r"^following (\d+)"
LOCKED = r"^locked (\d+)"


class CrowdProcess(ManagedProcess):
    """The program above."""

    def __init__(
        self,
        setting: Setting,
        name: str,
        dsn: str,
        ha_uuid: str,
        count: int,
        poll: float,
    ) -> None:
        self.count = count
        argv = [sys.executable, "-m", "bench.crowd", "--dsn", dsn]
        argv += ["--uuid", ha_uuid, "--name", name]
        argv += ["--count", str(count), "--poll", str(poll)]
        super().__init__(
            argv,
            name=name,
            log=setting.folder("crowd") / f"{name}.log",
            env=tools_env(),
            stdin=True,
        )

    @property
    def waiting(self) -> int:
        """How many of them wait for the lock, or have it by now."""
        return len(self.find(FOLLOWING))

    @property
    def locked_at(self) -> int | None:
        """When one of them led, in nanoseconds, by its own word."""
        found = self.find(LOCKED)
        return int(found[0].text.split()[1]) if found else None


class _Counter(logging.Handler):
    """Turns each "Following" of the log into a line."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        if "Following" in record.getMessage():
            self.count += 1
            print("following", self.count, flush=True)


async def follow(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def read() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=read, daemon=True).start()

    async def tell(election: LeaderElection) -> None:
        await election.leader_event.wait()
        if election.is_leader():
            print("locked", time.monotonic_ns(), flush=True)

    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []
        for number in range(options.count):
            election = LeaderElection(
                options.dsn,
                options.uuid,
                worker_id=f"{options.name}-{number}",
                poll_interval=options.poll,
            )
            await stack.enter_async_context(election)
            tasks.append(asyncio.ensure_future(tell(election)))
        await over.wait()
        for task in tasks:
            task.cancel()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.crowd")
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--uuid", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--poll", type=float, default=5.0)
    options = parser.parse_args(argv)
    logger = logging.getLogger("ansible_rulebook.ha")
    logger.setLevel(logging.INFO)
    logger.addHandler(_Counter())
    logger.propagate = False
    asyncio.run(follow(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
