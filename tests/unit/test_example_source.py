"""The example source, driven by the events that a worker would pass it."""

from __future__ import annotations

import asyncio
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_rulebook.ha.rulebook.sources import is_ha_aware

PLUGIN = Path(__file__).parents[1] / "sources" / "example_ha_source.py"
SOON = 5.0  # seconds, far more than anything here takes

module = runpy.run_path(str(PLUGIN))


class Stage:
    """A worker as the plugin sees it."""

    def __init__(self, maxsize: int = 0, **args: Any) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)
        self.leader = asyncio.Event()
        self.follower = asyncio.Event()
        self.follower.set()
        self.shutdown = asyncio.Event()
        self.args = {
            "delay": 0,
            "leader_event": self.leader,
            "follower_event": self.follower,
            "shutdown_event": self.shutdown,
            **args,
        }
        self.task = asyncio.ensure_future(
            module["main"](self.queue, self.args)
        )

    def promote(self) -> None:
        self.follower.clear()
        self.leader.set()

    def demote(self) -> None:
        self.leader.clear()
        self.follower.set()

    async def event(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.queue.get(), SOON)

    async def end(self) -> None:
        self.shutdown.set()
        await asyncio.wait_for(self.task, SOON)


async def turns(count: int = 20) -> None:
    """Let every task do what it can do without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_worker_takes_it_for_ha_aware() -> None:
    assert is_ha_aware(PLUGIN.read_text("utf-8"))


def test_documentation_is_valid() -> None:
    documented = yaml.safe_load(module["DOCUMENTATION"])
    assert set(documented["options"]) == {"delay", "limit", "prefix"}
    for example in yaml.safe_load(module["EXAMPLES"]):
        module["options"](example["example_ha_source"] or {})


@pytest.mark.asyncio
async def test_follower_emits_nothing() -> None:
    stage = Stage()
    await turns()
    assert stage.queue.empty()
    await stage.end()


@pytest.mark.asyncio
async def test_leader_emits_numbered_events() -> None:
    stage = Stage(limit=3, prefix="order")
    stage.promote()
    events = [await stage.event() for _ in range(3)]
    await asyncio.wait_for(stage.task, SOON)  # the limit ends it
    assert [event["message"] for event in events] == [
        "order 1",
        "order 2",
        "order 3",
    ]
    assert [event["first"] for event in events] == [True, False, False]
    assert len({event["id"] for event in events}) == 3


@pytest.mark.asyncio
async def test_demoted_between_two_events_emits_no_more() -> None:
    stage = Stage(delay=3600)
    stage.promote()
    assert (await stage.event())["number"] == 1
    await turns()
    stage.demote()
    await turns()
    assert stage.queue.empty()
    await stage.end()


@pytest.mark.asyncio
@pytest.mark.parametrize("steps", range(6))
async def test_demoted_at_any_step_emits_nothing_later(steps: int) -> None:
    stage = Stage()
    stage.promote()
    await turns(steps)
    stage.demote()
    emitted = stage.queue.qsize()
    await turns()
    assert stage.queue.qsize() == emitted
    await stage.end()


@pytest.mark.asyncio
async def test_demoted_in_a_blocked_put_does_not_put_later() -> None:
    stage = Stage(maxsize=1)
    stage.promote()
    await turns()  # the second event waits for room
    stage.demote()
    await turns()
    first = await stage.event()
    stage.promote()
    second = await stage.event()
    # The one that was withdrawn leaves no gap in the numbers.
    assert (first["number"], second["number"]) == (1, 2)
    assert second["first"]
    await stage.end()


@pytest.mark.asyncio
async def test_demoted_and_promoted_at_once_begins_a_term() -> None:
    stage = Stage(delay=3600)
    stage.promote()
    assert (await stage.event())["first"]
    await turns()
    stage.demote()
    stage.promote()
    event = await stage.event()
    assert event["number"] == 2
    assert event["first"]
    await stage.end()


@pytest.mark.asyncio
async def test_demoted_as_the_pause_ends_begins_a_term() -> None:
    stage = Stage(maxsize=1)
    stage.promote()
    await turns(3)  # in the pause of 0 seconds after the first event
    stage.demote()
    await turns()
    assert (await stage.event())["first"]
    stage.promote()
    assert (await stage.event())["first"]
    await stage.end()


@pytest.mark.asyncio
@pytest.mark.parametrize("role", ["follower", "leader", "leader, blocked"])
async def test_shutdown_ends_it_within_milliseconds(role: str) -> None:
    stage = Stage(maxsize=1, delay=0 if "blocked" in role else 3600)
    if role != "follower":
        stage.promote()
    await turns()
    begin = time.monotonic()
    await stage.end()
    assert time.monotonic() - begin < 0.1


@pytest.mark.asyncio
async def test_cancelled_leaves_no_task_behind() -> None:
    stage = Stage()
    await turns()
    stage.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stage.task
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_error_of_the_queue_is_raised() -> None:
    class Broken(asyncio.Queue):  # type: ignore[type-arg]
        async def put(self, item: Any) -> None:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(module["main"](Broken(), {}), SOON)


@pytest.mark.asyncio
async def test_without_ha_it_leads_for_ever() -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    await asyncio.wait_for(
        module["main"](queue, {"delay": 0, "limit": 2}), SOON
    )
    assert queue.qsize() == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "args",
    [{"delay": -1}, {"delay": "nan"}, {"delay": "x"}, {"limit": -1}],
)
async def test_bad_options_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        await module["main"](asyncio.Queue(), args)


def test_runs_by_hand() -> None:
    done = subprocess.run(
        [sys.executable, str(PLUGIN)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.count("'id'") == 5
