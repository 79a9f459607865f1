"""What a worker says of itself in its statements."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_rulebook.ha.election.beacon import MOST, Beacon

FULL = Beacon(
    version="0.1.0",
    worker="worker-1",
    role="leader",
    state="leading",
    term=7,
    since=1790000000.25,
    host="db1.example.com",
    pid=4711,
    http="10.0.0.1:8080",
    priority=100,
    lease=15.0,
)
HOSTILE = [
    "*/ DROP TABLE eda_ha_cluster; /*",
    "/* */ -- '; $$ %s %(x)s %",
    "\x1b[31mred\x1b]0;title\x07",
    "<script>alert(1)</script>",
    "two\nlines\r\x00\x7f\u202e",
    "\ud800",
    "\U0001f600" * 500,
    "é" * 500,
    '"' * 500,
    "*" * 500,
]


def test_what_is_said_is_read() -> None:
    text = FULL.text()
    assert Beacon.parse(f"{text} SELECT 1") == FULL
    assert text.startswith("/* eda-ha {")
    assert text.endswith("} */")
    assert json.loads(text[len("/* eda-ha ") : -len(" */")])["v"] == 1
    assert Beacon.parse(Beacon().text()) == Beacon()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_in_the_comment(text: str) -> None:
    names = ("version", "worker", "role", "state", "host", "http", "reason")
    values: dict[str, Any] = dict.fromkeys(names, text)
    said = FULL._replace(**values).text()
    assert said.isascii()
    assert said.isprintable()
    assert len(said) < MOST
    assert said.find("*/") == len(said) - 2
    assert said.rfind("/*") == 0
    assert "%" not in said
    found = Beacon.parse(f"{said} DO $$ BEGIN END $$")
    assert found is not None
    for name in names:
        value = getattr(found, name)
        assert text.startswith(value)
        assert value or len(text) > 100


def test_a_reason_gets_what_is_left_of_the_comment() -> None:
    told = FULL._replace(http="", reason="x" * 2000, until=1790000600.5)
    said = told.text()
    assert len(said) == MOST - 1
    found = Beacon.parse(said)
    assert found is not None
    assert len(found.reason) > 600
    assert found._replace(reason="") == told._replace(reason="")
    assert '"reason"' not in FULL.text()
    assert '"until"' not in FULL.text()


@given(
    st.builds(
        Beacon,
        *[st.text()] * 4,
        st.integers(0, 2**53),
        st.floats(0, 2**40),
        st.text(),
        st.integers(0, 2**31),
        st.text(),
        st.integers(-(2**31), 2**31),
        st.floats(0, 3600),
        st.text(),
        st.floats(0, 2**40),
    )
)
def test_no_value_breaks_the_comment(beacon: Beacon) -> None:
    said = beacon.text()
    assert len(said) < MOST
    assert said.isascii()
    assert said.find("*/") == len(said) - 2
    found = Beacon.parse(said)
    assert found is not None
    assert found.term == beacon.term
    assert beacon.worker.startswith(found.worker)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "SELECT 1",
        "/* eda-ha */",
        "/* eda-ha {} */",
        '/* eda-ha {"v":2} */',
        '/* eda-ha {"v":1',
        "/* eda-ha [1] */",
        "/* eda-ha " + "[" * 900 + " */",
        '/* eda-ha {"v":1,"worker":"' + "x" * 2000 + '"} */',
        '/* eda-ha {"v":1,"pid":' + "9" * 5000 + "} */",
        "<insufficient privilege>",
    ],
)
def test_other_statements_have_no_beacon(query: str) -> None:
    assert Beacon.parse(query) is None


def test_values_of_wrong_types_count_as_not_given() -> None:
    said = {
        "v": 1,
        "version": None,
        "worker": ["a"],
        "role": {"x": 1},
        "state": 3,
        "term": "7",
        "since": float("nan"),
        "host": True,
        "pid": True,
        "priority": float("inf"),
        "lease": -(10**300),
        "more": "of a later version",
    }
    assert Beacon.parse(f"/* eda-ha {json.dumps(said)} */") == Beacon()


@given(
    st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists)
)
def test_nothing_that_is_read_raises(text: str, value: object) -> None:
    Beacon.parse(text)
    Beacon.parse(f"/* eda-ha {text} */")
    for name in Beacon._fields:
        said = json.dumps({"v": 1, name: value})
        Beacon.parse(f"/* eda-ha {said} */")
