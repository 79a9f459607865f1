"""One schedule from start to end: a cluster, its faults, and the verdict."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable

from rig.clocks import Clocks

from ansible_rulebook.ha.upstream.names import is_able_to_keep_state

from . import checker, ledger
from .access import Access
from .broker import Broker, mark_of
from .checker import Limits, Verdict
from .cluster import ChaosError, Cluster, Settings
from .faults import Faults
from .patroni_servers import PatroniServers
from .poster import Poster
from .records import DRIVER, SUFFIX, History, read
from .rulebook import source_names
from .schedule import (
    CLOCKS,
    PATRONI,
    PROXIES,
    STANDBY,
    STATE,
    VOLUME,
    Fault,
    Plan,
    faults,
)
from .servers import Servers

STATE_FLAG = "--ha-state"
HELD = 2.0  # seconds in which a new leader takes in what was held
SETTLE = 60.0  # seconds in which nothing of what is left is done
MOST_SETTLE = 900.0  # seconds for all of it
SETTLE_STATELESS = 5.0  # seconds; nothing is promised then
LOOK_EVERY = 0.2  # seconds between two looks at what is left to do
QUIET = 1.0  # seconds without anything to do, then all is done


@dataclass(frozen=True)
class Task:
    """What to run.

    :param seed: of the faults and of the events.
    :param duration: seconds in which faults begin.
    :param most: faults at most, if not None.
    :param has: what the cluster has that kinds of faults may need.
    """

    seed: int
    duration: float = 120.0
    most: int | None = None
    has: frozenset[str] = frozenset({PROXIES})
    kinds: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)


@dataclass
class Result:
    """What came of it.

    :param error: why the schedule was cut short, if it was.
    """

    task: Task
    history: History
    verdict: Verdict
    seconds: float
    error: str | None = None


class Journal:
    """The driver's own record; may be written to from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()

    def write(self, kind: str, **values: Any) -> None:
        """One row."""
        row = json.dumps({"kind": kind, **values})
        with self._lock:
            if not self._file.closed:
                self._file.write(f"{row}\n")

    def close(self) -> None:
        """No row comes after this."""
        with self._lock:
            self._file.close()


def with_state(settings: Settings, mode: str) -> Settings:
    """Settings whose workers are told to keep state, or not to.

    :param mode: "required" or "off".
    :raises ValueError: if they cannot.
    """
    if mode != "off" and not is_able_to_keep_state():
        raise ValueError("upstream keeps state from 1.3 on")
    return replace(
        settings,
        state=mode != "off",
        options=(*settings.options, STATE_FLAG, mode),
    )


def run(
    task: Task, folder: Path, say: Callable[[str], None] = lambda _: None
) -> Result:
    """Run a schedule in this folder; nothing of it is left running."""
    started = time.monotonic()
    error: str | None = None
    journal = Journal(folder / f"{DRIVER}{SUFFIX}")
    settings = task.settings
    journal.write(
        "run",
        seed=task.seed,
        state=settings.state,
        proxied=PROXIES in task.has,
        poll=settings.poll,
        lease=settings.lease,
        started=time.monotonic_ns(),
    )
    try:
        with (
            _stage(task, folder, journal) as (cluster, broker),
            ExitStack() as posting,
        ):
            try:
                say("workers start")
                cluster.wait_calm(ready=settings.workers)
                if settings.state:
                    ledger.install(cluster.servers.database_dsn)
                journal.write("began", at=time.monotonic_ns())
                if settings.state:
                    posting.enter_context(
                        Poster(
                            broker, cluster.ports, settings.every, task.seed
                        )
                    )
                _do_faults(task, cluster, journal, say)
            except ChaosError as reason:
                error = str(reason)
            journal.write("over", at=time.monotonic_ns())
            say("what was begun is done")
            broker.finish()
            _settle(task, cluster, broker)
            posting.close()
            cluster.stop()
            if settings.state:
                _write_ledger(cluster.servers.database_dsn, broker, journal)
    except ChaosError as reason:
        error = error or str(reason)
    finally:
        journal.close()
    history = read(folder)
    return Result(
        task,
        history,
        checker.check(history, task.limits),
        time.monotonic() - started,
        error,
    )


def _write_ledger(dsn: str, broker: Broker, journal: Journal) -> None:
    """What the server knows, into the driver's record."""
    for kind, values in ledger.entries(dsn, _known(broker)):
        journal.write(kind, **values)
    now = time.monotonic_ns()
    for match in ledger.pending(dsn):
        journal.write("pending", match=match, at=now)
    for values in ledger.left(dsn):
        journal.write("left", **values, at=now)
    for name in ledger.waiting(dsn):
        journal.write("waiting", id=name, at=now)


def _known(broker: Broker) -> dict[str, str]:
    """The events of the broker, by what the journal calls them."""
    from ansible_rulebook.ha.state.names import key_of

    known: dict[str, str] = {}
    for ruleset, names in broker.names().items():  # named as its source
        for name in names:
            key = key_of(ruleset, {"meta": {"uuid": mark_of(name)}})
            known[str(uuid.UUID(bytes=key))] = name
    return known


@contextmanager
def _stage(
    task: Task, folder: Path, journal: Journal
) -> Iterator[tuple[Cluster, Broker]]:
    settings = task.settings
    with ExitStack() as stack:
        # A socket's path must be short.
        short = stack.enter_context(tempfile.TemporaryDirectory(prefix="c-"))
        servers = stack.enter_context(closing(_servers(task)))
        broker = stack.enter_context(
            Broker(
                Path(short, "broker"),
                task.seed,
                source_names(settings.state),
                journal.write,
            )
        )
        cluster = stack.enter_context(
            Cluster(
                folder,
                str(uuid.uuid4()),
                settings,
                servers,
                broker,
                journal.write,
                Clocks(folder) if CLOCKS in task.has else None,
            )
        )
        yield cluster, broker


def _servers(task: Task) -> Access:
    if PATRONI in task.has:
        return PatroniServers()
    return Servers(
        standby=STANDBY in task.has,
        proxied=PROXIES in task.has,
        synchronous=task.settings.state,
        own_volume=VOLUME in task.has,
    )


def _do_faults(
    task: Task, cluster: Cluster, journal: Journal, say: Callable[[str], None]
) -> None:
    plan = Plan(
        lease=task.settings.lease,
        has=task.has | ({STATE} if task.settings.state else set()),
        kinds=task.kinds,
    )
    doer = Faults(cluster, journal.write)
    end = time.monotonic() + task.duration
    for fault in faults(task.seed, plan):
        too_many = task.most is not None and fault.number > task.most
        if too_many or time.monotonic() > end:
            return
        say(_shown(fault))
        doer.do(fault)


def _shown(fault: Fault) -> str:
    return f"fault {fault.number}: {fault.kind} ({fault.target})"


def _settle(task: Task, cluster: Cluster, broker: Broker) -> None:
    """Wait until all that was promised is done, or nothing more is."""
    state = task.settings.state
    began = time.monotonic()
    deadline = began + (SETTLE if state else SETTLE_STATELESS)
    # What was held comes with the next leader, and opens windows.
    cluster.wait_calm()
    cluster.rest(HELD)
    cluster.rest(task.settings.window + 1)
    quiet = 0.0 if state else QUIET
    before: object = None
    while time.monotonic() < deadline and not (
        broker.is_empty and quiet >= QUIET
    ):
        cluster.rest(LOOK_EVERY)
        if state:
            # An event that waits for its turn may still open a window.
            now = ledger.unfinished(cluster.servers.database_dsn)
            is_quiet = now == before and not any(now[1:])
            quiet = quiet + LOOK_EVERY if is_quiet else 0.0
            if now != before:
                progress = min(time.monotonic(), began + MOST_SETTLE - SETTLE)
                deadline = progress + SETTLE
            before = now
