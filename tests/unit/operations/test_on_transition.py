"""The operator's command at each change of role."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ansible_rulebook.ha.errors import OptionError
from ansible_rulebook.ha.log import WorkerLog
from ansible_rulebook.ha.operations import on_transition
from ansible_rulebook.ha.operations.on_transition import (
    Transition,
    TransitionHook,
    parse_command,
)

UUID = uuid.UUID("0d8f3a52-7d6e-4b6c-8f0e-5f2f5f0c9a11")
LIMIT = 60.0  # seconds
LEADER = Transition("leader", 3, "killed", 1.25)

TELL = """
import json, os, sys
with open(sys.argv[1], "a") as file:
    told = {k: v for k, v in os.environ.items() if k.startswith("EDA_HA_")}
    file.write(json.dumps([sys.argv[2:], told]) + "\\n")
"""
# Has a child that would outlive it, and says when both are there.
HANG = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""

MakeHook = Callable[..., TransitionHook]


def is_running() -> bool:
    names = {thread.name for thread in threading.enumerate()}
    return "ha-on-transition" in names


@pytest.fixture
def hook() -> Iterator[MakeHook]:
    made: list[TransitionHook] = []

    def make(script: str, *arguments: object) -> TransitionHook:
        words = [sys.executable, "-c", script, *map(str, arguments)]
        log = WorkerLog(logging.getLogger("test"), "w1", UUID)
        made.append(TransitionHook(words, "w1", str(UUID), log))
        return made[-1]

    yield make
    for each in made:
        each.close(0)


def lines(file: Path) -> list[tuple[list[str], dict[str, str]]]:
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_command_is_told_what_happened(
    hook: MakeHook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("EDA_HA_"):
            monkeypatch.delenv(name)
    file = tmp_path / "told"
    made = hook(TELL, file, "a b")
    made.tell(LEADER)
    made.tell(Transition("follower", 3, "session_lost"))
    made.close(LIMIT)
    first, second = lines(file)
    assert first == (
        ["a b"],
        {
            "EDA_HA_ROLE": "leader",
            "EDA_HA_TERM": "3",
            "EDA_HA_REASON": "killed",
            "EDA_HA_GAP": "1.250",
            "EDA_HA_WORKER_ID": "w1",
            "EDA_HA_UUID": str(UUID),
        },
    )
    assert second[1]["EDA_HA_ROLE"] == "follower"
    assert second[1]["EDA_HA_GAP"] == ""


def test_runs_come_one_after_the_other(hook: MakeHook, tmp_path: Path) -> None:
    file = tmp_path / "told"
    made = hook("import time\ntime.sleep(0.1)\n" + TELL, file)
    for term in range(10):
        made.tell(Transition("leader", term))
    assert not file.exists() or len(lines(file)) < 10  # nobody has waited
    made.close(LIMIT)
    assert [told["EDA_HA_TERM"] for _, told in lines(file)] == [
        str(term) for term in range(10)
    ]


def test_no_shell_sees_it(hook: MakeHook, tmp_path: Path) -> None:
    file = tmp_path / "told"
    hostile = f"$(touch {tmp_path}/hacked); `id`\n\x1b[31m"
    made = hook(TELL, file, "$HOME", ";", "*")
    made.tell(Transition("leader", 1, hostile))
    made.close(LIMIT)
    [(arguments, told)] = lines(file)
    assert arguments == ["$HOME", ";", "*"]
    assert told["EDA_HA_REASON"].endswith(r"`id`\n\x1b[31m")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_run_that_takes_too_long_is_killed_with_its_children(
    hook: MakeHook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(on_transition, "WITHIN", 2.0)
    file = tmp_path / "pids"
    made = hook(HANG, file)
    made.tell(LEADER)
    wait_for(lambda: file.exists() and " " in file.read_text())
    pids = [int(pid) for pid in file.read_text().split()]
    wait_for(lambda: "too long and was killed" in caplog.text)
    wait_for(lambda: not any(map(is_there, pids)))
    made.tell(LEADER)  # the next one runs
    wait_for(lambda: caplog.text.count("too long and was killed") == 2)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_end_of_the_worker_does_not_wait_for_ever(
    hook: MakeHook, tmp_path: Path
) -> None:
    file = tmp_path / "pids"
    made = hook(HANG, file)
    made.tell(LEADER)
    made.tell(LEADER)
    wait_for(lambda: file.exists() and " " in file.read_text())
    pids = [int(pid) for pid in file.read_text().split()]
    began = time.monotonic()
    made.close(0.5)
    assert time.monotonic() - began < 10
    assert not is_running()
    wait_for(lambda: not any(map(is_there, pids)))


def test_a_failure_is_a_warning(
    hook: MakeHook, caplog: pytest.LogCaptureFixture
) -> None:
    made = hook("raise SystemExit(3)")
    made.tell(LEADER)
    made.close(LIMIT)
    assert "it ended with 3" in caplog.text
    log = WorkerLog(logging.getLogger("test"), "w1", UUID)
    absent = TransitionHook(["/not/there"], "w1", str(UUID), log)
    absent.tell(LEADER)
    absent.close(LIMIT)
    assert "No such file" in caplog.text
    assert {each.levelno for each in caplog.records} == {logging.WARNING}


def test_a_cluster_that_flaps_does_not_fill_the_memory(
    hook: MakeHook, caplog: pytest.LogCaptureFixture
) -> None:
    made = hook("import time; time.sleep(600)")
    for _ in range(on_transition.MOST_WAITING + 10):
        made.tell(LEADER)
    assert "was left out" in caplog.text
    made.close(0)
    assert not is_running()


def test_a_command_is_split_as_a_shell_would() -> None:
    assert parse_command("a 'b c' \"d\"", "--x") == ["a", "b c", "d"]
    assert parse_command(shlex.join(["x y", "$z"]), "--x") == ["x y", "$z"]


@pytest.mark.parametrize("text", ["", "  ", "a 'b", "a\0b"])
def test_what_is_no_command_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"^--x: "):
        parse_command(text, "--x")


def test_the_environment_of_the_worker_stays(
    hook: MakeHook, tmp_path: Path
) -> None:
    before = dict(os.environ)
    made = hook(TELL, tmp_path / "told")
    made.tell(LEADER)
    made.close(LIMIT)
    assert dict(os.environ) == before
