"""A failover cannot be told from what the rules do.

The engine runs in a process of its own since a JVM takes over signals, see
tools/oracle. EDA_ORACLE_EXAMPLES says how many random rulebooks are tried
(300), and EDA_ORACLE_SEED which ones (1). ``make oracle`` tries more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_support import needs_state

pytestmark = needs_state

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SCENES = (
    "what_matches_nothing_leaves_nothing",
    "values_come_back_as_they_were",
    "what_drools_can_read_is_not_too_deep",
    "several_events_in_one_message",
    "events_with_the_same_uuid_are_two",
    "an_attribute_to_group_by_that_is_not_there",
    "throttles_group_by_any_path",
    "a_number_that_is_reached_begins_anew",
    "what_matches_an_empty_memory_matches_once",
    "what_a_removal_makes_match_is_not_put_off",
    "a_not_all_binds_the_same_event_each_time",
    "the_oldest_event_begins_the_next_window",
    "what_is_found_before_a_refusal_is_told",
    "what_drools_refuses_can_be_recovered",
    "events_of_once_after_keep_their_order",
    "what_one_event_completes_comes_in_its_order",
    "windows_end_at_their_time",
    "facts_stay_and_can_be_retracted",
    "a_clock_that_was_set_back",
    "other_rules_expire_earlier",
    "what_is_stored_can_be_encrypted",
)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def scenes() -> dict[str, str | None]:
    done = run("oracle.scenes")
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(done.stdout)
    assert set(found) == set(SCENES)
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_recovery(scenes: dict[str, str | None], scene: str) -> None:
    assert scenes[scene] is None, scenes[scene]


def test_a_failover_makes_no_difference() -> None:
    examples = os.environ.get("EDA_ORACLE_EXAMPLES", "300")
    seed = os.environ.get("EDA_ORACLE_SEED", "1")
    done = run("oracle", "--examples", examples, "--seed", seed)
    print(done.stdout, done.stderr)  # shown if it fails, with the seed
    assert done.returncode == 0
