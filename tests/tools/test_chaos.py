"""A short run of ``make chaos`` with fixed seeds.

By far the longest test, a good two minutes: real workers, a real server, and
each kind of fault at least once. A failure shows what was found, with the
lines of the records that prove it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.checker import Limits, Verdict
from chaos.cluster import Settings
from chaos.run import Result, Task, run, with_state
from chaos.schedule import CLOCKS, PROXIES, STANDBY, STATE, VOLUME, Plan
from chaos.volume import can_mount
from e2e_support import needs_state
from rig.clocks import can_compile

# Slack for a machine that does other things as well; the rules that are
# about order, not about time, have none.
LIMITS = Limits(slack=10.0, stall=30.0, overrun=5.0, fencing=True)
DURATION = 150.0  # seconds, where the machine is too slow for all faults


def found(result: Result) -> str:
    """What a failure shows."""
    lines = [str(each) for each in result.verdict.violations]
    if result.error is not None:
        lines.append(result.error)
    return "\n".join(lines)


def assert_it_was_worth_it(verdict: Verdict) -> None:
    """Nothing found in a run without leaders would prove nothing."""
    takeovers = [
        each for each in verdict.outcomes if each.takeover is not None
    ]
    assert len(takeovers) >= 5
    assert verdict.counts["terms"] > 5
    assert verdict.counts["actions done"] > 100
    assert verdict.counts["actions cut short"] > 0


def assert_it_was_seen(verdict: Verdict) -> None:
    """Nor would a ledger without rows."""
    counts = verdict.counts
    assert counts["transactions"] > 100
    assert counts["events stored"] > counts["events handed out"] * 0.9
    assert counts["matches stored"] > 100
    assert counts["outcomes stored"] > counts["matches stored"]


def possible(*has: str) -> frozenset[str]:
    """What of it a cluster can have on this machine."""
    found = set(has)
    if not can_mount():
        found.discard(VOLUME)
    if not can_compile():
        found.discard(CLOCKS)
    return frozenset(found)


@pytest.mark.parametrize(
    ("seed", "state", "has"),
    [
        pytest.param(1, "off", (STANDBY, CLOCKS), id="without state"),
        pytest.param(
            *(2, "required", (PROXIES, VOLUME)),
            id="with state and a network that fails",
            marks=needs_state,
        ),
    ],
)
def test_random_faults_break_no_promise(
    tmp_path: Path,
    quick_variables: dict[str, str],
    seed: int,
    state: str,
    has: tuple[str, ...],
) -> None:
    there = possible(*has)
    keeps = {STATE} if state == "required" else set()
    kinds = set(Plan(has=there | keeps).bag())
    task = Task(
        seed,
        DURATION,
        most=len(kinds),  # each once
        has=there,
        settings=with_state(Settings(variables=quick_variables), state),
        limits=LIMITS,
    )

    result = run(task, tmp_path)

    if found(result):
        pytest.fail(found(result), pytrace=False)
    assert_it_was_worth_it(result.verdict)
    if keeps:
        assert_it_was_seen(result.verdict)
    done = [outcome.fault.kind for outcome in result.verdict.outcomes]
    if len(done) == len(kinds):  # else the machine was too slow for all
        assert set(done) == kinds
