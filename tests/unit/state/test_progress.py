"""What is stored of the progress of actions, and what is spared."""

from __future__ import annotations

from typing import Any

from ansible_rulebook.ha.state.progress import Progress


class Stored(Progress):
    """With what was stored, the last one last."""

    def __init__(self) -> None:
        self.stored: list[dict[str, Any]] = []
        super().__init__(lambda match, place, info: self.stored.append(info))


def start(progress: Progress, match: str) -> None:
    progress.update(match, 0, {"status": "started"}, is_start=True)


def test_a_single_action_costs_nothing() -> None:
    progress = Stored()
    assert progress.look_up("m", 0) is None
    start(progress, "m")
    assert not progress.stored
    assert not progress.forget("m")


def test_the_outcome_of_an_action_that_others_follow_is_stored() -> None:
    progress = Stored()
    start(progress, "m")
    progress.update("m", 0, {"status": "successful"})
    assert progress.stored == [{"status": "successful"}]
    assert progress.forget("m")


def test_a_template_stores_its_start_and_then_its_job() -> None:
    progress = Stored()
    progress.store_start = True
    start(progress, "m")
    progress.update("m", 0, {"job_url": "/jobs/1"})
    assert progress.stored == [
        {"status": "started"},
        {"status": "started", "job_url": "/jobs/1"},
    ]


def test_a_job_after_a_start_that_was_not_stored() -> None:
    progress = Stored()
    start(progress, "m")
    progress.update("m", 0, {"job_url": "/jobs/1"})
    assert progress.stored == [{"status": "started", "job_url": "/jobs/1"}]


def test_only_what_an_earlier_leader_stored_is_looked_up() -> None:
    progress = Stored()
    progress.recovered({("m", 0): {"status": "successful"}})
    assert progress.look_up("m", 1) is None
    assert progress.look_up("n", 0) is None
    assert progress.look_up("m", 0) == {"status": "successful"}
    progress.update("n", 0, {"status": "failed"})
    assert progress.look_up("n", 0) is None  # it is this leader's own


def test_what_was_recovered_is_added_to() -> None:
    progress = Stored()
    recovered = {"status": "started", "job_url": "/jobs/1"}
    progress.recovered({("m", 0): recovered})
    progress.update("m", 0, {"job_url": None})
    assert progress.stored == [{"status": "started", "job_url": None}]
    assert progress.forget("m")


def test_a_match_that_was_recovered_has_records_to_be_deleted() -> None:
    progress = Stored()
    progress.recovered({("m", 0): {"status": "successful"}})
    assert progress.forget("m")
    assert not progress.forget("m")


def test_nothing_is_kept_of_a_match_that_is_done() -> None:
    progress = Stored()
    for number in range(100):
        start(progress, f"m{number}")
        progress.update(f"m{number}", 0, {"status": "successful"})
        progress.forget(f"m{number}")
    assert not progress._known
    assert not progress._stored
    assert not progress._recovered


def test_a_new_term_forgets_the_last_one() -> None:
    progress = Stored()
    progress.update("m", 0, {"status": "successful"})
    progress.recovered({})
    assert progress.look_up("m", 0) is None
