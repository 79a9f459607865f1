"""The unit for systemd: what systemd says of it, and a worker by it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from e2e_support import PATIENCE, needs_sources
from rig.process import ManagedProcess
from rig.workers import java_home, script
from units import (
    UNIT,
    command,
    environment,
    read_environment,
    read_unit,
    seconds,
)

from ansible_rulebook.ha.rulebook.drain import TEARDOWN_WITHIN
from ansible_rulebook.ha.rulebook.self_fence import EXIT_FENCED

HERE = UNIT.parent
DROP_INS = sorted((HERE / "drop-ins").glob("*.conf"))
SYSTEM = Path("/usr/lib/systemd/system")
INSTANCE = "ansible-rulebook@example.service"
MOST_EXPOSED = 4.0
DELAY = 60  # seconds, of the example


def analyze(*args: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    if (
        b"--offline"
        not in subprocess.run(
            ["systemd-analyze", "--help"], capture_output=True
        ).stdout
    ):
        pytest.skip("systemd-analyze is older than 250")
    return subprocess.run(
        ["systemd-analyze", *args], capture_output=True, text=True
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine that has the unit, to be looked at."""
    if not SYSTEM.exists():
        pytest.skip("there are no units of systemd")
    units = tmp_path / "etc" / "systemd" / "system"
    theirs = tmp_path / SYSTEM.relative_to("/")
    program = tmp_path / "opt/ansible-rulebook/bin/ansible-rulebook"
    for folder in (units, theirs, program.parent):
        folder.mkdir(parents=True)
    shutil.copy(UNIT, units)
    for path in SYSTEM.glob("*.target"):
        shutil.copy(path, theirs, follow_symlinks=False)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=str)
def test_systemd_has_nothing_to_say(root: Path, drop_in: Path | None) -> None:
    if drop_in is not None:
        folder = root / f"etc/systemd/system/{UNIT.name}.d"
        folder.mkdir()
        shutil.copy(drop_in, folder)
    done = analyze("verify", f"--root={root}", INSTANCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_hardened(root: Path) -> None:
    done = analyze("security", "--offline=true", f"--root={root}", INSTANCE)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done
    assert float(found[1]) < MOST_EXPOSED


def test_java_can_compile_and_the_guardian_can_look() -> None:
    unit = read_unit("example", UNIT)
    assert unit["MemoryDenyWriteExecute"] == ["no"]
    assert unit["ProtectProc"] == ["invisible"]
    assert unit["KillMode"] == ["mixed"]


def test_exit_codes_are_known() -> None:
    unit = read_unit("example", UNIT)
    assert unit["Restart"] == ["always"]
    assert unit["RestartForceExitStatus"] == [str(EXIT_FENCED)]
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert seconds(unit, "TimeoutStopSec") >= DELAY + TEARDOWN_WITHIN


def test_loosened_playbooks_can_become(root: Path) -> None:
    """Many settings bring NoNewPrivileges with them."""
    (path,) = [each for each in DROP_INS if each.stem == "local-playbooks"]
    opened = read_unit("example", path)
    brings = re.compile(
        "Restrict|SystemCall(F|A)|Protect(Kernel|Clock|Hostname)|LockPersonality|"
        "PrivateDevices"
    )
    closed = {name for name in read_unit("x", UNIT) if brings.match(name)}
    assert closed and closed <= opened.keys()


class Manager:
    """Listens as systemd does, and hears the main process only."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.settimeout(PATIENCE)
        self._socket.bind(str(path))
        self.heard: list[str] = []

    def hear(self, what: str, pid: int) -> str:
        """Wait for a message that begins so."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for each in self.heard:
                if each.startswith(what):
                    return each
            assert time.monotonic() < deadline, self.heard
            message, ancillary, _, _ = self._socket.recvmsg(4096, 64)
            (sender, _, _) = struct.unpack("3i", ancillary[0][2])
            if sender == pid:  # NotifyAccess=main
                self.heard.append(message.decode())

    def close(self) -> None:
        self._socket.close()


@pytest.mark.skipif(
    not hasattr(socket, "SO_PASSCRED"), reason="systemd is Linux's"
)
@needs_sources
def test_a_worker_runs_by_it(dsn: str, tmp_path: Path) -> None:
    unit = read_unit("example", UNIT, HERE / "drop-ins" / "logs.conf")
    etc, home = tmp_path / "etc", tmp_path / "home"
    for folder in (etc, home):
        folder.mkdir()
    shutil.copytree(HERE / "example", etc / "example")
    text = (HERE / "example.env").read_text("utf-8")
    # Any free port.
    text = re.sub("(?m)^(EDA_HA_HTTP_LISTEN)=.*", r"\1=0", text)
    text = re.sub("(?m)^(EDA_HA_POSTGRES_DSN)=.*", rf'\1="{dsn}"', text)
    (etc / "example.env").write_text(text)

    def here(text: str) -> str:
        beside = os.path.dirname(script()[0])
        text = text.replace("/opt/ansible-rulebook/bin", beside)
        return text.replace("/etc/ansible-rulebook", str(etc))

    (file,) = unit["EnvironmentFile"]
    given = {
        **environment(unit),
        **read_environment(Path(here(file)).read_text("utf-8")),
        "HOME": str(home),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": str(round(seconds(unit, "WatchdogSec") * 1e5)),
        "JAVA_HOME": java_home() or os.environ.get("JAVA_HOME", ""),
    }
    given["PATH"] = here(given["PATH"])
    manager = Manager(tmp_path / "notify")
    argv = [here(word) for word in command(unit, given)]
    assert f"--shutdown-delay {DELAY}" in " ".join(argv)
    worker = ManagedProcess(
        argv,
        name="unit",
        log=tmp_path / "log",
        env=given,
        cwd=Path(here(*unit["WorkingDirectory"])),
    )
    with worker:
        assert manager.hear("READY=1", worker.pid)
        assert manager.hear("STATUS=leader, term 1", worker.pid)
        assert manager.hear("WATCHDOG=1", worker.pid)
        worker.wait_for("told hello", PATIENCE)
        (line,) = worker.find('"message": "Successfully acquired leadership"')
        assert json.loads(line.text)["fields"]["term"] == 1
        worker.signal(signal.SIGTERM)
        assert manager.hear("STOPPING=1", worker.pid)
        extended = manager.hear("EXTEND_TIMEOUT_USEC=", worker.pid)
        more = int(extended.partition("=")[2]) / 1e6
        assert DELAY < more <= seconds(unit, "TimeoutStopSec")
        assert worker.wait_exit(PATIENCE) == 0
    manager.close()


def test_a_worker_without_its_uuid_is_not_started_again(
    tmp_path: Path,
) -> None:
    unit = read_unit("example", UNIT)
    argv = command(unit, {"EDA_HA_POSTGRES_DSN": "dbname=eda"})
    done = subprocess.run(
        [script()[0], *argv[1:]],
        capture_output=True,
        cwd=tmp_path,
        text=True,
        timeout=PATIENCE,
    )
    assert str(done.returncode) in unit["RestartPreventExitStatus"]
    assert "--ha-uuid" in done.stderr
