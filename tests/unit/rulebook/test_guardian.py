"""The guardian, with real processes: it kills when it must, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Iterator

import pytest

from ansible_rulebook.ha.election import clock
from ansible_rulebook.ha.rulebook import guardian as guardian_module
from ansible_rulebook.ha.rulebook.guardian import (
    VARIABLE,
    Guardian,
    find_children,
    is_supported,
    kill_carrier,
    kill_children,
)

pytestmark = pytest.mark.skipif(
    not is_supported(), reason="needs /proc to find processes"
)

PATIENCE = 30.0  # seconds
NEXT_PID = Path("/proc/sys/kernel/ns_last_pid")
TRIES = 100
ROUND = 4 * guardian_module.PAUSE  # seconds; longer than a round takes
# A child that forks, as ansible-playbook does, and both go on for long.
CHILD = "import os, time; os.fork(); print(flush=True); time.sleep(600)"

LATE_CHILD = 'echo; read x; exec env "$0" sleep 600'


class Playbook:
    """A process with a child, both with the token in their environment."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            env={**os.environ, VARIABLE: token},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        for _ in range(2):
            self._process.stdout.readline()

    def wait_killed(self) -> None:
        """Until neither of the two is there."""
        deadline = time.monotonic() + PATIENCE
        while find_children([self.token])[0]:
            assert time.monotonic() < deadline, "the playbook is still there"
            time.sleep(0.01)

    def end(self) -> None:
        kill_children([self.token])
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class LatePlaybook(Playbook):
    """A process that carries its token only once it has come up."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._process = subprocess.Popen(
            ["sh", "-c", LATE_CHILD, f"{VARIABLE}={token}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def come_up(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait_killed(self) -> None:
        assert self._process.wait(PATIENCE) == -signal.SIGKILL

    def end(self) -> None:
        self._process.kill()
        super().end()


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    guardian.start()
    yield guardian
    guardian.dismiss()


@pytest.fixture
def playbook(guardian: Guardian) -> Iterator[Playbook]:
    playbook = Playbook(guardian.action_began())
    yield playbook
    playbook.end()


def test_kills_when_the_worker_is_gone(
    guardian: Guardian, playbook: Playbook
) -> None:
    assert len(find_children([playbook.token])[0]) == 2
    process = guardian._process
    assert process is not None and process.stdin is not None
    process.stdin.close()  # all that the kernel leaves of a killed worker
    playbook.wait_killed()
    assert process.wait(PATIENCE) == 0
    guardian._process = None  # nothing is left to be dismissed


def test_kills_when_the_lease_ends(
    guardian: Guardian, playbook: Playbook
) -> None:
    guardian.watch(clock.now() + 0.2)
    playbook.wait_killed()
    # It stays for the next term.
    other = Playbook(guardian.action_began())
    try:
        guardian.watch(clock.now())
        other.wait_killed()
    finally:
        other.end()


@pytest.mark.parametrize("how", ["the lease ends", "the worker is gone"])
def test_kills_what_comes_up_after_that(
    guardian: Guardian, playbook: Playbook, how: str
) -> None:
    # A thread of the worker was about to start it: chaos, seed 3019.
    process = guardian._process
    assert process is not None and process.stdin is not None
    late = LatePlaybook(guardian.action_began())
    try:
        if how == "the lease ends":
            guardian.watch(clock.now())
        else:
            process.stdin.close()
            guardian._process = None
        playbook.wait_killed()
        time.sleep(ROUND)
        late.come_up()
        late.wait_killed()
    finally:
        late.end()
    if how == "the worker is gone":
        assert process.wait(PATIENCE) == 0


def test_a_later_lease_replaces_an_earlier_one(
    guardian: Guardian, playbook: Playbook
) -> None:
    marker = Playbook(uuid.uuid4().hex)
    try:
        guardian.watch(clock.now() + 3600)
        guardian.watch(clock.now())
        playbook.wait_killed()
        # Other workers' playbooks are not ours to kill.
        assert len(find_children([marker.token])[0]) == 2
    finally:
        marker.end()


def test_spares_a_renewed_and_an_ended_term(guardian: Guardian) -> None:
    playbook = Playbook(guardian.action_began())
    try:
        soon = clock.now() + 0.3
        guardian.watch(soon)
        guardian.watch(soon + 3600)
        guardian.unwatch()
        while clock.now() < soon + 0.3:
            time.sleep(0.05)
        guardian.dismiss()  # by now it has read all of that
        assert len(find_children([playbook.token])[0]) == 2
    finally:
        playbook.end()


def test_one_that_was_killed_is_replaced(
    guardian: Guardian, playbook: Playbook
) -> None:
    process = guardian._process
    assert process is not None
    process.kill()
    process.wait()
    guardian.unwatch()  # finds out
    assert guardian.pid not in (None, process.pid)
    guardian.watch(clock.now())
    playbook.wait_killed()


def test_is_quiet_about_processes_that_end_meanwhile() -> None:
    assert find_children([uuid.uuid4().hex])[0] == set()
    assert kill_children([uuid.uuid4().hex]) == 0


def test_kills_what_was_about_to_run_another_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = uuid.uuid4().hex
    fork = subprocess.Popen(
        ["sleep", "600"], env={**os.environ, VARIABLE: token}
    )
    look = guardian_module._environment
    looks: list[int] = []

    def in_exec_at_first(pid: int) -> bytes:
        looks.append(pid)
        return b"" if looks == [fork.pid] else look(pid)

    monkeypatch.setattr(guardian_module, "_environment", in_exec_at_first)
    monkeypatch.setattr(os, "listdir", lambda _: [str(fork.pid)])
    try:
        assert kill_children([token]) == 1
        assert fork.wait(PATIENCE) == -signal.SIGKILL
    finally:
        fork.kill()
        fork.wait()


def test_does_not_wait_for_what_has_no_environment() -> None:
    token = uuid.uuid4().hex
    bare = subprocess.Popen(["/usr/bin/env", "-i", "sleep", "600"])
    try:
        command = Path(f"/proc/{bare.pid}/cmdline")
        while not command.read_bytes().startswith(b"sleep"):
            time.sleep(0.01)
        assert bare.pid in find_children([token])[1]
        assert kill_children([token]) == 0
        assert bare.poll() is None
    finally:
        bare.kill()
        bare.wait()


def test_spares_what_a_finished_playbook_has_left_behind(
    guardian: Guardian, playbook: Playbook
) -> None:
    finished = Playbook(guardian.action_began())
    try:
        guardian.action_ended(finished.token)
        guardian.watch(clock.now())
        playbook.wait_killed()
        assert guardian.kill() == 0
        assert len(find_children([finished.token])[0]) == 2
    finally:
        finished.end()


def test_kills_the_rest_of_what_was_cancelled(
    guardian: Guardian, playbook: Playbook
) -> None:
    assert guardian.kill() == 2
    playbook.wait_killed()
    assert guardian.kill() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One in which a playbook runs."""
    folder = tmp_path / "folder of a playbook"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts" / "rc").write_text("0", "utf-8")
    return folder


def test_removes_the_folders_of_a_worker_that_is_gone(
    guardian: Guardian, playbook: Playbook, folder: Path, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    done.mkdir()
    guardian.keep(str(folder))
    guardian.keep(str(done))
    guardian.remove(str(done))
    assert not done.exists()
    done.mkdir()  # somebody else's by now
    for running in (playbook, Playbook(guardian.action_began())):
        # With the second one's end the first deadline is dealt with.
        guardian.watch(clock.now())
        running.wait_killed()
        running.end()
    assert folder.exists()  # the worker lives, and looks into it
    killed = guardian._process
    assert killed is not None
    killed.kill()
    killed.wait()
    guardian.unwatch()  # finds out, and the next one learns what there is
    process = guardian._process
    assert process is not None and process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE) == 0
    assert not folder.exists()
    assert done.exists()
    guardian._process = None


def test_cleans_up_what_the_end_of_a_term_left(
    guardian: Guardian, playbook: Playbook, folder: Path
) -> None:
    guardian.keep(str(folder))
    guardian.clean_up()
    playbook.wait_killed()
    assert not folder.exists()
    assert guardian._known == set()


def test_kills_where_there_are_no_handles(
    playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert kill_children([playbook.token]) == 2
    playbook.wait_killed()


def start_with_pid(pid: int) -> subprocess.Popen[bytes] | None:
    """A process of that PID, unless somebody else is given it."""
    NEXT_PID.write_text(str(pid - 1), "ascii")
    process = subprocess.Popen(["sleep", "600"])
    if process.pid == pid:
        return process
    process.kill()
    process.wait()
    return None


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open") or not os.access(NEXT_PID, os.W_OK),
    reason="needs pidfd, and to choose the PID of a process",
)
def test_spares_a_process_that_was_given_the_pid_of_a_playbook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = uuid.uuid4().hex
    strangers: list[subprocess.Popen[bytes]] = []
    look = guardian_module._environment

    def look_and_end(pid: int) -> bytes:
        """It ends after the look at it, and its PID is used again."""
        found = look(pid)
        ending.kill()
        ending.wait()
        stranger = start_with_pid(pid)
        if stranger is not None:
            strangers.append(stranger)
        return found

    monkeypatch.setattr(guardian_module, "_environment", look_and_end)
    for _ in range(TRIES):
        ending = subprocess.Popen(
            ["sleep", "600"], env={**os.environ, VARIABLE: token}
        )
        assert not kill_carrier(ending.pid, [token]) or not strangers
        if strangers:
            break
    else:
        pytest.skip("somebody else was always given the PID")
    (stranger,) = strangers
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.1)
    finally:
        stranger.kill()
        stranger.wait()
