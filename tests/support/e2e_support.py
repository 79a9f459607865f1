"""What the end-to-end tests share: a stage with two workers on it.

Workers run the rulebook ``stage.yml``; the test tells their leader what to do
by events in a folder, and reads what happened from the workers' output and
from a journal that their playbooks write.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, TypeVar

import pytest
from rig.process import Line
from rig.server import Server
from rig.workers import LOST, WorkerProcess, wait_leader

from ansible_rulebook.ha.rulebook.guardian import VARIABLE
from ansible_rulebook.ha.upstream.names import is_able_to_keep_state

T = TypeVar("T")

HERE = Path(__file__).parents[1] / "e2e"
SOURCES = HERE / "sources"
RULEBOOKS = HERE / "rulebooks"
STAGE = RULEBOOKS / "stage.yml"

POLL = 1.0  # seconds
LEASE = 3.0  # seconds
PATIENCE = 60.0  # seconds for anything, on a busy machine
LOOK_EVERY = 0.02  # seconds
STILL = 0.5  # seconds without a change

STATELESS = ["--ha-state", "off"]
STATE_SESSION = "eda-state:%"  # the application_name of the state's sessions
needs_state = pytest.mark.skipif(
    not is_able_to_keep_state(), reason="upstream keeps state from 1.3 on"
)
needs_old = pytest.mark.skipif(
    is_able_to_keep_state(), reason="upstream before 1.3 keeps no state"
)
needs_sources = pytest.mark.skipif(
    importlib.util.find_spec("ansible_rulebook.event_source") is None,
    reason="upstream has built-in sources from 1.2 on",
)

FOLLOWING = r"Worker \S+: Following"
READY = r"Waiting for events"


def until(what: Callable[[], Any], why: str, timeout: float = PATIENCE) -> Any:
    """Wait until it gives something true, and return that."""
    deadline = time.monotonic() + timeout
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {why}")
        time.sleep(LOOK_EVERY)


def settled(what: Callable[[], T]) -> T:
    """What it gives once that has not changed for a while."""
    began = time.monotonic()
    seen, since = what(), began
    while time.monotonic() - since < STILL:
        assert time.monotonic() - began < PATIENCE, "it does not settle"
        time.sleep(LOOK_EVERY)
        now = what()
        if now != seen:
            seen, since = now, time.monotonic()
    return seen


def carriers(worker: WorkerProcess) -> list[int]:
    """The processes of the worker's actions that are alive."""
    found = []
    for pid in worker.descendants():
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"{VARIABLE}=".encode() in environ:
            found.append(pid)
    return found


def terminate(server: Server, worker: WorkerProcess) -> float:
    """End the leader's session, and wait until it says that it lost it.

    Returns the time just before that.
    """
    lost = len(worker.find(LOST))
    at = time.monotonic()
    assert server.terminate(f"eda-ha:%:{worker.worker_id}:%") == 1
    worker.wait_for(LOST, PATIENCE, count=lost + 1)
    return at


def wait_recorded(server: Server, stage: Stage, *but: str) -> None:
    """Wait until it is on record that the actions of all matches have run.

    The leader records them a little later; killed before, it leaves them to
    the next one. Left out are the rules of these names.
    """
    names = "SELECT DISTINCT rule FROM eda_ha_match"
    until(
        lambda: (
            {name for (name,) in server.query(names, dsn=stage.dsn)}
            <= set(but)
        ),
        "all matches to be recorded",
    )


class Stage:
    """Workers of one cluster, an inbox for all of them, and a journal.

    :param worker: the fixture of that name.
    :param dsn: their server.
    :param ha_uuid: their cluster.
    :param folder: where inbox and journal are.
    """

    def __init__(
        self,
        worker: Callable[..., WorkerProcess],
        dsn: str,
        ha_uuid: str,
        folder: Path,
    ) -> None:
        self.dsn = dsn
        self.ha_uuid = ha_uuid
        self.folder = folder
        self.inbox = folder / "inbox"
        self.inbox.mkdir(parents=True)
        self._journal = folder / "journal"
        self._let_go = folder / "let-go"
        self.worker = worker
        self.workers: list[WorkerProcess] = []
        self._numbers = itertools.count(1)
        self._events = itertools.count(1)

    def start(
        self,
        rulebook: str | Path = STAGE,
        *,
        args: Sequence[str] = (),
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> WorkerProcess:
        """A worker, started."""
        name = options.setdefault("name", f"worker-{next(self._numbers)}")
        options.setdefault("dsn", self.dsn)
        options.setdefault("ha_uuid", self.ha_uuid)
        options.setdefault("poll_interval", POLL)
        options.setdefault("lease_duration", LEASE)
        variables = {
            "WORKER": name,
            "INBOX": str(self.inbox),
            "JOURNAL": str(self._journal),
            "LET_GO": str(self._let_go),
            "PLAYBOOK": str(RULEBOOKS / "hold.yml"),
        }
        started = self.worker(
            rulebook,
            args=[
                *("--source-dir", str(SOURCES)),
                *("--inventory", str(RULEBOOKS / "inventory.yml")),
                *("--env-vars", ",".join(variables)),
                *args,
            ],
            env={**variables, **(env or {})},
            **options,
        )
        self.workers.append(started)
        return started

    def pair(
        self, rulebook: str | Path = STAGE, **options: Any
    ) -> tuple[WorkerProcess, WorkerProcess]:
        """A leader and a follower."""
        workers = [self.start(rulebook, **options) for _ in range(2)]
        leader = wait_leader(workers, PATIENCE)
        workers.remove(leader)
        (follower,) = workers
        follower.wait_for(FOLLOWING, PATIENCE)
        return leader, follower

    def post(self, do: str, word: str, to: str = "") -> None:
        """Give the leader an event, by a folder in the inbox perhaps."""
        folder = self.inbox / to
        folder.mkdir(exist_ok=True)
        path = folder / f"{next(self._events):04}.json"
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps({"do": do, "word": word}), "utf-8")
        draft.rename(path)

    def say(self, worker: WorkerProcess, word: str) -> Line:
        """Have an event go through this worker, which leads."""
        self.post("say", word)
        return worker.wait_for(f"says {word}$", PATIENCE)

    def shown(self, pattern: str) -> list[str]:
        """The lines of all workers that match, in the order of their times."""
        lines = [line for each in self.workers for line in each.find(pattern)]
        return [line.text for line in sorted(lines, key=lambda each: each.at)]

    def hold(self, worker: WorkerProcess, word: str) -> None:
        """Have this worker, which leads, run a playbook."""
        self.post("hold", word)
        self.wait_journal(f"begin {worker.worker_id} {word}")

    def let_go(self) -> None:
        """All playbooks may end."""
        self._let_go.touch()

    def hold_on(self) -> None:
        """Playbooks that begin from now on go on until they are let go."""
        self._let_go.unlink()

    @property
    def journal(self) -> list[str]:
        """What the playbooks wrote."""
        try:
            return self._journal.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []

    def wait_journal(self, entry: str) -> None:
        """Wait until a playbook wrote that."""
        until(
            lambda: entry in self.journal,
            f"{entry!r} in the journal {self.journal}",
        )
