"""A worker whose event loop stands still cannot hold up the others."""

from __future__ import annotations

from pathlib import Path

from e2e_support import FOLLOWING, PATIENCE, Stage
from rig.server import Server

RULEBOOK = """
- name: Blocked
  hosts: all
  sources:
    - name: blocking
      blocking:
        block: {block}
  rules:
    - name: each
      condition: event.word is defined
      action:
        debug:
          msg: "says {{{{ event.word }}}}"
"""


def test_blocked_leader_keeps_its_lease_and_ends_when_it_loses_it(
    stage: Stage, server: Server, tmp_path: Path
) -> None:
    block = tmp_path / "block"
    first, second = stage.pair(RULEBOOK.format(block=block))
    first.wait_for("^says alive$", PATIENCE)

    # The lease is renewed in another thread: to block is not to be dead.
    block.touch()
    blocked = first.wait_for("^blocking$", PATIENCE)
    third = stage.start(RULEBOOK.format(block=tmp_path / "other"))
    third.wait_for(FOLLOWING, PATIENCE)
    assert first.leads and not second.leads

    # What cannot be demoted in time is ended: its actions must not go on.
    assert server.terminate(f"eda-ha:%:{first.worker_id}:%") == 1
    assert first.wait_exit(PATIENCE) == 75
    first.wait_for("Ending this worker with exit code 75", after=blocked.at)
    first.wait_for("blocking.py")  # the stack says who blocked it
