"""A worker that leads again knows what the database says, and only that."""

from __future__ import annotations

from e2e_support import (
    FOLLOWING,
    PATIENCE,
    READY,
    Stage,
    needs_state,
    terminate,
    wait_recorded,
)
from rig.server import Server
from rig.workers import WorkerProcess
from rules import A_HOST, ASK, FORGET, LEARN, PAIR, SAY, after, rulebook

pytestmark = needs_state

TERMS = rulebook(
    "Terms",
    A_HOST,
    SAY,
    PAIR,
    LEARN,
    FORGET,
    ASK,
    after(5),
    hosts="all",
    gather_facts=True,
    parallel=True,
)
EDIT = """
    - name: New
      condition: event.do == "new"
      action:
        debug:
          msg: "new rule on {{ event.word }}"
"""


def tell(stage: Stage, leader: WorkerProcess, *events: str) -> None:
    """Post events, "do word" each, and wait until the engine has had them."""
    for event in events:
        stage.post(*event.split())
    stage.say(leader, f"{len(stage.shown('^says'))}")


def edit(worker: WorkerProcess) -> None:
    """Add a rule to the worker's own copy, and wait until it is in force."""
    loads = len(worker.find(READY))
    with worker.rulebook.open("a", encoding="utf-8") as rulebook:
        rulebook.write(EDIT)
    worker.wait_for(READY, PATIENCE, count=loads + 1)


def test_nothing_is_left_of_an_earlier_term(
    stage: Stage, server: Server
) -> None:
    variables = stage.folder / "vars.yml"
    variables.write_text("drools_overwrite_if_rulebook_changes: false\n")
    options = ["--hot-reload", "--vars", str(variables)]
    first, second = stage.pair(TERMS, args=options)
    stage.post("learn", "old")
    first.wait_for("^learned old$", PATIENCE)
    tell(stage, first, "open door", "open gate", "after all")

    # The other one ends the half of it, while the first one follows.
    wait_recorded(server, stage)
    cut_at = terminate(server, first)
    second.wait_leads(PATIENCE, after=cut_at)
    first.wait_for(FOLLOWING, PATIENCE, after=cut_at)
    stage.post("forget", "old")
    second.wait_for("^forgot old$", PATIENCE)
    tell(stage, second, "close door")
    second.wait_for("^open and close door$", PATIENCE)
    second.wait_for("^once after all$", PATIENCE)

    wait_recorded(server, stage)
    cut_at = terminate(server, second)
    first.wait_leads(PATIENCE, after=cut_at)
    tell(stage, first, "close door", "close gate", "ask old", "after more")
    first.wait_for("^open and close gate$", PATIENCE)

    # A reload is a new engine with the same state, other rules or not.
    tell(stage, first, "open lid")
    wait_recorded(server, stage)
    edit(first)
    tell(stage, first, "new one", "close lid", "open box")
    first.wait_for("^new rule on one$", PATIENCE)
    first.wait_for("^open and close lid$", PATIENCE)
    first.wait_for("^once after more$", PATIENCE)
    edit(second)
    wait_recorded(server, stage)
    killed_at = first.kill()
    second.wait_leads(PATIENCE, after=killed_at)
    tell(stage, second, "close box", "new two", "open lock")
    second.wait_for("^open and close box$", PATIENCE)
    second.wait_for("^new rule on two$", PATIENCE)
    assert stage.shown("^fact") == ["fact Linux"]

    # By default other rules begin without state, and with the facts.
    third = stage.start(TERMS + EDIT)
    third.wait_for(FOLLOWING, PATIENCE)
    wait_recorded(server, stage)
    killed_at = second.kill()
    third.wait_leads(PATIENCE, after=killed_at)
    tell(stage, third, "close lock", "open bag", "close bag")
    third.wait_for("^open and close bag$", PATIENCE)

    assert sorted(stage.shown("^fact|^open|^once|^knows|^new")) == [
        "fact Linux",
        "fact Linux",
        "new rule on one",
        "new rule on two",
        "once after all",
        "once after more",
        "open and close bag",
        "open and close box",
        "open and close door",
        "open and close gate",
        "open and close lid",
    ]
