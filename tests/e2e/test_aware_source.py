"""A source that knows of HA runs on every worker."""

from __future__ import annotations

import re
import signal

from e2e_support import FOLLOWING, PATIENCE, STATELESS, Stage, terminate
from rig.server import Server
from rig.workers import WorkerProcess, wait_leader

COUNTING = """
- name: Counting
  hosts: all
  sources:
    - aware:
        every: 0.05
  rules:
    - name: Number
      condition: event.number >= 0
      action:
        debug:
          msg: "number {{ event.number }}"
"""


def numbers(worker: WorkerProcess, what: str) -> list[int]:
    found = worker.find(f"^{what} [0-9]+$")
    return [int(re.sub(r"\D", "", line.text)) for line in found]


def test_an_aware_source_waits_on_a_follower_and_loses_nothing(
    stage: Stage, server: Server
) -> None:
    # With state an action whose end was not recorded would run again.
    leader, follower = stage.pair(COUNTING, args=STATELESS)
    leader.wait_for("^number 20$", PATIENCE)
    follower.wait_for("^aware: putting 0$", PATIENCE)
    assert follower.find("^aware: leads=False follows=True$")
    assert not numbers(follower, "aware: put")

    for _ in range(2):
        # Whoever asks for the lock anew at that moment may come too late.
        cut_at = terminate(server, leader)
        while (
            wait_leader([leader, follower], PATIENCE, after=cut_at) is leader
        ):
            cut_at = terminate(server, leader)
        leader, follower = follower, leader
        follower.wait_for(FOLLOWING, PATIENCE, after=cut_at)
        left_at = numbers(follower, "number")[-1]
        began_at = (numbers(leader, "number") or [-1])[-1]
        leader.wait_for(f"^number {began_at + 20}$", PATIENCE)
        assert numbers(follower, "number")[-1] == left_at

    for worker in (leader, follower):
        acted = numbers(worker, "number")
        assert acted == list(range(len(acted))), "dropped or doubled"
    follower.signal(signal.SIGINT)
    assert follower.wait_exit(PATIENCE) == 0
    assert leader.stop(PATIENCE) == 0
    for worker in (leader, follower):
        assert worker.find("^aware: shutdown after"), "it was cut short"
