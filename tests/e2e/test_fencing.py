"""Nothing that a leader began goes on beside the next leader.

Without state, so that what was cut short is not run again by the next one.
"""

from __future__ import annotations

from e2e_support import (
    FOLLOWING,
    PATIENCE,
    STATELESS,
    Stage,
    carriers,
    terminate,
    until,
)
from rig.server import Server


def test_no_playbook_goes_on_without_its_leader(
    stage: Stage, server: Server
) -> None:
    # Killed: nobody is left to end its playbook but its guardian.
    first, second = stage.pair(args=STATELESS)
    stage.hold(first, "killed")
    assert carriers(first)
    killed_at = first.kill()
    until(lambda: not carriers(first), "the end of the killed one's playbook")
    second.wait_leads(PATIENCE, after=killed_at)
    third = stage.start(args=STATELESS)
    third.wait_for(FOLLOWING, PATIENCE)

    # Paused: its kernel keeps the session, and its playbook works on.
    stage.hold(second, "paused")
    assert carriers(second)
    paused_at = second.pause()
    third.wait_leads(PATIENCE, after=paused_at)
    until(lambda: not carriers(second), "the end of the paused one's playbook")
    assert not second.find("Lost leadership")
    resumed_at = second.resume()
    second.wait_lost(PATIENCE, after=resumed_at)
    second.wait_for(FOLLOWING, PATIENCE, after=resumed_at)
    stage.say(third, "instead")
    assert not second.find("^says instead$")

    # Demoted while it is well: it follows, without its playbook.
    stage.hold(third, "demoted")
    assert carriers(third)
    cut_at = terminate(server, third)
    until(lambda: not carriers(third), "the end of the demoted's playbook")
    second.wait_leads(PATIENCE, after=cut_at)
    third.wait_for(FOLLOWING, PATIENCE, after=cut_at)

    # The one that was paused is as good as new.
    stage.say(second, "again")
    stage.hold(second, "again")
    stage.let_go()
    stage.wait_journal(f"end {second.worker_id} again")
    assert stage.journal == [
        f"begin {first.worker_id} killed",
        f"begin {second.worker_id} paused",
        f"begin {third.worker_id} demoted",
        f"begin {second.worker_id} again",
        f"end {second.worker_id} again",
    ]
    assert third.alive


def test_what_an_earlier_term_began_does_not_go_on_in_the_next(
    stage: Stage, server: Server
) -> None:
    first, second = stage.pair(args=STATELESS)
    stage.post("once", "early")
    stage.post("two steps", "early")
    stage.wait_journal(f"begin {first.worker_id} early")

    cut_at = terminate(server, first)
    second.wait_leads(PATIENCE, after=cut_at)
    first.wait_for(FOLLOWING, PATIENCE, after=cut_at)
    cut_at = terminate(server, second)
    first.wait_leads(PATIENCE, after=cut_at)
    # Its time is up later, so by then that of the earlier one is past.
    stage.post("once", "late")
    first.wait_for("^after all late$", PATIENCE)

    stage.let_go()
    stage.post("two steps", "whole")
    first.wait_for("^second step of whole$", PATIENCE)
    for worker in (first, second):
        assert not worker.find("^after all early")
        assert not worker.find("^second step of early")
    assert stage.journal == [
        f"begin {first.worker_id} early",
        f"begin {first.worker_id} whole",
        f"end {first.worker_id} whole",
    ]
