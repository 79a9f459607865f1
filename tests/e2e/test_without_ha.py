"""Without HA options the command is upstream's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from e2e_support import PATIENCE, SOURCES
from rig.workers import script, worker_env

# The command without us: nobody is there to look for our half.
UPSTREAM = """
import sys
sys.meta_path[:] = [
    finder for finder in sys.meta_path
    if getattr(finder, "__name__", "") != "AnsibleRulebookHA"
]
sys.argv[0] = {name!r}
from ansible_rulebook.cli import main
sys.exit(main())
"""

WITNESS = """
- name: Witness
  hosts: all
  sources:
    - witness:
        something: 1
  rules:
    - name: Tell
      condition: event.arguments is defined
      action:
        print_event:
          pretty: true
- name: Range
  hosts: all
  sources:
    - ticks:
        limit: 5
  rules:
    - name: Debug
      condition: event.i == 1
      action:
        debug:
          msg: "{{ event.i }}"
    - name: Fact
      condition: event.i == 2
      action:
        set_fact:
          fact:
            known: true
    - name: Known
      condition: fact.known == true
      action:
        debug:
    - name: End
      condition: event.i == 4
      action:
        shutdown:
          delay: 1
          message: enough
"""
# A source that is not there, which is an error of upstream's.
BROKEN = """
- name: Broken
  hosts: all
  sources:
    - not_there:
  rules:
    - name: Never
      condition: event.i == 1
      action:
        none:
"""


def run(
    command: Sequence[str], more: Sequence[str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *more],
        cwd=cwd,
        env=worker_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def settled(text: str) -> list[str]:
    """Its lines without what differs from run to run, in a fixed order.

    Two rulesets run at a time, and write as they come.
    """
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d", "DAY", text)
    text = re.sub(r"\d\d:\d\d:\d\d[.,]\d+Z?", "TIME", text)
    text = re.sub(r"0x[0-9a-f]+", "ADDRESS", text)
    text = re.sub(r"\*{5,}", "*****", text)
    return sorted(text.splitlines())


def test_without_ha_options_nothing_is_different(tmp_path: Path) -> None:
    for name, text in (("witness", WITNESS), ("broken", BROKEN)):
        (tmp_path / f"{name}.yml").write_text(text, "utf-8")
    upstream = UPSTREAM.format(name=script()[-1])
    with_us, without_us = script(), [sys.executable, "-c", upstream]
    sources = ["--source-dir", str(SOURCES)]
    for more in (
        ["--rulebook", "witness.yml", "--print-events", *sources],
        ["--rulebook", "broken.yml", *sources],
    ):
        with ThreadPoolExecutor(2) as pool:
            ours, theirs = pool.map(
                partial(run, more=more, cwd=tmp_path), (with_us, without_us)
            )
        assert ours.returncode == theirs.returncode
        assert settled(ours.stdout) == settled(theirs.stdout)
        assert settled(ours.stderr) == settled(theirs.stderr)
        if "witness.yml" in more:
            # It tells modules, too, but some upstreams load psycopg.
            assert "'arguments': ['something']" in ours.stdout
            assert "'threads': []" in ours.stdout
