"""The guarded engine with a real Drools and a real PostgreSQL.

See guarded_scenes.py for what each scene does; it runs once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.server import Server
from rig.workers import worker_env

pytest.importorskip("ansible_rulebook.persistence", reason="upstream < 1.3")

SCENES = Path(__file__).with_name("guarded_scenes.py")
TIMEOUT = 240.0  # seconds


@pytest.fixture(scope="module")
def seen(server: Server) -> Iterator[dict[str, Any]]:
    dsn = server.create_database()
    done = subprocess.run(
        [sys.executable, str(SCENES), dsn],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=worker_env(),
    )
    server.drop_database(dsn)
    assert done.returncode == 0, done.stderr[-4000:]
    yield json.loads(done.stdout)


def test_events_are_stored_in_order(seen: dict[str, Any]) -> None:
    assert seen["in_order"] == {"numbers": list(range(50)), "stored": 50}


def test_a_failed_write_is_told_with_its_event(seen: dict[str, Any]) -> None:
    scene = seen["a_failed_write"]
    assert scene["told"] == [True]
    assert scene["stored"] == 0
    # The cause, and not the stack of Java that comes with it.
    assert "belongs to term" in scene["raised"]
    assert "\n" not in scene["raised"]


def test_a_failed_write_of_an_action_has_no_event(
    seen: dict[str, Any],
) -> None:
    assert seen["a_failed_fact"] == {"raised": True, "told": [False]}


def test_a_timer_is_stored_before_it_is_told(seen: dict[str, Any]) -> None:
    assert seen["a_timer"] == {
        "stands_still": [],
        "stored": 1,
        "told": ["rule"],
    }


def test_a_timer_whose_match_is_not_stored_is_told_as_failed(
    seen: dict[str, Any],
) -> None:
    scene = seen["a_timer_that_fails"]
    assert scene == {"told": [False], "timed": []}


def test_timers_run_out_before_an_event_that_comes_after_them(
    seen: dict[str, Any],
) -> None:
    assert seen["a_timer_before_a_late_event"] == ["rule"]


def test_an_event_after_a_timer_that_fails_is_surely_not_stored(
    seen: dict[str, Any],
) -> None:
    assert seen["a_timer_that_fails_before_an_event"] == {
        "raised": True,
        "told": [True],
        "doubtful": [False],
        "matched": [],
    }


def test_a_session_that_does_not_end_well_is_replaced_all_the_same(
    seen: dict[str, Any],
) -> None:
    assert seen["a_session_whose_end_fails"] == [1]


def test_a_window_that_is_over_for_longer_than_its_grace_does_not_fire(
    seen: dict[str, Any],
) -> None:
    assert seen["a_window_that_is_over_for_too_long"] == []


def test_a_practice_changes_nothing(seen: dict[str, Any]) -> None:
    assert seen["a_practice"] == {
        "steps": True,
        "none": [],
        "numbers": [6, 7],
        "stored": 2,
    }


def test_an_actions_event_is_stored_when_the_call_returns(
    seen: dict[str, Any],
) -> None:
    assert seen["an_actions_event"] == [3]


def test_what_postgresql_cannot_store_is_refused(
    seen: dict[str, Any],
) -> None:
    assert seen["nul"] == {"refused": True, "then": [2]}


def test_a_wrong_checksum_is_told_apart_and_can_be_mended(
    seen: dict[str, Any],
) -> None:
    assert seen["a_mended_checksum"] == "StateTampered"


def test_rules_whose_state_cannot_be_kept_go_on_without(
    seen: dict[str, Any],
) -> None:
    assert seen["unbuildable_rules"] == {
        "refused": True,
        "with_state": False,
        "others_go_on": [5],
    }
