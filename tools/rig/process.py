"""A child process that is watched, and that is never left behind.

Its output goes to a log file which a thread reads along; each line carries
the time at which it was read, and the time that the program itself printed
at its start, both on the monotonic clock of this machine.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import signal as signals
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from re import Pattern
from typing import TypeVar

P = TypeVar("P", bound="ManagedProcess")

TAIL_INTERVAL = 0.005  # seconds between two looks into the log
ENDED_TAIL_INTERVAL = 0.05  # seconds, once only orphans could still write
PAUSE_TIMEOUT = 5.0  # seconds until a stopped process shows as stopped
MARK = "RIG_PROCESS_MARK"  # every descendant inherits it
# Python writes what it prints in two pieces, text and newline, and a log line
# of another thread can come between them.
AMID = re.compile(r"(?<=.)(?=\d{4}(-\d\d){2} \d\d(:\d\d){2}[, ]\d{3} )")
STAMP = re.compile(
    r"\W{0,3}(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)[., ](\d{3,6})\b"
)


class ProcessError(AssertionError):
    """A process did not do what the test waited for."""


@dataclass(frozen=True)
class Line:
    """A line of output; times are seconds of time.monotonic()."""

    at: float  # when it was read
    text: str
    own: float | None = None  # when it was written, by its own word

    @property
    def when(self) -> float:
        """The line's own time where it has one, else the time of reading."""
        return self.at if self.own is None else self.own

    def __str__(self) -> str:
        return self.text


def _torn(text: str) -> list[str]:
    """A line, and the log lines that began amid it."""
    starts = [0, *(found.start() for found in AMID.finditer(text))]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)])]


def own_time(text: str) -> float | None:
    """The wall-clock time at a line's start, on the monotonic clock."""
    match = STAMP.match(text)
    if match is None:
        return None
    day, clock, fraction = match.groups()
    stamp = datetime.fromisoformat(f"{day}T{clock}.{fraction:0<6}")
    return stamp.timestamp() - time.time() + time.monotonic()


def marked(mark: str) -> list[int]:
    """The processes that inherited this mark; none where /proc is absent."""
    wanted = f"{MARK}={mark}".encode()
    found: list[int] = []
    with contextlib.suppress(OSError):
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            with contextlib.suppress(OSError):
                environ = Path("/proc", entry, "environ").read_bytes()
                if wanted in environ.split(b"\0"):
                    found.append(int(entry))
    return found


def stat_fields(path: str) -> list[str]:
    """What follows the command in a stat file: state, parent, group...

    Empty if there is no such process.
    """
    try:
        stat = Path(path).read_text()
    except OSError:
        return []
    # The command in parentheses may itself hold spaces and parentheses.
    return stat.rpartition(")")[2].split()


def command_of(pid: int) -> bytes:
    """The words of its command, a zero behind each; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def members(session: int) -> list[int]:
    """The processes of a session."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for entry in filter(str.isdigit, os.listdir("/proc")):
            fields = stat_fields(f"/proc/{entry}/stat")
            if fields and int(fields[3]) == session:
                found.append(int(entry))
    return found


class ManagedProcess:
    """A program with a log, in a session of its own."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bool = False,
    ) -> None:
        self.argv = list(argv)
        self.name = name
        self.log = log
        self.cwd = cwd
        self.stdin = stdin
        self.env = dict(os.environ if env is None else env)
        self._blank()

    def _blank(self) -> None:
        self.started_at: float | None = None
        self.exited_at: float | None = None
        self.killed_at: float | None = None
        self._mark = uuid.uuid4().hex
        self._popen: subprocess.Popen[bytes] | None = None
        self._lines: list[Line] = []
        self._changed = threading.Condition()
        self._drained = False  # it exited, and the log is read to its end
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def twin(self: P, name: str) -> P:
        """A process of the same command, not started, with its own log."""
        other = copy.copy(self)
        other.name = name
        other.log = self.log.with_name(f"{name}.log")
        other._blank()
        return other

    def start(self: P) -> P:
        if self._popen is not None:
            raise RuntimeError(f"{self.name} was started before")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE if self.stdin else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self.env, MARK: self._mark},
                cwd=self.cwd,
                start_new_session=True,
            )
        self.started_at = time.monotonic()
        for work in (self._reap, self._tail):
            thread = threading.Thread(
                target=work, name=f"rig-{self.name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)
        return self

    def __enter__(self: P) -> P:
        return self if self._popen is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._popen is None:
            state = "not started"
        elif self.exited_at is None:
            state = f"pid {self.pid}"
        else:
            state = f"exit code {self.returncode}"
        return f"<{type(self).__name__} {self.name}: {state}>"

    # What it says

    @property
    def lines(self) -> list[Line]:
        with self._changed:
            return list(self._lines)

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)

    def tail(self, count: int = 40) -> str:
        """The end of its output, for the message of a failure."""
        shown = "\n".join(f"  | {line.text}" for line in self.lines[-count:])
        return f"{self!r}, end of {self.log.name}:\n{shown or '  (empty)'}"

    def find(
        self,
        pattern: str | Pattern[str],
        *,
        after: float | None = None,
    ) -> list[Line]:
        """The lines so far that match, of those at or after a time."""
        return self._matches(re.compile(pattern), after)

    def wait_for(
        self,
        pattern: str | Pattern[str],
        timeout: float = 30.0,
        *,
        after: float | None = None,
        count: int = 1,
    ) -> Line:
        """The `count`-th line that matches, read already or still to come.

        `after` leaves out the lines read before that monotonic time.
        """
        sought = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = self._matches(sought, after)
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if self._drained:
                    reason = f"ended with exit code {self.returncode}"
                elif left <= 0:
                    reason = f"has been silent for {timeout:g} s"
                else:
                    self._changed.wait(left)
                    continue
                break
        raise ProcessError(
            f"{self.name} {reason} about {sought.pattern!r}"
            f" ({len(found)} of {count})\n{self.tail()}"
        )

    def _matches(
        self, sought: Pattern[str], after: float | None
    ) -> list[Line]:
        with self._changed:
            return [
                line
                for line in self._lines
                if (after is None or line.at >= after)
                and sought.search(line.text)
            ]

    # What is done to it

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._popen

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self._popen is not None and self.exited_at is None

    @property
    def powerless_at(self) -> float | None:
        """Since when it does nothing any more: killed, or gone.

        After SIGKILL a busy machine may take seconds to be rid of it.
        """
        return min(
            filter(None, (self.killed_at, self.exited_at)), default=None
        )

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self.popen.returncode

    def signal(self, number: int) -> float:
        """Send a signal; the time just before that."""
        if not self.alive:
            raise ProcessError(f"too late for a signal\n{self.tail()}")
        at = time.monotonic()
        self.popen.send_signal(number)
        if number == signals.SIGKILL:
            self.killed_at = time.monotonic()
        return at

    def kill(self) -> float:
        """SIGKILL to this process alone; the time just before that."""
        return self.signal(signals.SIGKILL)

    def pause(self) -> float:
        """SIGSTOP; returns once all its threads stand still."""
        at = self.signal(signals.SIGSTOP)
        deadline = at + PAUSE_TIMEOUT
        while os.path.isdir("/proc/self") and not self._is_stopped():
            if time.monotonic() > deadline:
                raise ProcessError(f"{self!r} does not stand still")
            time.sleep(0.001)
        return at

    def resume(self) -> float:
        """SIGCONT; the time just before that."""
        return self.signal(signals.SIGCONT)

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, wait, and return the exit code."""
        if self.alive:
            with contextlib.suppress(ProcessError):
                self.signal(signals.SIGTERM)
        return self.wait_exit(timeout)

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        stdin = self.popen.stdin
        if stdin is None:
            raise RuntimeError(f"{self.name} was given no standard input")
        stdin.write(line.encode() + b"\n")
        stdin.flush()

    def wait_exit(self, timeout: float = 30.0) -> int:
        """Its exit code, once it exited and its log is read."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._drained:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ProcessError(
                        f"{self.name} did not exit within {timeout:g} s\n"
                        f"{self.tail()}"
                    )
                self._changed.wait(left)
        code = self.returncode
        assert code is not None
        return code

    def close(self) -> None:
        """Kill what is left of it, its descendants included."""
        if self._popen is None:
            return
        if self.alive:
            # Not reaped yet, so this group is still its own.
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signals.SIGKILL)
        # Those in sessions of their own, and those that others adopted.
        for _ in range(5):
            left = self.descendants()
            if not left and not self.alive:
                break
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signals.SIGKILL)
            time.sleep(0.01)
        self._closing.set()
        for thread in self._threads:
            thread.join(5.0)
        if self._popen.stdin is not None:
            with contextlib.suppress(OSError):
                self._popen.stdin.close()

    def descendants(self) -> list[int]:
        """What it started and what still lives, orphans included."""
        found = set(marked(self._mark))
        # A program that renames itself has overwritten its mark. Its session
        # keeps the number reserved; once a stranger has it, it is not ours.
        if self.alive or not os.path.exists(f"/proc/{self.pid}"):
            found.update(members(self.pid))
        found.discard(self.pid)
        return sorted(
            pid
            for pid in found
            if stat_fields(f"/proc/{pid}/stat")[:1] not in ([], ["Z"], ["X"])
        )

    def started(self, program: str) -> list[int]:
        """What it started with this word in its command."""
        return [
            pid
            for pid in self.descendants()
            if program.encode() in command_of(pid)
        ]

    def _is_stopped(self) -> bool:
        """Whether none of its threads runs; one that ended does not."""
        try:
            threads = os.listdir(f"/proc/{self.pid}/task")
        except OSError:
            return not self.alive
        return all(
            stat_fields(f"/proc/{self.pid}/task/{thread}/stat")[:1]
            in ([], ["T"], ["t"])
            for thread in threads
        )

    # Its two threads

    def _reap(self) -> None:
        self.popen.wait()
        with self._changed:
            self.exited_at = time.monotonic()
            self._changed.notify_all()

    def _tail(self) -> None:
        rest = b""
        with self.log.open("rb") as log:
            while True:
                was_alive = self.alive
                chunk = log.read()
                at = time.monotonic()
                if chunk:
                    *whole, rest = (rest + chunk).split(b"\n")
                    self._add(at, whole)
                    continue
                if not was_alive and not self._drained:
                    if rest:
                        self._add(at, [rest])
                        rest = b""
                    with self._changed:
                        self._drained = True
                        self._changed.notify_all()
                if self._closing.is_set():
                    return
                # Not Event.wait(): its wake-ups cost more than a sleep.
                time.sleep(TAIL_INTERVAL if was_alive else ENDED_TAIL_INTERVAL)

    def _add(self, at: float, raw: Iterable[bytes]) -> None:
        new = [
            Line(at, text, own_time(text))
            for line in raw
            for text in _torn(line.decode("utf-8", "replace").rstrip("\r"))
        ]
        with self._changed:
            self._lines.extend(new)
            self._changed.notify_all()
