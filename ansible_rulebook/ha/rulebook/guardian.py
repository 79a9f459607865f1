"""Sees to it that no playbook outlives the term it was started in.

A playbook is a process group of its own. If its worker is killed or paused,
the playbook goes on, and the new leader runs it again beside it. So each
worker has a guardian, a small process that knows when the worker's lease
ends. It kills the worker's playbooks when the worker is gone, or has not
renewed the lease in time. If the worker is gone, it also removes the folders
that the playbooks ran in.

This file has both sides. Run as a script it is the guardian, and must do
without the rest of the package. Processes are found by a variable in their
environment, as the Jenkins ProcessTreeKiller does: children of children
inherit it, wherever they moved in the process tree. That needs Linux's
``/proc``. Elsewhere there is no guardian, and orphans stay.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from typing import Collection

PROC = "/proc"
VARIABLE = "EDA_HA_ACTION"
BEGAN = b"+"
ENDED = b"-"
FAREWELL = b"bye"
UNWATCHED = b"none"
MOST_SWEEPS = 20
PAUSE = 0.05  # seconds between two sweeps
LOOK_EVERY = 1.0  # seconds, at most, between two looks at the clock
LATE = (0.0, 0.1, 0.3, 0.6)  # seconds before each round after the worker's end
LAST_SWEEP = 5.0  # seconds for the process to end

logger = logging.getLogger("ansible_rulebook.ha.rulebook.guardian")


def is_supported() -> bool:
    """Whether this system lets us look at environments of processes."""
    return os.path.isdir(f"{PROC}/self") and hasattr(time, "CLOCK_BOOTTIME")


def is_folder(what: str) -> bool:
    """Whether this is a folder's path. If not, it is an action's token."""
    return what.startswith("/")


def find_children(tokens: Collection[str]) -> tuple[set[int], set[int]]:
    """Processes that carry one of the tokens in their environment.

    :returns: their PIDs, and those of processes that have no environment.
        For some microseconds of an ``execve`` that is so with each.
    """
    carriers, blank = set(), set()
    for pid in map(int, filter(str.isdigit, os.listdir(PROC))):
        environment = _environment(pid)
        if _carries(environment, tokens):
            carriers.add(pid)
        elif not environment and _has_program(pid):
            blank.add(pid)
    return carriers, blank


def _environment(pid: int) -> bytes:
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as environ:
            return environ.read()
    except OSError:
        return b""  # it ended, or is not ours to look at


def _carries(environment: bytes, tokens: Collection[str]) -> bool:
    marks = {f"{VARIABLE}={token}".encode() for token in tokens}
    return not marks.isdisjoint(environment.split(b"\0"))


def _has_program(pid: int) -> bool:
    """Unlike zombies and threads of the kernel."""
    try:
        return bool(os.readlink(f"{PROC}/{pid}/exe"))
    except OSError:
        return False


def kill_children(tokens: Collection[str]) -> int:
    """Kill every process that carries one of the tokens; returns how many.

    Looks again until none is left: a child may be forking at the moment, or
    be about to run another program.
    """
    if not tokens or not is_supported():
        return 0
    killed: set[int] = set()
    known_blank: set[int] = set()
    for _ in range(MOST_SWEEPS):
        pids, blank = find_children(tokens)
        if not pids and blank <= known_blank:
            break
        known_blank |= blank
        killed |= {pid for pid in pids if kill_carrier(pid, tokens)}
        time.sleep(PAUSE)
    return len(killed)


def kill_carrier(pid: int, tokens: Collection[str]) -> bool:
    """Kill the process if it carries one of the tokens.

    Its PID may be another process's at any moment, also between a look at it
    and the kill. A handle stays with its process, so it is opened first.
    """
    try:
        handle = _open_handle(pid)
    except ProcessLookupError:
        return False
    try:
        if not _carries(_environment(pid), tokens):
            return False
        if handle is None:
            os.kill(pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        return True
    except OSError:
        return False  # it ended, or is not ours to kill
    finally:
        if handle is not None:
            os.close(handle)


def _open_handle(pid: int) -> int | None:
    """A pidfd, or None: before Linux 5.3, and in some sandboxes.

    :raises ProcessLookupError: if there is no such process.
    """
    handle = None
    try:
        handle = os.pidfd_open(pid)
        signal.pidfd_send_signal(handle, 0)
    except (AttributeError, OSError) as error:
        if handle is not None:
            os.close(handle)
        if isinstance(error, ProcessLookupError):
            raise
        return None
    return handle


def remove_folder(folder: str) -> None:
    """Remove a folder and all in it, as far as that is possible."""
    import shutil  # seldom needed by the guardian, and large

    shutil.rmtree(folder, ignore_errors=True)


class Guardian:
    """The worker's side: starts the guardian, and tells it what runs.

    Each action has a token of its own. A playbook may leave a process behind
    on purpose (a daemon, an asynchronous task). Once the playbook has ended,
    its token is forgotten, so that process lives on.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()  # tokens that run, folders in use
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # told by main loop and election

    def start(self) -> None:
        """Start the process, where the system supports it.

        :raises OSError: if it cannot be started.
        """
        if is_supported():
            self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.abspath(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the worker
            cwd="/",
        )
        stdin = self._process.stdin
        assert stdin is not None
        os.set_blocking(stdin.fileno(), False)
        for each in self._known:
            self._write(BEGAN + os.fsencode(each))

    def action_began(self) -> str:
        """Note that an action begins.

        :returns: a token for the environment of its processes.
        """
        token = uuid.uuid4().hex
        self._add(token)
        return token

    def action_ended(self, token: str) -> None:
        """Note that an action has ended by itself, well or badly."""
        self._discard(token)

    def keep(self, folder: str) -> None:
        """Have the guardian remove this folder, if the worker does not.

        :param folder: an absolute path.
        """
        if is_folder(folder) and "\n" not in folder:  # or it is not one line
            self._add(folder)

    def remove(self, folder: str) -> None:
        """Remove the folder now.

        A process of the playbook that has not been killed yet may write into
        it meanwhile. Then it stays, and :meth:`clean_up` tries again.
        """
        remove_folder(folder)
        if not os.path.exists(folder):
            self._discard(folder)

    def kill(self) -> int:
        """Kill all processes of actions that have not ended.

        :returns: how many processes.
        """
        with self._lock:
            tokens = {each for each in self._known if not is_folder(each)}
        killed = kill_children(tokens)
        for token in tokens:
            self.action_ended(token)
        return killed

    def clean_up(self) -> None:
        """Kill all processes of actions, and remove their folders.

        Call it when no action runs in this worker any more.
        """
        self.kill()
        with self._lock:
            folders = {each for each in self._known if is_folder(each)}
        for folder in folders:
            self.remove(folder)

    @property
    def pid(self) -> int | None:
        """The process id of the guardian, None if it does not run."""
        process = self._process
        return None if process is None else process.pid

    def watch(self, lease_ends_at: float) -> None:
        """Have the actions killed from that time on, unless told a later one.

        :param lease_ends_at: on the lease clock.
        """
        self._tell(repr(lease_ends_at).encode())

    def unwatch(self) -> None:
        """No action is to be killed: the term is over, and so are they."""
        self._tell(UNWATCHED)

    def dismiss(self) -> None:
        """End the guardian. The actions have ended."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(FAREWELL + b"\n")
            process.stdin.close()
        except OSError:
            pass
        try:
            process.wait(LAST_SWEEP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _add(self, what: str) -> None:
        with self._lock:
            self._known.add(what)
            self._send(BEGAN + os.fsencode(what))

    def _discard(self, what: str) -> None:
        with self._lock:
            if what in self._known:
                self._known.remove(what)
                self._send(ENDED + os.fsencode(what))

    def _tell(self, line: bytes) -> None:
        with self._lock:
            self._send(line)

    def _send(self, line: bytes) -> None:
        try:
            self._write(line)
        except BlockingIOError:
            pass  # it is paused, and keeps the earlier deadline
        except OSError:
            self._replace(line)

    def _write(self, line: bytes) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            os.write(process.stdin.fileno(), line + b"\n")

    def _replace(self, line: bytes) -> None:
        # Somebody killed it. The election goes on, even if no new one starts.
        logger.warning("The guardian of the playbooks was killed")
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()
        try:
            self._start()
            self._write(line)  # a token twice does no harm
        except OSError as error:
            logger.warning("No new guardian can be started: %s", error)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main() -> None:
    """Be the guardian: read lines, act at the deadline and at the end.

    A playbook whose process was about to be started comes up after it should
    have been killed. So one round of killing is not enough.
    """
    pending = b""
    tokens: set[str] = set()
    folders: set[str] = set()
    kill_at: float | None = None
    pause = PAUSE  # until the next round
    while True:
        timeout = None
        if kill_at is not None and tokens:
            # A suspended machine stops the clock of select().
            timeout = min(kill_at - _now(), LOOK_EVERY)
            if timeout <= 0:
                kill_children(tokens)
                kill_at = _now() + pause
                pause *= 2
                continue
        if not select.select([0], [], [], timeout)[0]:
            continue
        data = os.read(0, 65536)
        if not data:
            for late in LATE if tokens else ():
                time.sleep(late)
                kill_children(tokens)
            for folder in folders:
                remove_folder(folder)
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if line.startswith((BEGAN, ENDED)):
                what = os.fsdecode(line[1:])
                known = folders if is_folder(what) else tokens
                if line.startswith(BEGAN):
                    known.add(what)
                else:
                    known.discard(what)
            elif line == FAREWELL:
                return
            elif line == UNWATCHED:
                kill_at = None
            else:
                kill_at, pause = float(line), PAUSE


if __name__ == "__main__":
    main()
