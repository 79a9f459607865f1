"""What is stored of the progress of actions, and what is spared."""

from __future__ import annotations

from ansible_rulebook.ha.state.progress import Progress


def start(progress: Progress, match: str, place: int = 0) -> object:
    return progress.update(match, place, {"status": "started"}, is_start=True)


def test_a_single_action_costs_nothing() -> None:
    progress = Progress()
    assert progress.look_up("m", 0) is None
    assert start(progress, "m") is None
    assert not progress.forget("m")


def test_the_outcome_of_an_action_that_others_follow_is_stored() -> None:
    progress = Progress()
    start(progress, "m")
    stored = progress.update("m", 0, {"status": "successful"})
    assert stored == {"status": "successful"}
    assert progress.forget("m")


def test_a_template_stores_its_start_and_then_its_job() -> None:
    progress = Progress()
    progress.store_start = True
    assert start(progress, "m") == {"status": "started"}
    stored = progress.update("m", 0, {"job_url": "/jobs/1"})
    assert stored == {"status": "started", "job_url": "/jobs/1"}


def test_a_job_after_a_start_that_was_not_stored() -> None:
    progress = Progress()
    start(progress, "m")
    stored = progress.update("m", 0, {"job_url": "/jobs/1"})
    assert stored == {"status": "started", "job_url": "/jobs/1"}


def test_only_what_an_earlier_leader_stored_is_looked_up() -> None:
    progress = Progress()
    progress.recovered({("m", 0): {"status": "successful"}})
    assert progress.look_up("m", 1) is None
    assert progress.look_up("n", 0) is None
    assert progress.look_up("m", 0) == {"status": "successful"}
    progress.update("n", 0, {"status": "failed"})
    assert progress.look_up("n", 0) is None  # it is this leader's own


def test_what_was_recovered_is_added_to() -> None:
    progress = Progress()
    recovered = {"status": "started", "job_url": "/jobs/1"}
    progress.recovered({("m", 0): recovered})
    stored = progress.update("m", 0, {"job_url": None})
    assert stored == {"status": "started", "job_url": None}
    assert progress.forget("m")


def test_a_match_that_was_recovered_has_records_to_be_deleted() -> None:
    progress = Progress()
    progress.recovered({("m", 0): {"status": "successful"}})
    assert progress.forget("m")
    assert not progress.forget("m")


def test_nothing_is_kept_of_a_match_that_is_done() -> None:
    progress = Progress()
    for number in range(100):
        start(progress, f"m{number}")
        progress.update(f"m{number}", 0, {"status": "successful"})
        progress.forget(f"m{number}")
    assert not progress._known
    assert not progress._stored
    assert not progress._recovered


def test_a_new_term_forgets_the_last_one() -> None:
    progress = Progress()
    progress.update("m", 0, {"status": "successful"})
    progress.recovered({})
    assert progress.look_up("m", 0) is None
