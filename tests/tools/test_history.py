"""The reader of records finds what was planted, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rig.history import (
    BadRecord,
    Record,
    Span,
    assert_one_leader,
    gaps,
    leading,
    overlaps,
    parse_record,
    read_record,
    takeover,
    terms,
)

MS = 1_000_000  # ns


def record(name: str, *spans: tuple[float, float]) -> Record:
    """A record of these spans, given in milliseconds."""
    return Record(
        name,
        spans=tuple(
            Span(name, int(start * MS), int(end * MS)) for start, end in spans
        ),
    )


def test_terms_one_after_the_other_do_not_overlap():
    records = [record("a", (0, 10), (30, 40)), record("b", (11, 29))]

    assert overlaps(records) == []
    assert_one_leader(records)


def test_an_overlap_is_reported_with_who_when_and_how_long():
    records = [record("a", (0, 10)), record("b", (7, 20))]

    (found,) = overlaps(records)

    assert (found.first, found.second) == ("a", "b")
    assert (found.start, found.end) == (7 * MS, 10 * MS)
    assert found.seconds == pytest.approx(0.003)
    assert str(found) == "a and b both led for 3.000 ms from 0.007000 s"


def test_a_term_inside_another_is_an_overlap_of_its_whole_length():
    (found,) = overlaps([record("a", (0, 100)), record("b", (40, 45))])

    assert (found.start, found.end) == (40 * MS, 45 * MS)


def test_one_shared_instant_is_an_overlap():
    (found,) = overlaps([record("a", (0, 10)), record("b", (10, 20))])

    assert found.seconds == 0


def test_a_long_term_is_compared_with_every_later_one():
    records = [
        record("a", (0, 100)),
        record("b", (10, 11), (50, 51)),
        record("c", (99, 150)),
    ]

    assert [(o.second, o.start // MS) for o in overlaps(records)] == [
        ("b", 10),
        ("b", 50),
        ("c", 99),
    ]


def test_three_at_once_are_three_pairs():
    records = [record(name, (0, 10)) for name in "abc"]

    pairs = {(o.first, o.second) for o in overlaps(records)}

    assert pairs == {("a", "b"), ("a", "c"), ("b", "c")}


def test_a_record_does_not_overlap_with_itself():
    assert overlaps([record("a", (0, 10), (10, 20))]) == []


def test_a_process_and_its_successor_of_the_same_name_are_two():
    (found,) = overlaps([record("a", (0, 10)), record("a", (9, 20))])

    assert (found.first, found.second) == ("a", "a")


def test_assert_one_leader_says_how_many_and_shows_them():
    records = [record("a", (0, 10)), record("b", (7, 20))]

    with pytest.raises(AssertionError, match="1 overlaps:\na and b both"):
        assert_one_leader(records)


def test_gaps_name_who_led_before_and_after():
    records = [record("a", (0, 10)), record("b", (15, 20), (22, 30))]

    assert [(g.before, g.after, g.seconds) for g in gaps(records)] == [
        ("a", "b", pytest.approx(0.005)),
        ("b", "b", pytest.approx(0.002)),
    ]
    assert len(gaps(records, longer=0.004)) == 1


def test_no_gap_while_an_earlier_term_still_lasts():
    records = [record("a", (0, 100)), record("b", (10, 20), (30, 40))]

    assert gaps(records) == []


def test_terms_joins_what_a_starved_sampler_split():
    records = [record("a", (0, 10), (40, 50)), record("b", (60, 70))]

    assert [(t.contender, t.end // MS) for t in terms(records)] == [
        ("a", 50),
        ("b", 70),
    ]


def test_terms_joins_nothing_across_another_leader_or_a_long_pause():
    others = [record("a", (0, 10), (40, 50)), record("b", (20, 30))]
    pause = [record("a", (0, 10), (1000, 1001))]

    assert len(terms(others)) == 3
    assert len(terms(pause)) == 2


def test_leading_is_in_the_order_of_the_starts():
    records = [record("a", (5, 6), (50, 51)), record("b", (1, 2))]

    assert [s.start // MS for s in leading(records)] == [1, 5, 50]


def test_takeover_is_the_first_answer_of_anybody_else():
    records = [
        record("a", (0, 10), (16, 17)),
        record("b", (3, 4), (20, 30)),
        Record("c", points=(18 * MS,)),
    ]

    assert takeover(records, 11 * MS, without="a") == pytest.approx(0.007)
    assert takeover(records, 31 * MS, without="a") is None


def test_nothing_recorded_is_no_overlap_and_no_gap():
    assert overlaps([]) == gaps([]) == terms([]) == []


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


WHO = {"kind": "contender", "name": "w1", "pid": 7, "started": 1}


def test_a_record_is_read_back(tmp_path: Path):
    path = tmp_path / "x.jsonl"
    path.write_text(
        lines(
            WHO,
            {"kind": "role", "role": "follower", "at": 2},
            {"kind": "callback", "name": "promotion", "at": 3},
            {"kind": "lead", "start": 4, "end": 9, "samples": 3},
            {"kind": "point", "at": 12},
            {"kind": "command", "text": "step_down", "at": 13},
            {"kind": "error", "text": "ouch", "at": 14},
            {"kind": "exit", "at": 15},
        )
    )

    got = read_record(path)

    assert (got.contender, got.pid, got.exited) == ("w1", 7, 15)
    assert got.spans == (Span("w1", 4, 9),)
    assert got.points == (12,)
    assert [(c.at, c.what) for c in got.roles] == [(2, "follower")]
    assert [(c.at, c.what) for c in got.callbacks] == [(3, "promotion")]
    assert [(c.at, c.what) for c in got.commands] == [(13, "step_down")]
    assert [(c.at, c.what) for c in got.errors] == [(14, "ouch")]


def test_a_line_that_a_kill_cut_short_is_left_out():
    text = lines(WHO, {"kind": "lead", "start": 4, "end": 9, "samples": 3})

    assert parse_record(text + '{"kind": "le').spans == (Span("w1", 4, 9),)


def test_a_broken_line_in_the_middle_is_an_error():
    with pytest.raises(BadRecord, match="w9, line 1"):
        parse_record("{\n" + lines(WHO), name="w9")


def test_a_span_that_ends_before_it_starts_is_an_error():
    text = lines(WHO, {"kind": "lead", "start": 9, "end": 4, "samples": 3})

    with pytest.raises(BadRecord, match="ends before it starts"):
        parse_record(text)


def test_blanks_that_pad_a_line_do_not_matter():
    text = lines(WHO) + '{"kind": "point", "at": 5}      \n'

    assert parse_record(text).points == (5,)
