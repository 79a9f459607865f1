"""What the workers run: two rulesets, each with every kind of rule.

The message of a debug action tells the recording what it is about: name of
the action, its place in the rule, seconds that it takes, and the ids of the
events that it is for.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "sources"
PLAYBOOK = HERE / "play" / "playbook.yml"
ALIVE = HERE / "play" / "alive.py"
INVENTORY = HERE / "play" / "inventory.yml"

PLAIN = "plain"  # a source that hands out each event once
FEEDBACK = "feedback"  # one that repeats it until it was acknowledged
SECOND = "second"  # in place of that one where there is no state

# Environment variables that tell a worker what it needs to know.
SOCKET = "CHAOS_SOCKET"
LIFE = "CHAOS_LIFE"
RECORD = "CHAOS_RECORD"
PLAYS = "CHAOS_PLAYS"
PLAYBOOK_PATH = "CHAOS_PLAYBOOK"
ALIVE_PATH = "CHAOS_ALIVE"
VARIABLES = (SOCKET, PLAYBOOK_PATH, ALIVE_PATH)

RULESET = """
- name: {name}
  hosts: all
  sources:
    - name: {name}
      feed:
        name: {name}
        socket: "{{{{ CHAOS_SOCKET }}}}"
        every: {every}
{more}
  rules:
    - name: one event
      condition: event.kind == "one"
      action:
        debug:
          msg: "one 0 {{{{ event.work }}}} {{{{ event.id }}}}"
    - name: two events
      condition:
        all:
          - events.first << event.kind == "first"
          - events.second << event.kind == "second"
              and event.pair == events.first.pair
      action:
        debug:
          msg: "two 0 {{{{ events.second.work }}}}
            {{{{ events.first.id }}}} {{{{ events.second.id }}}}"
    - name: time window
      condition: event.kind == "window"
      throttle:
        once_after: {window} seconds
        group_by_attributes:
          - event.group
      action:
        debug:
          msg: "window 0 0 {{{{ event.id if event is defined
            else events.values() | map(attribute='id') | join(' ') }}}}"
    - name: three actions
      condition: event.kind == "three"
      actions:
        - debug:
            msg: "three 0 {{{{ event.work }}}} {{{{ event.id }}}}"
        - debug:
            msg: "three 1 {{{{ event.work }}}} {{{{ event.id }}}}"
        - debug:
            msg: "three 2 {{{{ event.work }}}} {{{{ event.id }}}}"
    - name: playbook
      condition: event.kind == "play"
      action:
        run_playbook:
          name: "{{{{ CHAOS_PLAYBOOK }}}}"
          copy_files: false
          extra_vars:
            chaos_id: "{{{{ event.id }}}}"
            chaos_seconds: "{{{{ event.work }}}}"
            chaos_alive: "{{{{ CHAOS_ALIVE }}}}"
"""
WITNESS = """\
    - name: witness
      witness:
        socket: "{{ CHAOS_SOCKET }}"
"""


def source_names(state: bool) -> tuple[str, str]:
    """The sources, one for each ruleset; feedback takes state."""
    return PLAIN, FEEDBACK if state else SECOND


def rulebook(state: bool, every: float, window: int) -> str:
    """The text of the rulebook.

    :param state: whether the workers keep rule state.
    :param every: seconds between two events of a source.
    :param window: seconds of the time window.
    """
    more = {PLAIN: WITNESS, FEEDBACK: "        feedback: true\n", SECOND: ""}
    rulesets = (
        RULESET.format(name=name, every=every, window=window, more=more[name])
        for name in source_names(state)
    )
    return "---" + "".join(rulesets)
