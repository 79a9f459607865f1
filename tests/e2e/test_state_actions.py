"""An action whose own write fails has not been done."""

from __future__ import annotations

import pytest
from e2e_support import LEASE, PATIENCE, Stage, needs_state, until
from rig.server import Server
from rules import ASK, FORGET, LEARN, PAIR, SAY, rulebook

pytestmark = needs_state

RULEBOOK = rulebook(
    "Actions",
    SAY,
    LEARN,
    FORGET,
    """
    - name: Pass on
      condition: event.do == "pass"
      actions:
        - post_event:
            event:
              do: open
              word: "{{ event.word }}"
        - debug:
            msg: "passed {{ event.word }} on"
""",
    PAIR,
    ASK,
    parallel=True,
)


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_it_was_about_to_do_is_done_by_the_next_leader(
    stage: Stage, server: Server, is_killed: bool
) -> None:
    leader = stage.start(RULEBOOK, lease_duration=2 * LEASE)
    stage.post("learn", "old")
    leader.wait_for("^learned old$", PATIENCE)
    with server.connect(stage.dsn) as somebody, somebody.transaction():
        # Matches can be stored, and what their actions change cannot.
        somebody.execute("LOCK TABLE eda_ha_record")
        stage.post("learn", "new")
        stage.post("forget", "old")
        stage.post("pass", "box")
        lost_at = leader.wait_lost(PATIENCE).at
        if is_killed:
            leader.kill()
            leader.close()
    if is_killed:
        leader = stage.start(RULEBOOK)
        lost_at = 0.0
    leader.wait_leads(PATIENCE, after=lost_at)
    for line in ("learned new", "forgot old", "passed box on"):
        leader.wait_for(f"^{line}$", PATIENCE)
    stage.post("close", "box")
    stage.post("ask", "new")
    stage.post("ask", "old")
    leader.wait_for("^open and close box$", PATIENCE)
    leader.wait_for("^knows new$", PATIENCE)
    stage.say(leader, "all")
    assert not leader.find("^knows old$")
    assert len(stage.shown("^(learned new|forgot old|passed box on)$")) == 3
    until(
        lambda: not server.query("SELECT * FROM eda_ha_match", dsn=stage.dsn),
        "all is on record",
    )
    assert leader.stop(PATIENCE) == 0
