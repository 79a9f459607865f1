"""The example source, on a worker that the kit for authors makes."""

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

from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.testing import HaSources
from ansible_rulebook.ha.testing.plugin import load
from ansible_rulebook.ha.testing.stage import Stage

PLUGIN = Path(__file__).parents[1] / "sources" / "example_ha_source.py"
SOON = 5.0  # seconds, far more than anything here takes
LONG = 3600  # seconds, for a source that emits once a term

module = runpy.run_path(str(PLUGIN))


def test_documentation_is_valid() -> None:
    documented = yaml.safe_load(module["DOCUMENTATION"])
    assert set(documented["options"]) == {"delay", "limit", "prefix"}
    for example in yaml.safe_load(module["EXAMPLES"]):
        module["options"](example["example_ha_source"] or {})


@pytest.mark.parametrize("delay", [0, 0.01])
def test_it_keeps_the_rules_through_a_worker_s_life(
    ha_source: HaSources, delay: float
) -> None:
    assert ha_source(PLUGIN).is_aware
    ha_source.check(PLUGIN, {"delay": delay})


def test_leader_emits_numbered_events(ha_source: HaSources) -> None:
    source = ha_source(PLUGIN, {"delay": 0, "limit": 3, "prefix": "order"})
    source.promote()
    events = source.events(3)
    source.wait_until_ended()  # the limit ends it
    assert [event["message"] for event in events] == [
        "order 1",
        "order 2",
        "order 3",
    ]
    assert [event["first"] for event in events] == [True, False, False]
    assert len({event["id"] for event in events}) == 3


def test_demoted_in_a_blocked_put_withdraws_it(ha_source: HaSources) -> None:
    source = ha_source(PLUGIN, {"delay": 0})
    source.promote()
    source.wait_until_put_waits()
    source.demote()
    assert source.waiting == 0
    source.promote()
    # The one that was withdrawn leaves no gap in the numbers.
    first, second = source.events(2)
    assert (first["number"], second["number"]) == (1, 2)
    assert second["first"]


def stage(queue_size: int, **args: Any) -> Stage:
    """For tests that look at each turn of the loop."""
    return Stage(load(PLUGIN), args, queue_size, Timings())


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def taken(worker: Stage) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while more := await worker.next_event(0.0):
        events += more
        if len(events) > 100:
            break
    return events


@pytest.mark.asyncio
@pytest.mark.parametrize("queue_size", [1, 1000])
@pytest.mark.parametrize("steps", range(8))
async def test_demoted_at_any_step_it_begins_a_term_anew(
    steps: int, queue_size: int
) -> None:
    worker = stage(queue_size, delay=0)
    worker.promote()
    await turns(steps)
    worker.end_term()
    emitted = worker.emitted
    await turns()
    assert (worker.emitted, worker.waiting, worker.late) == (emitted, 0, [])
    worker.promote()
    await turns()
    events = await taken(worker)
    numbers = [event["number"] for event in events]
    assert numbers == list(range(1, len(events) + 1))
    firsts = [event["number"] for event in events if event["first"]]
    assert firsts == ([1, emitted + 1] if emitted else [1])
    assert await worker.shut_down()


@pytest.mark.asyncio
async def test_demoted_and_promoted_at_once_begins_a_term() -> None:
    worker = stage(2, delay=LONG)
    worker.promote()
    await turns()
    worker.end_term()
    worker.promote()
    await turns()
    events = await taken(worker)
    assert [event["first"] for event in events] == [True, True]
    assert await worker.shut_down()


@pytest.mark.asyncio
@pytest.mark.parametrize("role", ["follower", "leader", "leader, blocked"])
async def test_shutdown_ends_it_within_milliseconds(role: str) -> None:
    worker = stage(1, delay=0 if "blocked" in role else LONG)
    if role != "follower":
        worker.promote()
    await turns()
    begin = time.monotonic()
    assert await worker.shut_down()
    assert time.monotonic() - begin < 0.1


def test_error_of_the_queue_is_raised() -> None:
    class Broken(asyncio.Queue):  # type: ignore[type-arg]
        async def put(self, item: Any) -> None:
            raise ConnectionError("gone")

    async def run() -> None:
        await asyncio.wait_for(module["main"](Broken(), {}), SOON)

    with pytest.raises(ConnectionError):
        asyncio.run(run())


@pytest.mark.asyncio
async def test_without_ha_it_leads_for_ever() -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    await asyncio.wait_for(
        module["main"](queue, {"delay": 0, "limit": 2}), SOON
    )
    assert queue.qsize() == 2


@pytest.mark.parametrize(
    "args",
    [{"delay": -1}, {"delay": "nan"}, {"delay": "x"}, {"limit": -1}],
)
@pytest.mark.asyncio
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
