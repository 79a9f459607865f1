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


def test_events_are_stored_in_order_while_the_loop_goes_on(
    seen: dict[str, Any],
) -> None:
    scene = seen["in_order"]
    assert scene["numbers"] == list(range(50))
    assert scene["stored"] == 50
    assert scene["overlapped"]


def test_the_last_event_needs_no_other_to_be_delivered(
    seen: dict[str, Any],
) -> None:
    assert seen["arrives_by_itself"] == [7]


def test_a_source_that_is_told_waits_for_each(seen: dict[str, Any]) -> None:
    assert seen["without_overlap"] == {
        "numbers": [8],
        "raised": True,
        "left": [1],
    }


def test_an_event_is_not_given_to_the_engine_after_one_that_failed(
    seen: dict[str, Any],
) -> None:
    scene = seen["fails_before_the_next"]
    assert scene == {"raised": True, "left": [2], "stored": 0}


def test_a_failure_is_told_without_another_event(
    seen: dict[str, Any],
) -> None:
    assert seen["fails_alone"] == [1]


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
