"""An action whose own write fails has not been done."""

from __future__ import annotations

import pytest
from e2e_support import LEASE, PATIENCE, Stage, needs_state, until
from rig.server import Server
from test_state_rights import QUICK

pytestmark = needs_state

RULEBOOK = """
- name: Actions
  hosts: localhost
  execution_strategy: parallel
  sources:
    - inbox:
        folder: "{{ INBOX }}"
        settings:
          every: 0.05
  rules:
    - name: Say
      condition: event.do == "say"
      action:
        debug:
          msg: "says {{ event.word }}"
    - name: Learn
      condition: event.do == "learn"
      actions:
        - set_fact:
            fact:
              known: "{{ event.word }}"
        - debug:
            msg: "learned {{ event.word }}"
    - name: Forget
      condition: event.do == "forget"
      actions:
        - retract_fact:
            fact:
              known: "{{ event.word }}"
        - debug:
            msg: "forgot {{ event.word }}"
    - name: Pass on
      condition: event.do == "pass"
      actions:
        - post_event:
            event:
              do: open
              word: "{{ event.word }}"
        - debug:
            msg: "passed {{ event.word }} on"
    - name: Pair
      condition:
        all:
          - events.first << event.do == "open"
          - events.second << event.do == "close" and
            event.word == events.first.word
      action:
        debug:
          msg: "open and close {{ events.second.word }}"
    - name: Ask
      condition:
        all:
          - events.question << event.do == "ask"
          - events.answer << fact.known == events.question.word
      action:
        debug:
          msg: "knows {{ events.answer.known }}"
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_it_was_about_to_do_is_done_by_the_next_leader(
    stage: Stage, server: Server, is_killed: bool
) -> None:
    leader = stage.start(RULEBOOK, lease_duration=2 * LEASE, env=QUICK)
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
        leader = stage.start(RULEBOOK, env=QUICK)
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
