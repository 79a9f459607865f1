"""Arrays in PostgreSQL's binary format.

That the server reads them is for tests/integration/state/test_journal.py.
"""

from __future__ import annotations

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_rulebook.ha.state.arrays import (
    BIGINT,
    TEXT,
    UUID,
    bigints,
    texts,
    uuids,
)


def elements(array: bytes, kind: int) -> list[bytes]:
    """What is in it, read as array_recv() does."""
    dimensions, has_nulls, element = struct.unpack_from(">iiI", array)
    assert (has_nulls, element) == (0, kind)
    if not dimensions:
        assert len(array) == 12
        return []
    count, first = struct.unpack_from(">ii", array, 12)
    assert (dimensions, first) == (1, 1)
    found, at = [], 20
    for _ in range(count):
        (length,) = struct.unpack_from(">i", array, at)
        found.append(array[at + 4 : at + 4 + length])
        assert len(found[-1]) == length
        at += 4 + length
    assert at == len(array)
    return found


@given(st.lists(st.text(st.characters(max_codepoint=127))))
def test_texts(values: list[str]) -> None:
    found = elements(texts(values), TEXT)
    assert [each.decode() for each in found] == values


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_bigints(values: list[int]) -> None:
    found = elements(bigints(values), BIGINT)
    assert all(len(each) == 8 for each in found)
    assert [int.from_bytes(n, "big", signed=True) for n in found] == values


@given(st.lists(st.uuids()))
def test_uuids(values: list[uuid.UUID]) -> None:
    found = elements(uuids([each.bytes for each in values]), UUID)
    assert [uuid.UUID(bytes=each) for each in found] == values


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        texts(["\xe9"])
    with pytest.raises(struct.error):
        bigints([2**63])
