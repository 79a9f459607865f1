"""A rulebook ends with HA as it does without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from e2e_support import (
    LEASE,
    PATIENCE,
    STATELESS,
    Stage,
    needs_state,
    settled,
)
from rig.server import Server
from rig.workers import WorkerProcess

# The journal may take a sixth of it.
LONG_LEASE = 20 * LEASE

# What is to be the same.
SAID = r"^says .*|\S.* has initiated shutdown.*|Terminating.*"
SAID = r"^says |has initiated shutdown|One of the source plugins failed$"

SEQUENCE = """
- name: Sequence
  hosts: all
  execution_strategy: parallel
  sources:
    - plan:
        words: [go]
        until: never_made
  rules:
    - name: Go
      condition: event.do == "go"
      actions:
        - debug:
            msg: "says first"
        - shutdown:
            delay: 0
            kind: {kind}
        - debug:
            msg: "says second"
"""
# A sequence in another ruleset than the one that ends it.
ACROSS = """
- name: One
  hosts: all
  sources:
    - plan:
        words: [go]
        until: never_made
  rules:
    - name: Go
      condition: event.do == "go"
      actions:
        - post_event:
            ruleset: Other
            event:
              do: go
        - shutdown:
            delay: 30
            message: enough
- name: Other
  hosts: all
  sources:
    - plan:
        words: []
        until: never_made
  rules:
    - name: Go
      condition: event.do == "go"
      actions:
        - run_module:
            name: ansible.builtin.ping
        - debug:
            msg: "says after the module"
"""
FINITE = """
- name: Finite
  hosts: all
  sources:
    - plan:
        words: [go, say, say, say]
        {more}
  rules:
    - name: Go
      condition: event.do == "go"
      actions:
        - run_module:
            name: ansible.builtin.ping
        - debug:
            msg: "says after the module"
    - name: Say
      condition: event.do == "say"
      action:
        debug:
          msg: "says a word"
"""

# A source ends while a playbook runs; meanwhile the other ruleset has asked
# for the end at once.
OVERTAKEN = """
- name: Overtaken
  hosts: localhost
  sources:
    - plan:
        words: [hold]
        until: "{{ INBOX }}/end"
  rules:
    - name: Hold
      condition: event.do == "hold"
      action:
        run_playbook:
          name: "{{ PLAYBOOK }}"
          copy_files: false
          extra_vars:
            word: held
- name: Overtaking
  hosts: localhost
  sources:
    - inbox:
        folder: "{{ INBOX }}"
        settings:
          every: 0.05
  rules:
    - name: Now
      condition: event.do == "now"
      action:
        shutdown:
          kind: now
          message: enough
"""

# A ruleset that takes nothing in, since too many matches wait for a playbook.
FULL = f"""
- name: Full
  hosts: localhost
  execution_strategy: sequential
  sources:
    - plan:
        words: [hold{200 * ", say"}]
        until: never_made
  rules:
    - name: Hold
      condition: event.do == "hold"
      action:
        run_playbook:
          name: "{{{{ PLAYBOOK }}}}"
          copy_files: false
          extra_vars:
            word: held
    - name: Say
      condition: event.do == "say"
      action:
        debug:
          msg: "says a word"
{OVERTAKEN[OVERTAKEN.index("- name: Overtaking") :]}
"""


def start_plain(stage: Stage, rulebook: str, **options: Any) -> WorkerProcess:
    """Without HA."""
    return stage.start(
        rulebook,
        dsn=None,
        ha_uuid=None,
        poll_interval=None,
        lease_duration=None,
        **options,
    )


def said(worker: WorkerProcess) -> list[str]:
    """What is to be the same, in a fixed order: rulesets run at a time."""
    text = "\n".join(line.text for line in worker.find(SAID))
    return sorted(re.findall(SAID, text, re.MULTILINE))


@pytest.mark.parametrize(
    ("rulebook", "code", "says"),
    [
        (SEQUENCE.format(kind="graceful"), 0, 2),
        (SEQUENCE.format(kind="now"), 0, 1),
        (ACROSS, 0, 1),
        (FINITE.format(more=""), 0, 4),
        (FINITE.format(more="failure: broken"), 1, 4),
    ],
    ids=["sequence", "now", "across", "finite", "failure"],
)
def test_a_rulebook_ends_as_it_does_without_ha(
    stage: Stage, rulebook: str, code: int, says: int
) -> None:
    plain = start_plain(stage, rulebook)
    stateless = stage.start(rulebook, args=STATELESS)
    assert plain.wait_exit(PATIENCE) == code
    assert stateless.wait_exit(PATIENCE) == code
    stateful = stage.start(rulebook)
    assert stateful.wait_exit(PATIENCE) == code
    assert len(plain.find("^says ")) == says
    assert said(stateless) == said(plain)
    assert said(stateful) == said(plain)


@contextmanager
def nothing_stored(server: Server, stage: Stage) -> Iterator[None]:
    """Matches wait for the server meanwhile."""
    with server.connect(stage.dsn) as somebody, somebody.transaction():
        somebody.execute("LOCK TABLE eda_ha_match")
        yield


@needs_state
def test_a_shutdown_now_is_not_late_for_being_stored_first(
    stage: Stage, server: Server
) -> None:
    plain = start_plain(stage, OVERTAKEN)
    stage.wait_journal(f"begin {plain.name} held")
    stage.post("now", "enough")
    assert plain.wait_exit(PATIENCE) == 0

    leader = stage.start(
        OVERTAKEN,
        lease_duration=LONG_LEASE,
        args=["--print-events"],
    )
    stage.wait_journal(f"begin {leader.name} held")
    with nothing_stored(server, stage):
        stage.post("now", "enough")
        leader.wait_for("'do': 'now'", PATIENCE)
        (stage.inbox / "end").touch()
        leader.wait_for("^the plan is over$", PATIENCE)
    assert leader.wait_exit(PATIENCE) == 0
    for worker in (plain, leader):
        assert worker.find("initiated shutdown of type: now")
    assert [line.split()[0] for line in stage.journal] == ["begin"] * 2


@needs_state
def test_a_ruleset_that_cannot_hear_the_end_hears_it_later(
    stage: Stage, server: Server
) -> None:
    leader = stage.start(FULL, args=["--print-events"])
    stage.wait_journal(f"begin {leader.name} held")
    settled(lambda: len(leader.find("'do': 'say'")))
    stage.post("now", "enough")
    leader.wait_for("initiated shutdown of type: now", PATIENCE)
    stage.let_go()
    assert leader.wait_exit(PATIENCE) == 0
    left = server.query(
        "SELECT DISTINCT rule FROM eda_ha_match", dsn=stage.dsn
    )
    assert set(left) <= {("Say",)}
