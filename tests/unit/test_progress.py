"""What is stored of the progress of actions, and what is spared."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_rulebook.ha.progress import Progress


class Table:
    """Records in a dictionary; each call is noted."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], dict[str, Any]] = {}
        self.calls: list[str] = []

    def read(self, ruleset: str, match: str, index: int) -> dict[str, Any]:
        self.calls.append("read")
        return dict(self.rows[match, index])

    def write(
        self,
        ruleset: str,
        match: str,
        index: int,
        info: dict[str, Any],
        new: bool,
    ) -> None:
        assert new == ((match, index) not in self.rows)
        self.calls.append("add" if new else "update")
        self.rows[match, index] = dict(info)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def progress(table: Table) -> Progress:
    return Progress(table)


def start(progress: Progress, match: str, index: int = 0) -> None:
    progress.update("R", match, index, {"status": "started"}, create=True)


def test_a_single_action_costs_nothing(
    progress: Progress, table: Table
) -> None:
    assert progress.look_up("R", "m", 0) is None
    start(progress, "m")
    progress.forget("m")
    assert table.calls == []


def test_the_outcome_of_an_action_that_others_follow_is_stored(
    progress: Progress, table: Table
) -> None:
    start(progress, "m")
    progress.update("R", "m", 0, {"status": "successful"})
    assert table.rows == {("m", 0): {"status": "successful"}}
    assert table.calls == ["add"]


def test_a_template_stores_its_start_and_then_its_job(
    progress: Progress, table: Table
) -> None:
    progress.store_start = True
    start(progress, "m")
    progress.update("R", "m", 0, {"job_url": "/jobs/1"})
    assert table.calls == ["add", "update"]
    assert table.rows["m", 0] == {"status": "started", "job_url": "/jobs/1"}


def test_a_job_after_a_start_that_was_not_stored(
    progress: Progress, table: Table
) -> None:
    start(progress, "m")
    progress.update("R", "m", 0, {"job_url": "/jobs/1"})
    assert table.calls == ["add"]
    assert table.rows["m", 0] == {"status": "started", "job_url": "/jobs/1"}


def test_only_what_an_earlier_leader_stored_is_looked_up(
    progress: Progress, table: Table
) -> None:
    table.rows["m", 0] = {"status": "successful"}
    progress.recovered({("m", 0)})
    assert progress.look_up("R", "m", 1) is None
    assert progress.look_up("R", "n", 0) is None
    assert table.calls == []
    assert progress.look_up("R", "m", 0) == {"status": "successful"}


def test_what_was_recovered_is_updated_not_added(
    progress: Progress, table: Table
) -> None:
    table.rows["m", 0] = {"status": "started", "job_url": "/jobs/1"}
    progress.recovered({("m", 0)})
    progress.look_up("R", "m", 0)
    progress.update("R", "m", 0, {"job_url": None})
    assert table.rows["m", 0] == {"status": "started", "job_url": None}
    assert table.calls == ["read", "update"]


def test_nothing_is_kept_of_a_match_that_is_done(
    progress: Progress, table: Table
) -> None:
    for number in range(100):
        start(progress, f"m{number}")
        progress.update("R", f"m{number}", 0, {"status": "successful"})
        progress.forget(f"m{number}")
    assert not progress._known
    assert not progress._stored


def test_a_new_term_forgets_the_last_one(
    progress: Progress, table: Table
) -> None:
    start(progress, "m")
    progress.update("R", "m", 0, {"status": "successful"})
    progress.recovered(set())
    assert progress.look_up("R", "m", 0) is None
