"""What the benchmarks make of their figures: JSON, tables, pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

pytest.importorskip("rich")

from bench import chart, tables
from bench.peers import servers, takeover
from bench.peers.cluster import Fault
from bench.report import Figure, Goal, Result, with_unit

OURS = "ansible-rulebook-ha, lease 15 s"


def results() -> dict[str, Result]:
    peers = Result(
        "peers",
        "from the fault to the next one's lock",
        [
            Figure(OURS, "s", [0.005, 0.006], Fault.KILL.value),
            Figure("a lock", "s", [math.inf], Fault.KILL.value, 90.0),
            Figure(OURS, "s", [14.2], Fault.PAUSE.value),
            Figure("etcd", "s", [], Fault.KILL.value, missing="not installed"),
        ],
        notes=["a note with *signs* and under_scores"],
    )
    timeline = Result(
        "timeline",
        "step by step",
        [Figure("leads", "s", [0.02])],
        [Goal("median", 0.02, 0.1, "s")],
        data={
            "steps": [
                {
                    "where": "PostgreSQL",
                    "what": "the session has ended",
                    "seconds": 0.004,
                },
                {
                    "where": "the other worker",
                    "what": "says that it leads",
                    "seconds": 0.02,
                },
            ]
        },
    )
    state = Result(
        "state",
        "events",
        [Figure("with state", "events/s", [1000.0])],
        data={
            "cost": {
                "with state": [[0, 0.0004], [4000, 0.0005]],
                "upstream": [[0, 0.0015], [4000, 0.0125]],
            }
        },
    )
    return {"peers": peers, "timeline": timeline, "state": state}


def test_json_holds_all_that_is_shown():
    for part, result in results().items():
        text = json.dumps(result.as_json(), allow_nan=False)
        assert Result.from_json(part, json.loads(text)) == result


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0052, "s", "5.200 ms"),
        (0.25, "s", "250 ms"),
        (12.34, "s", "12.3 s"),
        (0.0, "s", "0.000 s"),
        (0.25, "ms", "0.250 ms"),
        (1234.0, "/s", "1,234 /s"),
    ],
)
def test_three_digits_that_matter(value, unit, shown):
    assert with_unit(value, unit) == shown


def test_what_never_came_and_what_is_missing_is_said():
    never = Figure("a lock", "s", [math.inf], waited=90.0)
    assert never.cells() == ("1", "", "none in 90 s", "")
    some = Figure("a lock", "s", [1.5, math.inf, math.inf], waited=90.0)
    assert some.cells() == ("3", "1.500 s", "none in 90 s", "none in 90 s")
    missing = Figure("etcd", "s", [], missing="not installed")
    assert missing.cells() == ("0", "", "not installed", "")


def test_the_tables_name_everything():
    found = results()
    text = tables.document(
        list(found.values()),
        {"cores": 2, "load before": [0.1, 0.2]},
        "--quick",
        {"peers": "images/takeover.svg"},
    )
    for piece in (
        "After kill -9",
        "After SIGSTOP",
        OURS,
        "none in 90 s",
        "not installed",
        ".. image:: images/takeover.svg",
        r"\*signs\* and under\_scores",
        "goal met: median",
        'BENCH_ARGS="--quick"',
    ):
        assert piece in text, piece
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_tables_are_valid():
    core = pytest.importorskip("docutils.core")
    text = tables.document(list(results().values()), {"cores": 2}, "", {})
    tree = core.publish_doctree(
        text, settings_overrides={"report_level": 2, "halt_level": 2}
    )
    assert "none in 90 s" in tree.astext()


@pytest.mark.skipif(not chart.can_draw(), reason="needs matplotlib")
def test_the_same_figures_give_the_same_pictures(tmp_path):
    drawn = []
    for name in ("one", "two"):
        found = chart.draw(results(), tmp_path / name)
        drawn.append({part: each.read_text() for part, each in found.items()})
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {"peers", "timeline", "state"}
    # Text that can be searched, and nothing of the machine.
    assert OURS in drawn[0]["peers"]
    assert "says that it leads" in drawn[0]["timeline"]
    assert "upstream" in drawn[0]["state"]
    for text in drawn[0].values():
        assert str(tmp_path) not in text
        assert len(text) < 100_000


def test_what_is_not_installed_is_named_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "FOLDERS", str(tmp_path))
    monkeypatch.setattr(servers, "ZOOKEEPER_JAR", tmp_path / "none.jar")
    monkeypatch.setattr(servers, "find_spec", lambda name: None)
    for name, add in takeover.ADDERS.items():
        if name == "PostgreSQL":
            continue
        with pytest.raises(servers.Missing, match="is not installed"):
            next(iter(add(None, tmp_path / name, None, 15.0)))
