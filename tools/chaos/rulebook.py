"""What the workers run: rulesets for each kind of source, with all rules.

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
POSTED = "posted"  # one whose events are posted to the workers
POISON = "poison"  # a kind of event that cannot be stored
SECOND = "second"  # in place of those two where there is no state

# Environment variables that tell a worker what it needs to know.
SOCKET = "CHAOS_SOCKET"
LIFE = "CHAOS_LIFE"
RECORD = "CHAOS_RECORD"
PLAYS = "CHAOS_PLAYS"
PLAYBOOK_PATH = "CHAOS_PLAYBOOK"
ALIVE_PATH = "CHAOS_ALIVE"
PORT = "CHAOS_PORT"
VARIABLES = (SOCKET, PLAYBOOK_PATH, ALIVE_PATH, PORT)

RULESET = """
- name: {name}
  hosts: all
  sources:
{sources}  rules:
    - name: one event
      condition: event{body}.kind == "one"
      action:
        debug:
          msg: "one 0 {{{{ event{body}.work }}}} {{{{ event{body}.id }}}}"
    - name: two events
      condition:
        all:
          - events.first << event{body}.kind == "first"
          - events.second << event{body}.kind == "second"
              and event{body}.pair == events.first{body}.pair
      action:
        debug:
          msg: "two 0 {{{{ events.second{body}.work }}}}
            {{{{ events.first{body}.id }}}} {{{{ events.second{body}.id }}}}"
    - name: time window
      condition: event{body}.kind == "window"
      throttle:
        once_after: {window} seconds
        group_by_attributes:
          - event{body}.group
      action:
        debug:
          msg: "window 0 0 {{{{ event{body}.id if event is defined
            else events.values() | map(attribute='{key}id') | join(' ') }}}}"
    - name: three actions
      condition: event{body}.kind == "three"
      actions:
        - debug:
            msg: "three 0 {{{{ event{body}.work }}}} {{{{ event{body}.id }}}}"
        - debug:
            msg: "three 1 {{{{ event{body}.work }}}} {{{{ event{body}.id }}}}"
        - debug:
            msg: "three 2 {{{{ event{body}.work }}}} {{{{ event{body}.id }}}}"
    - name: an event that cannot be stored
      condition: event{body}.kind == "poison"
      action:
        debug:
          msg: "poison 0 {{{{ event{body}.work }}}} {{{{ event{body}.id }}}}"
    - name: playbook
      condition: event{body}.kind == "play"
      action:
        run_playbook:
          name: "{{{{ CHAOS_PLAYBOOK }}}}"
          copy_files: false
          extra_vars:
            chaos_id: "{{{{ event{body}.id }}}}"
            chaos_seconds: "{{{{ event{body}.work }}}}"
            chaos_alive: "{{{{ CHAOS_ALIVE }}}}"
"""
FEED = """\
    - name: {name}
      feed:
        name: {name}
        socket: "{{{{ CHAOS_SOCKET }}}}"
        every: {every}
        {more}
"""
WITNESS = """\
    - name: witness
      witness:
        socket: "{{ CHAOS_SOCKET }}"
"""
WEBHOOK = """\
    - name: posted
      ha_webhook:
        host: 127.0.0.1
        port: "{{ CHAOS_PORT }}"
        inbox: posted
"""


def source_names(state: bool) -> tuple[str, ...]:
    """The sources, one for each ruleset; feedback and inbox take state."""
    return (PLAIN, FEEDBACK, POSTED) if state else (PLAIN, SECOND)


def rulebook(state: bool, every: float, window: int) -> str:
    """The text of the rulebook.

    :param state: whether the workers keep rule state.
    :param every: seconds between two events of a source.
    :param window: seconds of the time window.
    """
    sources = {
        PLAIN: _feed(PLAIN, every) + WITNESS,
        FEEDBACK: _feed(FEEDBACK, every, "feedback: true"),
        SECOND: _feed(SECOND, every),
        POSTED: WEBHOOK,
    }
    rulesets = (
        RULESET.format(
            name=name,
            sources=sources[name],
            window=window,
            # What was posted is below the event's payload.
            body=".payload" if name == POSTED else "",
            key="payload." if name == POSTED else "",
        )
        for name in source_names(state)
    )
    return "---" + "".join(rulesets)


def _feed(name: str, every: float, more: str = "") -> str:
    return FEED.format(name=name, every=every, more=more)
