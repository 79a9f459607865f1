"""The engine's messages, taken apart one match at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_rulebook.ha.engine import messages
from ansible_rulebook.ha.engine.messages import results_of

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def encode(session: int, results: list[Any]) -> bytes:
    """As Jackson writes it: no spaces."""
    message = {"session_id": session, "result": results}
    return json.dumps(message, separators=(",", ":")).encode()


@given(st.integers(0, 2**40), st.lists(values, max_size=6))
def test_large_and_small_messages_mean_the_same(
    session: int, results: list[Any]
) -> None:
    message = encode(session, results)
    small = list(results_of(message))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "SMALL", 0)
        large = list(results_of(message))
    assert small == large == [(session, each) for each in results]


def test_thousands_of_matches() -> None:
    results = [{"n": number, "x": "y" * 50} for number in range(5000)]
    found = list(results_of(encode(7, results)))
    assert found == [(7, each) for each in results]


def test_the_first_match_does_not_wait_for_the_last() -> None:
    text = encode(7, [{"n": number} for number in range(20_000)])
    broken = text[:-2] + b"!}"
    first = next(iter(results_of(broken)))
    assert first == (7, {"n": 0})


def test_another_order_of_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "SMALL", 0)
    message = b'{"result":[{"a":1},{"b":2}],"session_id":9}'
    assert list(results_of(message)) == [(9, {"a": 1}), (9, {"b": 2})]


def test_the_word_inside_of_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "SMALL", 0)
    results = [{"text": '"result":[', "more": {"result": [1]}}]
    assert list(results_of(encode(1, results))) == [(1, results[0])]


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(ValueError):
        list(results_of(b"nonsense"))
