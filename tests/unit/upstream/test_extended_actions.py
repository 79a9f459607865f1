"""Actions: the fence, the token of a playbook, and its folder."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from small_worker import SmallWorker

from ansible_rulebook.ha.rulebook.guardian import VARIABLE, is_supported
from ansible_rulebook.ha.upstream.actions import (
    PEXPECT_TIMEOUT,
    TERM_VARIABLE,
    GuardedRunner,
    extend,
)
from ansible_rulebook.ha.upstream.mixin import combine

needs_proc = pytest.mark.skipif(
    not is_supported(), reason="needs /proc to find processes"
)


class Action:
    """As upstream's, but what it does is the test's to say."""

    def __init__(self, do: Callable[[], Any] = lambda: "done") -> None:
        self.do = do
        self.runs = 0
        self.private_data_dir = tempfile.mkdtemp()

    def has_folder(self) -> bool:
        return os.path.isdir(self.private_data_dir)

    async def __call__(self) -> Any:
        self.runs += 1
        return self.do()


class Runner:
    """As upstream's: starts ``ansible-playbook`` with these arguments."""

    def __init__(self, runner_args: dict[str, Any]) -> None:
        self.runner_args = runner_args
        self.do: Callable[[], Any] = lambda: None

    async def __call__(self) -> None:
        self.do()


@pytest.fixture(autouse=True)
def _folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def make(worker: Any, name: str, *args: Any) -> Any:
    return extend(name, Action, worker)(*args)


def fail() -> None:
    raise ValueError("the action's own fault")


# -- the fence ---------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_action_is_shown_under_upstreams_name():
    worker: Any = SmallWorker()
    for name in ("debug", "run_playbook", "run_job_template"):
        assert extend(name, Action, worker).__name__ == "Action"


@pytest.mark.asyncio
async def test_an_action_runs_while_its_worker_leads():
    assert await make(SmallWorker(), "debug")() == "done"


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["debug", "run_playbook"])
async def test_the_fence_refuses_an_action_without_a_term(name: str):
    worker = SmallWorker()
    action = make(worker, name)
    worker.end_term()
    with pytest.raises(asyncio.CancelledError):
        await action()
    assert action.runs == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "name",
    [
        "run_playbook",
        "run_module",
        "run_workflow_template",
        "run_job_template",
    ],
)
async def test_the_server_has_the_last_word_on_what_has_effects(name: str):
    worker = SmallWorker()
    worker.server_confirms = False
    action = make(worker, name)
    with pytest.raises(asyncio.CancelledError):
        await action()
    assert action.runs == 0


@pytest.mark.asyncio
async def test_the_server_is_not_asked_for_what_stays_in_this_process():
    worker = SmallWorker()
    assert await make(worker, "debug")() == "done"
    assert worker.asked == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("outcome", ["success", "failure"])
async def test_what_was_killed_with_its_term_has_not_been_done(outcome: str):
    worker = SmallWorker()

    def die() -> None:
        worker.end_term()
        if outcome == "failure":
            fail()

    with pytest.raises(asyncio.CancelledError):
        await make(worker, "run_playbook", die)()


@pytest.mark.asyncio
async def test_an_action_that_fails_in_its_term_has_failed():
    with pytest.raises(ValueError):
        await make(SmallWorker(), "run_playbook", fail)()


# -- a playbook's folder -----------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["run_playbook", "run_module"])
async def test_a_folder_is_removed_also_if_the_fence_refuses(name: str):
    worker = SmallWorker()
    action = make(worker, name)
    assert action.has_folder()
    worker.end_term()
    with pytest.raises(asyncio.CancelledError):
        await action()
    assert not action.has_folder()


@pytest.mark.asyncio
async def test_the_guardian_knows_the_folder_of_a_playbook_that_never_ran():
    worker = SmallWorker()
    action = make(worker, "run_playbook")
    worker.guardian.clean_up()
    assert not action.has_folder()


# -- a playbook's token ------------------------------------------------------


class Playbook:
    """A run of a playbook that leaves a process behind."""

    def __init__(self, worker: SmallWorker) -> None:
        self.worker = worker
        self.runner = combine(GuardedRunner, Runner, ha_worker=worker)({})
        self.left: list[subprocess.Popen[bytes]] = []

    async def run(self, then: Callable[[], Any] = lambda: None) -> None:
        def start() -> None:
            self.left.append(
                subprocess.Popen(
                    [sys.executable, "-c", "import time; time.sleep(600)"],
                    env={**os.environ, **self.runner.runner_args["envvars"]},
                )
            )
            then()

        self.runner.do = start
        await self.runner()

    def killed(self) -> int:
        """How many processes the guardian kills as not ended."""
        return self.worker.guardian.kill()

    def end(self) -> None:
        for process in self.left:
            process.kill()
            process.wait()


@contextmanager
def a_playbook() -> Iterator[Playbook]:
    made = Playbook(SmallWorker())
    try:
        yield made
    finally:
        made.end()


@needs_proc
@pytest.mark.asyncio
async def test_what_a_playbook_left_on_purpose_lives_on():
    with a_playbook() as playbook:
        await playbook.run()
        assert playbook.killed() == 0


@needs_proc
@pytest.mark.asyncio
async def test_a_playbook_that_fails_gives_its_token_back():
    with a_playbook() as playbook:
        with pytest.raises(ValueError):
            await playbook.run(fail)
        assert playbook.killed() == 0


@needs_proc
@pytest.mark.asyncio
@pytest.mark.parametrize("outcome", ["success", "failure"])
async def test_forks_of_a_playbook_killed_with_its_term_are_killed(
    outcome: str,
):
    with a_playbook() as playbook:

        def die() -> None:
            playbook.worker.end_term()
            if outcome == "failure":
                fail()

        with pytest.raises(asyncio.CancelledError):
            await playbook.run(die)
        assert playbook.killed() == 1


@needs_proc
@pytest.mark.asyncio
async def test_forks_of_a_cancelled_playbook_are_killed():
    def cancel() -> None:
        raise asyncio.CancelledError

    with a_playbook() as playbook:
        with pytest.raises(asyncio.CancelledError):
            await playbook.run(cancel)
        assert playbook.killed() == 1


@pytest.mark.asyncio
async def test_a_retry_of_a_playbook_asks_the_fence():
    with a_playbook() as playbook:
        playbook.worker.end_term()
        with pytest.raises(asyncio.CancelledError):
            await playbook.run()
        assert not playbook.left


@pytest.mark.asyncio
async def test_a_playbook_gets_token_and_term_beside_what_it_had():
    worker = SmallWorker()
    given = {"envvars": {"A": "1"}, "settings": {"b": 2}, "playbook": "p"}
    runner = combine(GuardedRunner, Runner, ha_worker=worker)(given)
    await runner()
    token = runner.runner_args["envvars"].pop(VARIABLE)
    assert token
    assert runner.runner_args == {
        "envvars": {"A": "1", TERM_VARIABLE: "7"},
        "settings": {"b": 2, "pexpect_timeout": PEXPECT_TIMEOUT},
        "playbook": "p",
    }
    assert given["envvars"] == {"A": "1"}  # the next try begins with this


# -- a template's job --------------------------------------------------------


@pytest.mark.asyncio
async def test_a_job_that_an_earlier_term_watched_is_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
):
    from ansible_rulebook.job_template_runner import job_template_runner

    steps: list[str] = []

    class Monitor:
        async def _cleanup_stale_jobs(self) -> None:
            steps.append("forgot")

    monkeypatch.setattr(
        job_template_runner, "_job_monitor", Monitor(), raising=False
    )
    await make(
        SmallWorker(), "run_job_template", lambda: steps.append("ran")
    )()
    assert steps == ["forgot", "ran"]
