"""A standby recovers for practice, and nobody notices."""

from __future__ import annotations

from e2e_support import FOLLOWING, PATIENCE, Stage, needs_state, terminate
from rig.server import Server

pytestmark = needs_state

PAIRS = """
- name: Pairs
  hosts: localhost
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
    - name: Pair
      condition:
        all:
          - events.first << event.do == "open"
          - events.second << event.do == "close"
      action:
        debug:
          msg: "open {{ events.first.word }}, close {{ events.second.word }}"
"""
DEBUG = 2  # times -v
BEGINS = "Practising a recovery"
ENDS = "Practised a recovery"


def test_a_promotion_amid_a_practice_recovers_the_state(stage: Stage) -> None:
    first = stage.start(PAIRS)
    first.wait_leads(PATIENCE)
    stage.post("open", "one")
    stage.say(first, "heard")

    second = stage.start(PAIRS, verbosity=DEBUG)
    second.wait_for(BEGINS, PATIENCE)
    killed_at = first.kill()
    second.wait_leads(PATIENCE, after=killed_at)
    stage.post("close", "two")
    second.wait_for("^open one, close two$", PATIENCE)
    stage.say(second, "done")
    assert stage.shown("^open ") == ["open one, close two"]
    assert second.stop(PATIENCE) == 0


def test_who_stands_by_after_a_term_practises_then(
    stage: Stage, server: Server
) -> None:
    first = stage.start(PAIRS, verbosity=DEBUG)
    first.wait_leads(PATIENCE)
    second = stage.start(PAIRS, verbosity=DEBUG)
    second.wait_for(FOLLOWING, PATIENCE)
    second.wait_for(ENDS, PATIENCE)
    assert not first.find(BEGINS)

    cut_at = terminate(server, first)
    second.wait_leads(PATIENCE, after=cut_at)
    first.wait_for(ENDS, PATIENCE, after=cut_at)
    killed_at = second.kill()
    first.wait_leads(PATIENCE, after=killed_at)
    stage.say(first, "again")
    for worker in (first, second):
        assert len(worker.find(BEGINS)) == 1
        assert not worker.find("H2 database")
