"""What a request carries: only what rules and database can take."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_rulebook.ha.webhook.body import (
    MOST_DEPTH,
    BodyRefused,
    clean,
    decode,
    parse_json,
    refuse_surrogates,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


@given(VALUES)
def test_json_comes_through_as_it_was(value: object) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:  # in a key
        return
    assert parse_json(text) == value
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "{'a': 1}", '{"a": 1} x', "\ufeff{}", "nul", "{,}"),
        *("NaN", "[Infinity]", '{"a": -Infinity}', "1e400", "[-1e999]"),
        *("1" * 301, "1" * 5000, "0." + "1" * 400),
        *(r'"\ud800"', r'{"\udfff": 1}', r'"\ud83d \ude00"'),
        nested(MOST_DEPTH + 1),
        nested(MOST_DEPTH + 1, '{"a":[', "]}"),
        *(nested(100_000), "[" * 100_000, '{"a":' * 100_000),
    ],
    ids=lambda text: text[:20],
)
def test_what_nobody_could_process_is_refused(text: str) -> None:
    with pytest.raises(BodyRefused) as refused:
        parse_json(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        nested(MOST_DEPTH),
        json.dumps([["["] * 300] * 3),  # brackets, but not deep ones
        json.dumps([[] for _ in range(300)]),
        r'"\ud83d\ude00"',
        *("1" * 300, "-0.0", "1e308", "5", '"text"', "null", ' {"a": 1}\n'),
    ],
    ids=lambda text: text[:20],
)
def test_what_can_be_processed_is_not_refused(text: str) -> None:
    assert parse_json(text) == json.loads(text)


def test_a_body_is_utf_8_unless_its_sender_says_otherwise() -> None:
    assert decode("ä€".encode(), None) == "ä€"
    assert decode("ä€".encode(), "UTF-8") == "ä€"
    assert decode(b"\xe4", "ISO-8859-1") == "ä"
    for body, charset in ((b"\xff", None), (b"\xed\xa0\x80", "utf-8")):
        with pytest.raises(BodyRefused):
            decode(body, charset)
    # Codecs of Python's that are slow, or no charsets, are not for senders.
    for charset in ("punycode", "idna", "zip", "utf-16", "x" * 9000, "\0"):
        with pytest.raises(BodyRefused):
            decode(b"x", charset)


@given(st.binary())
def test_what_was_decoded_can_be_stored(body: bytes) -> None:
    try:
        text = decode(body, None)
    except BodyRefused:
        return
    refuse_surrogates(text)
    assert clean(text).replace("?", "\0") == text.replace("?", "\0")


@given(st.text())
def test_a_header_can_be_stored_after_it_was_cleaned(text: str) -> None:
    assert "\0" not in clean(text)
    clean(text).encode()
