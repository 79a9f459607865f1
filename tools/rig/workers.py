"""A real ``ansible-rulebook``, started as a user starts it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rig.process import Line, ManagedProcess, ProcessError

ACQUIRED = r"Worker \S+: Successfully acquired leadership"
LOST = r"Worker \S+: Lost leadership"
WATCH_INTERVAL = 0.01  # seconds between two looks at several workers

# Set by the user of the rig, these would reach every worker.
FOREIGN_ENV = ("EDA_HA_", "EDA_SHUTDOWN_DELAY", "ANSIBLE_INVENTORY")


def script() -> list[str]:
    """The command: the script beside this Python, so exit codes are real."""
    beside = Path(sys.executable).parent / "ansible-rulebook"
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-m", "ansible_rulebook"]


def worker_of(application_name: str) -> str:
    """The id of the worker whose session has that name, or nothing."""
    parts = application_name.split(":")
    return parts[2] if len(parts) == 4 else ""


def worker_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a worker: no options of ours but those given."""
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(FOREIGN_ENV)
    }
    bin_dir = str(Path(sys.executable).parent)
    env["PATH"] = os.pathsep.join((bin_dir, env.get("PATH", os.defpath)))
    env["PYTHONUNBUFFERED"] = "1"
    home = java_home()
    if home:
        env["JAVA_HOME"] = home
    env.update(extra or {})
    return env


def java_home() -> str | None:
    """The Java runtime to use, unless the machine has one of its own."""
    from ansible_rulebook.ha.embedded import java

    return java.java_home()


class WorkerProcess(ManagedProcess):
    """One worker; what is None is not said on its command line.

    `rulebook` is a path, or the text of a rulebook, which is then written to
    the working directory. `via` says how the HA options reach it: as "flags"
    or in the environment, "env".
    """

    def __init__(
        self,
        rulebook: str | Path,
        *,
        root: Path,
        name: str = "worker",
        dsn: str | None = None,
        ha_uuid: str | None = None,
        worker_id: str | None = None,
        poll_interval: float | None = None,
        lease_duration: float | None = None,
        via: str = "flags",
        verbosity: int = 1,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        if via not in ("flags", "env"):
            raise ValueError(f"via is 'flags' or 'env', not {via!r}")
        self.root = root
        self.worker_id = worker_id
        self.rulebook = self._place(rulebook, cwd or root / name)
        options = {
            "postgres-dsn": dsn,
            "uuid": ha_uuid,
            "worker-id": worker_id,
            "poll-interval": poll_interval,
            "lease-duration": lease_duration,
        }
        given = {
            key: str(value)
            for key, value in options.items()
            if value is not None
        }
        argv = [*script(), "--rulebook", str(self.rulebook)]
        if verbosity:
            argv.append("-" + "v" * verbosity)
        own_env: dict[str, str] = {}
        if via == "flags":
            for key, value in given.items():
                argv += [f"--ha-{key}", value]
        else:
            for key, value in given.items():
                own_env["EDA_HA_" + key.upper().replace("-", "_")] = value
        super().__init__(
            [*argv, *args],
            name=name,
            log=root / f"{name}.log",
            env=worker_env({**own_env, **(env or {})}),
            cwd=cwd or root / name,
        )

    @staticmethod
    def _place(rulebook: str | Path, cwd: Path) -> Path:
        cwd.mkdir(parents=True, exist_ok=True)
        if isinstance(rulebook, str) and "\n" in rulebook:
            path = cwd / "rulebook.yml"
            path.write_text(rulebook, "utf-8")
            return path
        return Path(rulebook).absolute()

    def again(self) -> WorkerProcess:
        """The same worker once more, not started, with a log of its own."""
        name, _, count = self.name.partition("~")
        return self.twin(f"{name}~{int(count or 1) + 1}")

    @property
    def acquired(self) -> list[Line]:
        """Its lines that say that it began to lead."""
        return self.find(ACQUIRED)

    @property
    def leads(self) -> bool:
        """True if its log says so and it lives."""
        return self.alive and self.leads_since() is not None

    def leads_since(self) -> Line | None:
        """The line that began the term which it has not lost, if any."""
        turns = self.find(f"{ACQUIRED}|{LOST}")
        if turns and "Successfully acquired" in turns[-1].text:
            return turns[-1]
        return None

    def wait_leads(
        self, timeout: float = 60.0, *, after: float | None = None
    ) -> Line:
        return self.wait_for(ACQUIRED, timeout, after=after)

    def wait_lost(
        self, timeout: float = 60.0, *, after: float | None = None
    ) -> Line:
        return self.wait_for(LOST, timeout, after=after)


def leader_of(
    workers: Iterable[WorkerProcess], *, after: float | None = None
) -> WorkerProcess | None:
    """The living worker whose term began last and was not lost, if any."""
    found: list[tuple[float, WorkerProcess]] = []
    for worker in workers:
        line = worker.leads_since() if worker.alive else None
        if line is not None and (after is None or line.at >= after):
            found.append((line.when, worker))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def wait_leader(
    workers: Iterable[WorkerProcess],
    timeout: float = 60.0,
    *,
    after: float | None = None,
) -> WorkerProcess:
    """Wait until one of them leads, by a line read at or after `after`.

    A leader that was paused has not lost anything by its log; pass the time
    of the pause as `after`, or leave it out of `workers`.
    """
    workers = list(workers)
    deadline = time.monotonic() + timeout
    while True:
        leader = leader_of(workers, after=after)
        if leader is not None:
            return leader
        if not any(worker.alive for worker in workers):
            reason = "no worker is alive"
        elif time.monotonic() > deadline:
            reason = f"nobody led within {timeout:g} s"
        else:
            time.sleep(WATCH_INTERVAL)
            continue
        tails = "\n".join(worker.tail(15) for worker in workers)
        raise ProcessError(f"{reason}\n{tails}")
