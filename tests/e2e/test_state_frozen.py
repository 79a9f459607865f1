"""A server that is frozen while 200 events come in a second."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Callable

from e2e_support import (
    LEASE,
    PATIENCE,
    Stage,
    needs_state,
    settled,
    until,
)
from outage import OUTAGE, has_run, numbers
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess

pytestmark = needs_state

LAG = """
    - lag:
        folder: "{{ INBOX }}"
  rules:
"""
RULEBOOK = re.sub(r"every: 0.03", "every: 0.005", OUTAGE).replace(
    "  rules:\n", LAG.lstrip("\n"), 1
)


def longest_stall(folder: Path, since: float) -> float:
    """Seconds for which the rulebook's loop stood still."""
    lines = (folder / "lag").read_text("utf-8").splitlines()
    seen = [tuple(map(float, line.split())) for line in lines]
    return max(lag for at, lag in seen if at > since)


def test_a_frozen_server_stalls_nothing_and_nothing_is_lost(
    worker: Callable[..., WorkerProcess],
    embedded_factory: Callable[..., EmbeddedRig],
    ha_uuid: str,
    tmp_path: Path,
) -> None:
    server = embedded_factory({})
    stage = Stage(worker, server.create_database(), ha_uuid, tmp_path)
    acknowledged, taken = stage.inbox / "acknowledged", stage.inbox / "taken"
    for path in (acknowledged, taken):
        path.touch()
    leader = stage.start(RULEBOOK)
    stage.say(leader, "hello")
    until(lambda: len(numbers(acknowledged)) > 50, "the broker is heard")
    frozen_at = time.monotonic()
    server.freeze()
    try:
        lost_at = leader.wait_lost(PATIENCE).at
        stall = longest_stall(stage.inbox, frozen_at)
    finally:
        server.thaw()
    print(
        f"stood still for {stall:.3f} s, stepped down after "
        f"{lost_at - frozen_at:.1f} s"
    )
    # It would stand still for as long as it waits for the server.
    assert stall < LEASE / 6
    leader.wait_leads(PATIENCE, after=lost_at)
    so_far = len(numbers(acknowledged))
    until(lambda: len(numbers(acknowledged)) > so_far + 50, "it goes on")
    (stage.inbox / "stop").touch()
    for path, what in ((acknowledged, "broker"), (taken, "tick")):
        sent = set(settled(lambda path=path: numbers(path)))
        until(
            lambda sent=sent, what=what: sent <= has_run(leader, what),
            f"all of {len(sent)} {what} events",
        )
    assert leader.stop(PATIENCE) == 0
