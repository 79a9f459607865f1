"""Which events count as processed."""

from __future__ import annotations

import pytest

from ansible_rulebook.ha.state import seen as module
from ansible_rulebook.ha.state.seen import Seen


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def add(seen: Seen, *numbers: int) -> None:
    for number in numbers:
        seen.add(key(number))


def known(seen: Seen, count: int, may_come_again: bool) -> list[int]:
    return [n for n in range(count) if seen.has(key(n), may_come_again)]


def test_nothing_has_been_seen_before_the_first_event() -> None:
    assert not known(Seen(), 3, True)
    assert not known(Seen(), 3, False)


def test_the_last_events_of_a_source_are_known_again() -> None:
    seen = Seen(window=3)
    add(seen, *range(10))
    assert known(seen, 12, may_come_again=False) == [7, 8, 9]


def test_a_source_that_sends_again_is_known_for_longer() -> None:
    seen = Seen(window=3)
    add(seen, *range(10))
    assert known(seen, 12, may_come_again=True) == list(range(10))


def test_asking_changes_nothing() -> None:
    seen = Seen(window=2)
    add(seen, 0, 1, 2)
    for _ in range(5):
        assert known(seen, 4, may_come_again=False) == [1, 2]


def test_an_event_that_is_processed_again_counts_anew() -> None:
    seen = Seen(window=2)
    add(seen, 0, 1, 2, 0)
    assert known(seen, 4, may_come_again=False) == [0, 2]


def test_not_more_is_remembered_than_need_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    seen = Seen(window=3)
    add(seen, *range(8), 3)
    assert known(seen, 8, may_come_again=True) == [3, 4, 5, 6, 7]
    # A longer window is kept all the same.
    seen = Seen(window=7)
    add(seen, *range(9))
    assert known(seen, 9, may_come_again=False) == list(range(2, 9))


def test_a_window_of_nothing_knows_nothing_again() -> None:
    seen = Seen(window=0)
    add(seen, 0)
    assert not seen.has(key(0), may_come_again=False)
    assert seen.has(key(0), may_come_again=True)


def test_a_term_begins_with_what_the_journal_has() -> None:
    seen = Seen(window=2)
    add(seen, 0, 1)
    seen.restart([key(5), key(6), key(7)])
    assert known(seen, 9, may_come_again=True) == [5, 6, 7]
    assert known(seen, 9, may_come_again=False) == [6, 7]
    add(seen, 8)
    assert known(seen, 9, may_come_again=False) == [7, 8]
    seen.restart([])
    assert not known(seen, 9, may_come_again=True)
