"""Names in ASCII, whatever they are."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ansible_rulebook.ha.state.names import (
    LONGEST,
    key_of,
    key_of_ruleset,
    original,
    stored,
)

# Surrogates, too: YAML and JSON can make single ones.
ANY = st.text(st.characters(exclude_categories=[]))


@given(ANY)
@example("\ud83d\ude00")
@example("\ud800")
@example("\\u0041")
@example("\\")
@example("\0\r\n\x7f\x80\xff")
def test_each_name_comes_back(name: str) -> None:
    text = stored(name)
    assert text.isascii()
    assert "\0" not in text
    assert original(text) == name


@given(ANY, ANY)
@example("\xe9", "\\xe9")
@example("\ud83d\ude00", "\N{GRINNING FACE}")
def test_other_names_are_other_texts(one: str, other: str) -> None:
    assert (stored(one) == stored(other)) == (one == other)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_names_can_be_read_in_the_tables(name: str) -> None:
    name = name.replace("\\", "")
    assert stored(name) == name


@given(ANY)
def test_a_ruleset_of_a_usual_name_is_known_by_it(name: str) -> None:
    assert key_of_ruleset(name) == stored(name)


@given(ANY, ANY)
def test_long_names_have_short_keys_of_their_own(one: str, other: str) -> None:
    keys = [key_of_ruleset("é" * LONGEST + each) for each in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    assert all(key.isascii() and len(key) <= LONGEST for key in keys)


@given(ANY, ANY)
def test_an_event_is_known_again_by_ruleset_and_id(
    ruleset: str, event: str
) -> None:
    key = key_of(ruleset, {"meta": {"uuid": event}, "a": 1})
    assert key is not None
    assert len(key) == 16
    assert key == key_of(ruleset, {"meta": {"uuid": event}})
    assert key != key_of(ruleset + "x", {"meta": {"uuid": event}})
    assert key != key_of(ruleset, {"meta": {"uuid": event + "x"}})


def test_an_event_without_an_id_has_no_key() -> None:
    nothing: tuple[Any, ...] = (
        {},
        {"meta": {}},
        {"meta": None},
        "text",
        None,
        3,
    )
    for event in nothing:
        assert key_of("r", event) is None


def test_a_ruleset_is_known_by_its_name_if_that_fits_into_an_index() -> None:
    assert key_of_ruleset("Rules of mine") == "Rules of mine"
    long = [LONGEST * "\u4e2d" + end for end in ("", "a", "b")]
    keys = {key_of_ruleset(name) for name in long}
    assert len(keys) == 3
    assert all(len(key) < LONGEST and key.isascii() for key in keys)
