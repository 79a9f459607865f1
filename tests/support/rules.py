"""Rulebooks of the end-to-end tests, put together from their rules."""

from __future__ import annotations

from collections.abc import Sequence

INBOX = """
    - inbox:
        folder: "{{ INBOX }}"
        settings:
          every: 0.05
"""

A_HOST = """
    - name: A host
      condition: fact.ansible_system is defined
      action:
        debug:
          msg: "fact {{ event.ansible_system }}"
"""
SAY = """
    - name: Say
      condition: event.do == "say"
      action:
        debug:
          msg: "says {{ event.word }}"
"""
HOLD = """
    - name: Hold
      condition: event.do == "hold"
      action:
        run_playbook:
          name: "{{ PLAYBOOK }}"
          copy_files: false
          extra_vars:
            word: "{{ event.word }}"
"""
PAIR = """
    - name: Pair
      condition:
        all:
          - events.first << event.do == "open"
          - events.second << event.do == "close" and
            event.word == events.first.word
      action:
        debug:
          msg: "open and close {{ events.second.word }}"
"""
LEARN = """
    - name: Learn
      condition: event.do == "learn"
      actions:
        - set_fact:
            fact:
              known: "{{ event.word }}"
        - debug:
            msg: "learned {{ event.word }}"
"""
FORGET = """
    - name: Forget
      condition: event.do == "forget"
      actions:
        - retract_fact:
            fact:
              known: "{{ event.word }}"
        - debug:
            msg: "forgot {{ event.word }}"
"""
ASK = """
    - name: Ask
      condition:
        all:
          - events.question << event.do == "ask"
          - events.answer << fact.known == events.question.word
      action:
        debug:
          msg: "knows {{ events.answer.known }}"
"""


def after(seconds: int) -> str:
    """A rule that tells of a word so long after it was first heard."""
    return f"""
    - name: After
      condition: event.do == "after"
      throttle:
        once_after: {seconds} seconds
        group_by_attributes:
          - event.word
      action:
        debug:
          msg: "once after {{{{ event.word }}}}"
"""


def rulebook(
    name: str,
    *rules: str,
    sources: Sequence[str] = (INBOX,),
    hosts: str = "localhost",
    gather_facts: bool = False,
    parallel: bool = False,
) -> str:
    """A rulebook of one ruleset.

    :param rules: as above, indented as in a rulebook.
    :param sources: likewise.
    :param parallel: whether no action waits for the one before it.
    """
    head = [
        f"- name: {name}",
        f"  hosts: {hosts}",
        *(["  gather_facts: true"] if gather_facts else []),
        *(["  execution_strategy: parallel"] if parallel else []),
    ]
    parts = ["\n".join(head), "  sources:", *sources, "  rules:", *rules]
    return "\n".join(part.strip("\n") for part in parts) + "\n"
