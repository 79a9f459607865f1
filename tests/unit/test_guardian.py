"""The guardian, with real processes: it kills when it must, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from typing import Iterator

import pytest

from ansible_rulebook.ha.election import clock
from ansible_rulebook.ha.rulebook.guardian import (
    VARIABLE,
    Guardian,
    find_children,
    is_supported,
    kill_children,
)

pytestmark = pytest.mark.skipif(
    not is_supported(), reason="needs /proc to find processes"
)

PATIENCE = 30.0  # seconds
# A child that forks, as ansible-playbook does, and both go on for long.
CHILD = "import os, time; os.fork(); print(flush=True); time.sleep(600)"


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
        while find_children([self.token]):
            assert time.monotonic() < deadline, "the playbook is still there"
            time.sleep(0.01)

    def end(self) -> None:
        kill_children([self.token])
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    guardian.start()
    yield guardian
    guardian.dismiss()


@pytest.fixture
def playbook(guardian: Guardian) -> Iterator[Playbook]:
    playbook = Playbook(guardian.begin())
    yield playbook
    playbook.end()


def test_kills_when_the_worker_is_gone(
    guardian: Guardian, playbook: Playbook
) -> None:
    assert len(find_children([playbook.token])) == 2
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
    other = Playbook(guardian.begin())
    try:
        guardian.watch(clock.now())
        other.wait_killed()
    finally:
        other.end()


def test_a_later_lease_replaces_an_earlier_one(
    guardian: Guardian, playbook: Playbook
) -> None:
    marker = Playbook(uuid.uuid4().hex)
    try:
        guardian.watch(clock.now() + 3600)
        guardian.watch(clock.now())
        playbook.wait_killed()
        # Other workers' playbooks are not ours to kill.
        assert len(find_children([marker.token])) == 2
    finally:
        marker.end()


def test_spares_a_renewed_and_an_ended_term(guardian: Guardian) -> None:
    playbook = Playbook(guardian.begin())
    try:
        soon = clock.now() + 0.3
        guardian.watch(soon)
        guardian.watch(soon + 3600)
        guardian.unwatch()
        while clock.now() < soon + 0.3:
            time.sleep(0.05)
        guardian.dismiss()  # by now it has read all of that
        assert len(find_children([playbook.token])) == 2
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
    assert find_children([uuid.uuid4().hex]) == []
    assert kill_children([uuid.uuid4().hex]) == 0


def test_spares_what_a_finished_playbook_has_left_behind(
    guardian: Guardian, playbook: Playbook
) -> None:
    finished = Playbook(guardian.begin())
    try:
        guardian.end(finished.token)
        guardian.watch(clock.now())
        playbook.wait_killed()
        assert guardian.kill() == 0
        assert len(find_children([finished.token])) == 2
    finally:
        finished.end()


def test_kills_the_rest_of_what_was_cancelled(
    guardian: Guardian, playbook: Playbook
) -> None:
    assert guardian.kill() == 2
    playbook.wait_killed()
    assert guardian.kill() == 0
