"""Upstream's run: an engine that died, and a monitor that outlives rules."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from small_worker import SmallWorker

from ansible_rulebook.ha.errors import RulesetDied
from ansible_rulebook.ha.upstream.app import monitor_while_running, run_watched

PATIENCE = 10.0  # seconds


def dead_ruleset() -> Any:
    return SimpleNamespace(
        name="R", ended_unasked=lambda: True, is_running=lambda: False
    )


async def for_ever(rulebook_file: str) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.asyncio
@pytest.mark.parametrize("outcome", ["returns", "has no monitor's outcome"])
async def test_a_run_whose_engine_has_died_is_an_error(outcome: str):
    async def run_rulesets() -> bool:
        if outcome != "returns":
            raise asyncio.InvalidStateError
        return False

    worker: Any = SmallWorker()
    worker.rulesets.started(dead_ruleset())
    with pytest.raises(RulesetDied):
        await run_watched(worker, run_rulesets)


@pytest.mark.asyncio
@pytest.mark.parametrize("reload", [True, False])
async def test_a_reload_and_an_asked_end_are_no_errors(reload: bool):
    async def run_rulesets() -> bool:
        return reload

    worker: Any = SmallWorker()
    worker.rulesets.started(dead_ruleset())
    worker.is_leaving = not reload
    assert await run_watched(worker, run_rulesets) is reload


@pytest.mark.asyncio
async def test_a_monitor_ends_with_the_last_ruleset():
    worker = SmallWorker()
    monitoring = asyncio.ensure_future(
        monitor_while_running(worker.rulesets, for_ever, "r.yml")
    )
    await asyncio.sleep(0)
    assert not monitoring.done()
    worker.rulesets.over.set()
    await asyncio.wait_for(monitoring, PATIENCE)


@pytest.mark.asyncio
async def test_a_changed_rulebook_reaches_upstream():
    async def changed(rulebook_file: str) -> None:
        raise KeyError(rulebook_file)

    with pytest.raises(KeyError, match=r"r\.yml"):
        await monitor_while_running(SmallWorker().rulesets, changed, "r.yml")
