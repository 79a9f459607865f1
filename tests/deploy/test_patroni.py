"""Workers on a PostgreSQL under Patroni, with deploy/patroni as it is.

One switchover and one killed primary under load. Many of both, and a Patroni
that hangs, are behind ``make chaos CHAOS_ARGS="--has patroni"``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from chaos.checker import Limits
from chaos.cluster import Settings
from chaos.patroni_servers import CONFIG
from chaos.run import Task, run, with_state
from chaos.schedule import PATRONI
from e2e_support import needs_state
from rig.patroni import obstacle

LIMITS = Limits(slack=10.0, stall=30.0, overrun=5.0, fencing=True)
FAULTS = ("patroni-crash", "patroni-switchover")


def test_nothing_is_stored_on_one_node_alone() -> None:
    config = yaml.safe_load(CONFIG.read_text("utf-8"))
    shared = config["bootstrap"]["dcs"]
    assert shared["synchronous_mode"] and shared["synchronous_mode_strict"]
    # Patroni's own rule, without which a primary may be given up too early.
    assert shared["loop_wait"] + 2 * shared["retry_timeout"] <= shared["ttl"]


@needs_state
@pytest.mark.skipif(bool(obstacle()), reason=obstacle())
@pytest.mark.skipif(not shutil.which("etcd"), reason="there is no etcd")
def test_a_switchover_and_a_dead_primary_lose_nothing(
    tmp_path: Path, quick_variables: dict[str, str]
) -> None:
    task = Task(
        3,
        duration=600.0,
        most=len(FAULTS),
        has=frozenset({PATRONI}),
        kinds=FAULTS,
        settings=with_state(Settings(variables=quick_variables), "required"),
        limits=LIMITS,
    )

    result = run(task, tmp_path)

    found = [str(each) for each in result.verdict.violations]
    assert not found and result.error is None, "\n".join(
        [*found, result.error or ""]
    )
    done = {each.fault.kind: each.takeover for each in result.verdict.outcomes}
    assert set(done) == set(FAULTS)
    assert None not in done.values()  # the lock went with the server
    assert result.verdict.counts["events posted"] > 50
    assert result.verdict.counts["transactions"] > 100
