"""What the engine knows goes on with the next leader."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from e2e_support import (
    PATIENCE,
    RULEBOOKS,
    Stage,
    carriers,
    needs_state,
    wait_recorded,
)
from rig.clocks import Clocks, can_compile
from rig.server import Server
from rig.workers import WorkerProcess

pytestmark = needs_state

STATE = RULEBOOKS / "state.yml"
PLAYBOOK = {"PLAYBOOK": str(RULEBOOKS / "state_hold.yml")}
SHORT = 3.0  # seconds: windows of state.yml that end while nobody leads
GRACE = 1.0  # seconds
DAY_AND_MORE = 26 * 3600  # seconds; events expire before


def tell(stage: Stage, leader: WorkerProcess, *events: str) -> None:
    """Post events, "do word" each, and wait until the engine has had them."""
    for event in events:
        do, _, word = event.rpartition(" ")
        stage.post(do, word, "silence" if do.startswith("p") else "")
    count = len(stage.shown("^says"))
    stage.post("say", f"{count}", "silence")
    stage.say(leader, f"{count}")
    leader.wait_for(f"^hears {count}$", PATIENCE)


def terms(stage: Stage) -> list[int]:
    """The terms that the workers say they began, in the order of time."""
    return [
        int(re.search(r"term=(\d+)", line)[1])
        for line in stage.shown("acquired leadership")
    ]


def test_the_state_survives_killed_leaders(
    stage: Stage, server: Server
) -> None:
    first, second = stage.pair(STATE, env=PLAYBOOK)

    # Something of each kind is begun and not ended.
    stage.post("learn", "kept")
    stage.post("learn", "lost")
    first.wait_for("^learned lost$", PATIENCE)
    stage.post("forget", "lost")
    first.wait_for("^forgot lost$", PATIENCE)
    stage.post("steps", "on")
    stage.wait_journal(f"begin {first.worker_id} on in term 1")
    tell(
        stage,
        first,
        *("open door", "within a", "after b", "count c", "count c"),
        *("both one d", "ping e"),
    )
    assert stage.shown("^once within") == ["once within a"]

    wait_recorded(server, stage, "Steps")
    killed_at = first.kill()
    second.wait_leads(PATIENCE, after=killed_at)
    tell(
        stage,
        second,
        *("close door", "within a", "after b", "count c", "both two d"),
        *("ask kept", "ask lost"),
    )
    second.wait_for("^open and close door$", PATIENCE)
    second.wait_for("^counted c$", PATIENCE)
    second.wait_for("^both in time d$", PATIENCE)
    second.wait_for("^knows kept$", PATIENCE)

    # Its playbook is the new leader's, and only that.
    stage.wait_journal(f"begin {second.worker_id} on in term 2")
    assert not carriers(first)
    stage.let_go()
    second.wait_for("^step three of on$", PATIENCE)
    second.wait_for("^no pong to e in 5 s$", PATIENCE)
    # By then Drools has sent that once more, after as long again.
    second.wait_for("^once after b: 2$", PATIENCE)

    # Windows that end while nobody leads: those that fire then fire late.
    tell(
        stage,
        second,
        *("within short f", "after short g", "count short h", "count short h"),
        *("both one short i", "ping short j", "open gate"),
    )
    wait_recorded(server, stage)
    second.kill()
    assert not second.find("^once after g|^no pong to j"), "it took too long"
    time.sleep(SHORT)
    third = stage.start(STATE)
    third.wait_leads(PATIENCE)
    third.wait_for("^once after g: 1$", PATIENCE)
    third.wait_for("^no pong to j in 3 s$", PATIENCE)
    tell(
        stage,
        third,
        *("within short f", "within a", "count short h", "both two short i"),
        *("close gate", "ask kept"),
    )
    third.wait_for("^once within f$", PATIENCE)
    third.wait_for("^open and close gate$", PATIENCE)
    third.wait_for("^knows kept$", PATIENCE)

    # Not if they ended too long ago.
    tell(stage, third, "after short k", "ping short l", "open lid")
    wait_recorded(server, stage)
    third.kill()
    variables = stage.folder / "vars.yml"
    variables.write_text(f"drools_expired_window_grace_period: {GRACE:.0f}\n")
    time.sleep(SHORT + GRACE)
    fourth = stage.start(STATE, args=["--vars", str(variables)])
    fourth.wait_leads(PATIENCE)
    tell(stage, fourth, "close lid")
    fourth.wait_for("^open and close lid$", PATIENCE)

    # Each once, by whoever led at the time.
    assert terms(stage) == [1, 2, 3, 4]
    done = "^learned|^forgot|^step|^counted|^both|^no pong|^once|^knows|^open"
    assert sorted(stage.shown(done)) == [
        "both in time d",
        "counted c",
        "forgot lost",
        "knows kept",
        "knows kept",
        "learned kept",
        "learned lost",
        "no pong to e in 5 s",
        "no pong to j in 3 s",
        "once after b: 2",
        "once after g: 1",
        "once within a",
        "once within f",
        "once within f",
        "open and close door",
        "open and close gate",
        "open and close lid",
        "step one of on",
        "step three of on",
    ]
    assert stage.journal == [
        f"begin {first.worker_id} on in term 1",
        f"begin {second.worker_id} on in term 2",
        f"end {second.worker_id} on in term 2",
    ]


@pytest.mark.skipif(not can_compile(), reason="there is no C compiler")
def test_the_rules_do_not_care_for_wall_clocks(
    stage: Stage, server: Server, tmp_path: Path
) -> None:
    clocks = Clocks(tmp_path)
    first = stage.start(STATE, env=clocks.variables("first"))
    first.wait_leads(PATIENCE)
    second = stage.start(STATE, env=clocks.variables("second"))
    second.wait_for("Following", PATIENCE)

    tell(stage, first, "open door")
    clocks.set("first", DAY_AND_MORE)
    tell(stage, first, "close door", "open gate", "ping short a")
    first.wait_for("^open and close door$", PATIENCE)
    wait_recorded(server, stage)
    clocks.set("second", -DAY_AND_MORE)
    second.wait_leads(PATIENCE, after=first.kill())
    second.wait_for("^no pong to a in 3 s$", PATIENCE)
    tell(stage, second, "close gate")
    second.wait_for("^open and close gate$", PATIENCE)
