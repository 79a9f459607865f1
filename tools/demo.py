#!/usr/bin/env python3
"""See a worker take over from one that was killed: ``make demo``.

Starts a PostgreSQL on loopback and two workers with the example rulebook,
kills the leader with SIGKILL, watches the other one take over, starts the
killed one again and stops everything. Each step is checked in what the
processes say and in what the server knows. Exits with 0 if all of it was
seen, and else says what was not, shows the ends of the logs and exits with 1.

::

    python tools/demo.py [--logs FOLDER]
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rig.process import ProcessError
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess, wait_leader

from ansible_rulebook.ha.embedded.errors import EmbeddedError

PROJECT = Path(__file__).resolve().parent.parent
RULEBOOK = PROJECT / "example_ha_rulebook.yml"
SOURCES = PROJECT / "tests" / "sources"
START_TIMEOUT = 40.0  # seconds; Java takes most of it on a small machine
EVENT_TIMEOUT = 15.0  # seconds
TAKEOVER_TIMEOUT = 20.0  # seconds, over one lease of 15 s
STOP_TIMEOUT = 20.0  # seconds
EVENTS_TO_SEE = 3  # of each leader
WATCH_INTERVAL = 0.05  # seconds
EXIT_NOT_SEEN = 1
EXIT_INTERRUPTED = 130

# Two writers may share a line of a log, so a time can stand amid a line.
STAMP = r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]\d+)"
EVENT = re.compile(
    rf"\*\* {STAMP} \[received event\]" r"(?:.|\n)*?\nEvent:\n(\w+\(|\{)"
)
ROLE = re.compile(
    rf"{STAMP} - \S+ - INFO - Worker \S+: "
    r"(Following|Successfully acquired leadership|Lost leadership|Stopped)"
)
FOLLOWING = r"Worker \S+: Following"
LEADS = "Successfully acquired leadership"
LOST = "Lost leadership"


class NotSeen(Exception):
    """The demo did not go as it should."""


@dataclass(frozen=True)
class Entry:
    """One thing that happened; times are seconds since the epoch."""

    at: float
    who: str
    what: str


class Life:
    """One worker's process, as its own output tells it."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.name = process.worker_id or process.name
        self.killed_at: float | None = None

    def events(self) -> list[float]:
        """When its rule engine received each event."""
        return [
            seconds(match.group(1))
            for match in EVENT.finditer(self.process.text)
            if match.group(2) == "{"  # not the message that ends it
        ]

    def roles(self) -> list[Entry]:
        return [
            Entry(seconds(match.group(1)), self.name, match.group(2))
            for match in ROLE.finditer(self.process.text)
        ]

    def when(self, what: str) -> float | None:
        """The first time that it said so."""
        return next((e.at for e in self.roles() if e.what == what), None)

    def led_until(self) -> float | None:
        return self.killed_at or self.when(LOST)

    def wait_events(self, count: int, timeout: float = EVENT_TIMEOUT) -> None:
        deadline = time.monotonic() + timeout
        while len(self.events()) < count:
            alive = self.process.alive
            if not alive or time.monotonic() > deadline:
                raise NotSeen(
                    f"{self.name} received {len(self.events())} of {count} "
                    + (f"events within {timeout:g} s" if alive else "events")
                )
            time.sleep(WATCH_INTERVAL)

    def wait_follows(self, leader: str) -> None:
        line = self.process.wait_for(FOLLOWING, START_TIMEOUT)
        if f"leader={leader}" not in line.text:
            raise NotSeen(f"{self.name} does not follow {leader}: {line}")


def seconds(stamp: str) -> float:
    """A local time as seconds since the epoch."""
    whole, _, fraction = stamp.replace(",", ".").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction:0<6}").timestamp()


def clock(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotSeen(otherwise)


class Demo:
    """The play and its actors."""

    def __init__(self, root: Path, console: Console, stack: ExitStack) -> None:
        self.root = root
        self.console = console
        self.stack = stack
        self.lives: list[Life] = []
        self.leaders: list[Life] = []  # in the order of their terms

    def play(self) -> None:
        """All steps; raises at the first one that fails.

        :raises NotSeen: something else happened than should.
        :raises ProcessError: a worker did not do its part.
        """
        self.say("Starting PostgreSQL on loopback")
        server = self.stack.enter_context(EmbeddedRig())
        ha_uuid = str(uuid.uuid4())
        self.say("Starting two workers with example_ha_rulebook.yml")
        workers = [
            WorkerProcess(
                RULEBOOK,
                root=self.root,
                name=name,
                worker_id=name,
                dsn=server.dsn,
                ha_uuid=ha_uuid,
                verbosity=0,
                args=["-S", str(SOURCES), "--print-events"],
            )
            for name in ("worker-1", "worker-2")
        ]
        lives = [self.start(worker) for worker in workers]
        leader = wait_leader(workers, START_TIMEOUT)
        first, second = lives if lives[0].process is leader else lives[::-1]
        self.leaders = [first, second]
        second.wait_follows(first.name)
        first.wait_events(EVENTS_TO_SEE)
        check(not second.events(), f"{second.name} follows, but had events")

        self.say(f"{first.name} leads: killing it with SIGKILL")
        first.killed_at = time.time()
        first.process.kill()
        code = first.process.wait_exit(STOP_TIMEOUT)
        check(
            code == -signal.SIGKILL,
            f"{first.name} ended with exit code {code}",
        )
        second.process.wait_leads(TAKEOVER_TIMEOUT)
        second.wait_events(EVENTS_TO_SEE)
        check(
            max(first.events()) <= first.killed_at <= min(second.events()),
            "an event of one leader came in the other one's time",
        )

        self.say(f"{second.name} leads: starting {first.name} again")
        again = self.start(first.process.again())
        again.wait_follows(second.name)
        second.wait_events(len(second.events()) + 2)
        check(not again.events(), f"{again.name} follows, but had events")
        check(
            second.when(LOST) is None,
            f"{second.name} lost leadership as {again.name} came back",
        )

        self.say("Stopping both")
        for life in (again, second):
            code = life.process.stop(STOP_TIMEOUT)
            check(code == 0, f"{life.name} ended with exit code {code}")
        check(again.when(LEADS) is None, f"{again.name} led at the end")
        check(
            second.when(LOST) is not None,
            f"{second.name} did not say that it leads no longer",
        )
        check(
            not server.sessions("eda-ha:%"),
            "a session of a worker is left on the server",
        )

    def start(self, process: WorkerProcess) -> Life:
        life = Life(self.stack.enter_context(process))
        self.lives.append(life)
        return life

    def say(self, text: str) -> None:
        self.console.print(f"[bold]>[/] {text} ...", highlight=False)

    def show(self) -> None:
        """The timeline, and who led."""
        first, second = self.leaders
        killed_at = first.killed_at
        assert killed_at is not None
        entries = [entry for life in self.lives for entry in life.roles()]
        entries.append(Entry(killed_at, first.name, "Killed with SIGKILL"))
        for life in (first, second):
            entries.append(Entry(min(life.events()), life.name, "First event"))
        began = min(entry.at for entry in entries)
        timeline = Table(title="Timeline", title_justify="left")
        timeline.add_column("", justify="right")
        timeline.add_column("worker")
        timeline.add_column("what it did")
        for entry in sorted(entries, key=lambda entry: entry.at):
            timeline.add_row(
                f"{entry.at - began:.3f} s", entry.who, entry.what
            )
        terms = Table(title="Who led", title_justify="left")
        for heading in ("worker", "from", "to", "ended by"):
            terms.add_column(heading)
        terms.add_column("events", justify="right")
        for life in (first, second):
            since, until = life.when(LEADS), life.led_until()
            assert since is not None and until is not None
            terms.add_row(
                life.name,
                clock(since),
                clock(until),
                "SIGKILL" if life.killed_at else "SIGTERM",
                str(len(life.events())),
            )
        took_over = second.when(LEADS)
        assert took_over is not None
        self.console.print()
        self.console.print(timeline)
        self.console.print(terms)
        self.console.print(
            "Takeover: "
            f"[bold]{(took_over - killed_at) * 1e3:.0f} ms[/] from SIGKILL to "
            "the next leader, "
            f"[bold]{(min(second.events()) - killed_at) * 1e3:.0f} ms[/] to "
            "its first event.",
            highlight=False,
        )

    def show_failure(self, error: Exception) -> None:
        # A process error brings one log with it; this shows all of them.
        said = str(error).splitlines()[0] if str(error) else repr(error)
        self.console.print("\n[bold red]Not seen:[/]", end=" ")
        self.console.print(said, markup=False, highlight=False)
        for life in self.lives:
            self.console.print()
            self.console.print(
                life.process.tail(25),
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="demo.py", description="Watch a worker take over."
    )
    parser.add_argument(
        "--logs",
        type=Path,
        metavar="FOLDER",
        help="copy the workers' logs there",
    )
    options = parser.parse_args(argv)
    console = Console()
    with ExitStack() as stack:
        root = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-"))
        )
        demo = Demo(root, console, stack)
        if options.logs is not None:
            stack.callback(copy_logs, demo, options.logs)
        try:
            demo.play()
        except (NotSeen, ProcessError, EmbeddedError) as error:
            demo.show_failure(error)
            return EXIT_NOT_SEEN
        demo.show()
    return 0


def copy_logs(demo: Demo, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for life in demo.lives:
        shutil.copy(life.process.log, folder)


def _terminated(signum: int, frame: object) -> None:
    raise KeyboardInterrupt  # cleans up as Ctrl-C does


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
