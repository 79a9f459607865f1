"""Why terms end: the closed list, and a sentence for each."""

from __future__ import annotations

import pytest

from ansible_rulebook.ha.election.reasons import Reason

NAMES = [
    "stopped",
    "stepped_down",
    "switchover",
    "priority",
    "paused",
    "session_lost",
    "lease_expired",
    "promotion_failed",
    "state_failed",
    "engine_failed",
    "killed",
    "server_restarted",
    "first",
    "unknown",
]


def test_the_list_is_closed() -> None:
    assert [each.value for each in Reason] == NAMES


@pytest.mark.parametrize("reason", Reason)
def test_each_has_words_and_advice(reason: Reason) -> None:
    assert Reason.of(reason.value) is reason
    assert not reason.words.endswith(".")
    assert reason.advice.endswith(".")


@pytest.mark.parametrize("text", [None, "", "KILLED", "<b>", "\x1b[0m"])
def test_every_other_text_is_unknown(text: str | None) -> None:
    assert Reason.of(text) is Reason.UNKNOWN
