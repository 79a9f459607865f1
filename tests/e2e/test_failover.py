"""One worker leads, the others follow, and one of them takes over."""

from __future__ import annotations

from e2e_support import FOLLOWING, PATIENCE, READY, Stage

TICKS = """
- name: Ticks
  hosts: all
  sources:
    - ticks:
        delay: 0.05
  rules:
    - name: Tick
      condition: event.i >= 0
      action:
        debug:
          msg: "tick {{ event.i }}"
"""
TICK = r"^tick \d+$"

FINITE = """
- name: Finite source
  hosts: all
  sources:
    - ticks:
        limit: 3
  rules:
    - name: Each
      condition: event.i >= 0
      action:
        debug:
          msg: "acts on {{ event.i }}"
"""

SHUTDOWN = """
- name: Shutdown action
  hosts: all
  sources:
    - ticks:
        delay: 0.05
  rules:
    - name: Each
      condition: event.i < 2
      action:
        debug:
          msg: "acts on {{ event.i }}"
    - name: Enough
      condition: event.i == 2
      action:
        shutdown:
          message: enough of it
"""

BREAKING = """
- name: Source that fails
  hosts: all
  sources:
    - breaking:
        after: 0.2
  rules:
    - name: Each
      condition: event.i >= 0
      action:
        debug:
          msg: "acts on {{ event.i }}"
"""

# Upstream's ruleset dies of a variable that is not there, with exit code 0.
DYING = """
- name: Ruleset that dies
  hosts: all
  sources:
    - ticks:
        delay: 0.05
  rules:
    - name: Each
      condition: event.i == 0
      action:
        debug:
          msg: "acts on {{ event.i }}"
    - name: Undefined
      condition: event.i == 1
      action:
        debug:
          msg: "{{ nowhere }}"
"""

# Upstream's watch over the file must not outlive the rulebook.
RELOAD = ["--hot-reload"]
ENDINGS: dict[str, tuple[str, list[str], int]] = {
    "finite": (FINITE, [], 0),
    "shutdown": (SHUTDOWN, RELOAD, 0),
    "breaking": (BREAKING, [], 1),
    "dying": (DYING, [], 1),
    "reloading": (DYING, RELOAD, 1),
}


def test_a_killed_leader_is_replaced_and_follows_when_it_is_back(
    stage: Stage,
) -> None:
    leader, follower = stage.pair(TICKS)
    follower.wait_for(READY, PATIENCE)
    leader.wait_for("^tick 20$", PATIENCE)
    assert not follower.find(TICK), follower.tail()

    killed_at = leader.kill()
    follower.wait_leads(PATIENCE, after=killed_at)
    follower.wait_for("^tick 20$", PATIENCE)

    with leader.again().start() as back:
        back.wait_for(FOLLOWING, PATIENCE)
        back.wait_for(READY, PATIENCE)
        shown = len(follower.find(TICK))
        follower.wait_for(TICK, PATIENCE, count=shown + 20)
        assert not back.find(TICK), back.tail()

        # A follower leaves without a word to the leader.
        assert back.stop(PATIENCE) == 0
        assert not back.acquired
    assert follower.leads
    assert follower.stop(PATIENCE) == 0


def test_a_rulebook_that_ends_ends_its_worker_and_the_next_one_leads(
    stage: Stage,
) -> None:
    workers = {
        name: stage.start(rulebook, name=name, worker_id=name, args=args)
        for name, (rulebook, args, _) in ENDINGS.items()
    }
    for name, (_, _, code) in ENDINGS.items():
        assert workers[name].wait_exit(2 * PATIENCE) == code, name

    turns = sorted(workers.values(), key=lambda each: each.acquired[0].when)
    for worker, later in zip(turns, [*turns[1:], None]):
        assert len(worker.acquired) == 1, worker.tail()
        assert worker.find("^acts on 0$"), worker.tail()
        last = worker.find("^acts on|Source error|Lost leadership")[-1]
        if later is not None:
            assert last.when <= later.acquired[0].when
    assert workers["finite"].find("acts on 2$")
    assert workers["breaking"].find("the tape is torn")
    for name in ("dying", "reloading"):
        assert workers[name].find("Terminating: the engine of Ruleset that")
