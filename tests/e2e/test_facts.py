"""Facts of hosts, which upstream gathers at the start of each worker."""

from __future__ import annotations

from e2e_support import FOLLOWING, PATIENCE, STATELESS, Stage, terminate
from rig.server import Server
from rig.workers import WorkerProcess
from rules import A_HOST, SAY, rulebook

FACTS = rulebook(
    "Facts",
    A_HOST,
    SAY,
    hosts="all",
    gather_facts=True,
)


def facts(worker: WorkerProcess) -> int:
    return len(worker.find("^fact "))


def test_without_state_gathered_facts_match_once_in_each_term(
    stage: Stage, server: Server
) -> None:
    leader, follower = stage.pair(FACTS, args=STATELESS)
    stage.say(leader, "first")
    assert (facts(leader), facts(follower)) == (1, 0)

    for number in (2, 3):
        before = facts(follower)
        cut_at = terminate(server, leader)
        leader, follower = follower, leader
        stage.say(leader, f"term {number}")
        follower.wait_for(FOLLOWING, PATIENCE, after=cut_at)
        assert facts(leader) == before + 1
    assert (facts(leader), facts(follower)) == (2, 1)

    # ansible-runner has taken the signals for itself meanwhile.
    assert follower.stop(PATIENCE) == 0
    assert leader.stop(PATIENCE) == 0
