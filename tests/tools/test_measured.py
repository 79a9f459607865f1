"""The figures in README and documentation are those of the last whole run."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rich")

from bench.report import Figure, Goal, Result
from documented import pages, text_of
from measured import Mark, faults_of, marks_of, shows
from tree import ROOT

PAGE = """
Words.

.. measured: lock
   ours | median max
   goal | times *

.. measured: lock
   after a kill | theirs | median

It takes 6.0 ms, or 12 ms at most, which is
1.44 times the limit's, and theirs never came.

Other words, with 99 ms.
"""
RESULTS = {
    "lock": Result(
        "lock",
        "",
        [
            Figure("ours", "s", [0.005, 0.006, 0.0118]),
            Figure("theirs", "s", [float("inf")], "after a kill"),
        ],
        [Goal("times the limit's", 1.443, 3.0)],
    )
}


def measured_results() -> dict[str, Result]:
    path = ROOT / "tools" / "bench" / "benchmarks.json"
    parts = json.loads(path.read_text("utf-8"))["parts"]
    return {part: Result.from_json(part, parts[part]) for part in parts}


def all_marks() -> list[Mark]:
    return [m for page in pages() for m in marks_of(page, text_of(page))]


@pytest.mark.parametrize("mark", all_marks(), ids=lambda mark: mark.where)
def test_the_text_gives_what_was_measured(mark):
    assert list(faults_of(mark, measured_results())) == []


def test_there_are_marks():
    assert {m.where.partition(":")[0] for m in all_marks()} >= {
        "README.rst",
        "docs/trust/benchmarks.rst",
        "docs/trust/comparison.rst",
    }


def test_each_mark_is_about_the_next_block():
    first, second = marks_of("page", PAGE)
    assert first.where == "page:4"
    assert first.wanted == (("ours", "median max"), ("goal", "times *"))
    assert first.block == second.block
    assert first.block.startswith("It takes 6.0 ms")
    assert first.block.endswith("never came.")


def test_right_figures_have_no_fault():
    for mark in marks_of("page", PAGE):
        assert list(faults_of(mark, RESULTS)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("6.0 ms", "6.2 ms", "ours, median is 6.000 ms"),
        ("12 ms", "11 ms", "ours, max is 11.8 ms"),
        ("1.44", "1.45", "times the limit's is 1.443"),
        ("never", "often", "theirs, median is never"),
        ("ours |", "us |", "no such figure: us | median max"),
        ("lock\n   ours", "lack\n   ours", "measured by part lack"),
    ],
)
def test_wrong_figures_are_found(right, wrong, said):
    text = PAGE.replace(right, wrong)
    assert text != PAGE
    (fault,) = [
        fault
        for mark in marks_of("page", text)
        for fault in faults_of(mark, RESULTS)
    ]
    assert said in fault


@pytest.mark.parametrize(
    ("text", "value", "is_shown"),
    [
        ("6,200 events/s", 6200.48, True),
        ("6,201 events/s", 6200.48, False),
        ("20 to 35 ms", 0.0352, True),
        ("after 0.24 s", 0.2428, True),
        ("0.24 s", 0.2528, False),
        ("0 s", 0.3, False),  # nothing is left of it
        ("version 1.3.2 and w12", 12.0, False),
        ("none: 0", 0.0, True),
    ],
)
def test_a_value_may_be_rounded(text, value, is_shown):
    assert shows(text, value) is is_shown
