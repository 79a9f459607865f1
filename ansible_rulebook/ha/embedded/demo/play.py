"""See a worker take over from one that was killed.

Starts a PostgreSQL on loopback and two workers with the example rulebook,
kills the leader with SIGKILL, watches the other one take over, starts the
killed one again and stops everything. Each step is checked in what the
processes say and in what the server knows.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path

import psycopg
from rich.console import Console

from ..server import EmbeddedServer
from .example import RULEBOOK, example
from .timeline import show, show_failure
from .worker import LEADS, LOST, NotSeen, Worker, wait_leader

TAKEOVER_TIMEOUT = 20.0  # seconds, over one lease of 15 s
EVENTS_TO_SEE = 3  # of each leader
EXIT_NOT_SEEN = 1


def run(logs: Path | None = None) -> int:
    """Play the demo in this terminal.

    :param logs: a folder for copies of the workers' logs.
    :returns: the exit code: 0 if all of it was seen, else 1.
    :raises EmbeddedError: the server cannot be had.
    """
    console = Console()
    with ExitStack() as stack:
        root = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-"))
        )
        demo = Demo(root, console, stack)
        try:
            demo.play()
        except NotSeen as error:
            show_failure(console, demo.workers, error)
            return EXIT_NOT_SEEN
        finally:
            if logs is not None:
                logs.mkdir(parents=True, exist_ok=True)
                for worker in demo.workers:
                    shutil.copy(worker.log, logs)
        show(console, demo.workers, demo.leaders)
    return 0


class Demo:
    """The play and its actors."""

    def __init__(self, root: Path, console: Console, stack: ExitStack) -> None:
        self.root = root
        self.console = console
        self.stack = stack
        self.workers: list[Worker] = []
        self.leaders: list[Worker] = []  # in the order of their terms

    def play(self) -> None:
        """All steps; raises at the first one that fails.

        :raises NotSeen: something else happened than should.
        """
        self.say("Starting PostgreSQL on loopback")
        server = self.stack.enter_context(EmbeddedServer())
        self.say(f"Starting two workers with {RULEBOOK}")
        rulebook, sources = example()
        options = [
            "--rulebook", str(rulebook), "-S", str(sources),
            "--print-events", "--ha-postgres-dsn", server.dsn,
            "--ha-uuid", str(uuid.uuid4()),
        ]  # fmt: skip
        workers = [
            self.start(Worker(name, options, self.root))
            for name in ("worker-1", "worker-2")
        ]
        first = wait_leader(workers)
        (second,) = (worker for worker in workers if worker is not first)
        self.leaders = [first, second]
        second.wait_follows(first.name)
        first.wait_events(EVENTS_TO_SEE)
        check(not second.events(), f"{second.name} follows, but had events")

        self.say(f"{first.name} leads: killing it with SIGKILL")
        code = first.kill()
        check(
            code == -signal.SIGKILL,
            f"{first.name} ended with exit code {code}",
        )
        second.wait_leads(TAKEOVER_TIMEOUT)
        second.wait_events(EVENTS_TO_SEE)
        assert first.killed_at is not None
        check(
            max(first.events()) <= first.killed_at <= min(second.events()),
            "an event of one leader came in the other one's time",
        )

        self.say(f"{second.name} leads: starting {first.name} again")
        again = self.start(first.again())
        again.wait_follows(second.name)
        second.wait_events(len(second.events()) + 2)
        check(not again.events(), f"{again.name} follows, but had events")
        check(
            second.when(LOST) is None,
            f"{second.name} lost leadership as {again.name} came back",
        )

        self.say("Stopping both")
        for worker in (again, second):
            code = worker.stop()
            check(code == 0, f"{worker.name} ended with exit code {code}")
        check(again.when(LEADS) is None, f"{again.name} led at the end")
        check(
            second.when(LOST) is not None,
            f"{second.name} did not say that it leads no longer",
        )
        check(
            not sessions(server.dsn),
            "a session of a worker is left on the server",
        )

    def start(self, worker: Worker) -> Worker:
        self.stack.enter_context(worker)
        self.workers.append(worker)
        return worker

    def say(self, text: str) -> None:
        self.console.print(f"[bold]>[/] {text} ...", highlight=False)


def sessions(dsn: str) -> int:
    """How many sessions of workers the server has."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name LIKE 'eda-ha:%'"
        ).fetchone()
    return int(row[0]) if row else 0


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotSeen(otherwise)
