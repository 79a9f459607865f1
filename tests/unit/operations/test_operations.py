"""What commands say, decided without a server."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_rulebook.ha.election.beacon import Beacon
from ansible_rulebook.ha.election.reasons import Reason
from ansible_rulebook.ha.errors import OptionError
from ansible_rulebook.ha.operations.asking import Question, Unasked, in_time
from ansible_rulebook.ha.operations.cluster import (
    FOLLOWER,
    LEADER,
    Cluster,
    PastTerm,
    Server,
    SessionName,
    Stored,
    Stranger,
    Worker,
)
from ansible_rulebook.ha.operations.commands import COMMANDS, common
from ansible_rulebook.ha.operations.exit_codes import ExitCode
from ansible_rulebook.ha.operations.health import judge, worst
from ansible_rulebook.ha.operations.plain import (
    count,
    duration,
    moment,
)
from ansible_rulebook.ha.operations.why import explain, last_transition

DOCS = Path(__file__).parents[3] / "docs" / "run"
NOW = 1790000000.0
SERVER = Server("db:5432", "eda", "18.4", "eda", NOW, "read")
TERM = PastTerm(
    term=1,
    worker="w1",
    since=NOW - 3600,
    until=NOW - 60,
    ended=Reason.STOPPED,
    replaces="",
    evidence="",
    gap=None,
    records=None,
    matches=None,
    events=None,
    actions=None,
)


def worker(name: str, role: str = FOLLOWER, **values: Any) -> Worker:
    made = Worker(name, role, "", f"eda-ha:0:{name}:0", 1, NOW, 0.1)
    return replace(made, **values)


def cluster(*workers: Worker, **values: Any) -> Cluster:
    return Cluster(0, SERVER, "uuid", workers, **values)


def kept(*terms: PastTerm) -> Stored:
    return Stored(terms[0].term, terms[0].worker, NOW, 0, 0, terms)


# -- text ------------------------------------------------------------------


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_time_is_an_error(epoch: float) -> None:
    assert moment(epoch)


@pytest.mark.parametrize(
    "seconds, words",
    [
        (None, "-"),
        (-1, "0 ms"),
        (0.0123, "12 ms"),
        (1.25, "1.2 s"),
        (75, "1 min 15 s"),
        (7325, "2 h 2 min"),
        (300000, "3 days 11 h"),
    ],
)
def test_durations_are_in_units_that_people_use(
    seconds: float | None, words: str
) -> None:
    assert duration(seconds) == words


def test_counts() -> None:
    assert count(1, "match", "matches") == "1 match"
    assert count(0, "follower") == "0 followers"


# -- names of sessions -----------------------------------------------------


def test_names_of_sessions_are_taken_apart() -> None:
    found = SessionName.parse("eda-ha:ffffffffffffffff:w.1:0a0b0c0d")
    assert found == ("eda-ha", -1, "w.1", "0a0b0c0d")
    assert SessionName.parse("eda-ha:0000000000000001::") is not None
    for text in ("", "psql", "eda-ha:1:w:1", "eda-ha:x\n", "eda-ha:" * 9):
        assert SessionName.parse(text) is None


# -- health ----------------------------------------------------------------


@pytest.mark.parametrize(
    "found, followers, code",
    [
        (cluster(worker("a", LEADER)), 0, ExitCode.DONE),
        (cluster(worker("a", LEADER), worker("b")), 1, ExitCode.DONE),
        (cluster(worker("a", LEADER)), 1, ExitCode.DEGRADED),
        (cluster(worker("b")), 0, ExitCode.REFUSED),
        (cluster(worker("b")), 5, ExitCode.REFUSED),
        (cluster(), 0, ExitCode.REFUSED),
        (
            cluster(stranger=Stranger("x", 1, NOW, pauses=True)),
            0,
            ExitCode.DEGRADED,
        ),
        (
            cluster(stranger=Stranger("x", 1, NOW, pauses=False)),
            0,
            ExitCode.REFUSED,
        ),
        (
            cluster(
                worker("a", LEADER, silent=16.0, beacon=Beacon(lease=15.0))
            ),
            0,
            ExitCode.DEGRADED,
        ),
        (
            cluster(
                worker("a", LEADER, silent=None, beacon=Beacon(lease=15.0))
            ),
            0,
            ExitCode.DONE,
        ),
    ],
)
def test_health(found: Cluster, followers: int, code: ExitCode) -> None:
    health = judge(found, followers)
    assert health.code == code
    assert bool(health.problems) == (code != ExitCode.DONE)


def test_the_worst_of_several_counts() -> None:
    done, degraded, refused = (
        ExitCode.DONE,
        ExitCode.DEGRADED,
        ExitCode.REFUSED,
    )
    assert worst([done, degraded, refused, done]) == refused
    assert worst([done, degraded]) == degraded
    assert worst([]) == refused


# -- why -------------------------------------------------------------------

SECOND = replace(TERM, term=2, worker="w2", until=None, ended=None, gap=0.5)


@pytest.mark.parametrize("reason", [*Reason, None])
def test_each_reason_is_explained(reason: Reason | None) -> None:
    before = replace(TERM, ended=reason)
    found = cluster(worker("w2", LEADER), stored=kept(SECOND, before))
    said = " ".join(explain(found))
    assert (reason or Reason.UNKNOWN).advice in said
    assert "It replaced w1, which had led for 59 min 0 s." in said
    assert "Nobody led for 500 ms." in said
    found = cluster(worker("w2"), stored=kept(before))
    assert (reason or Reason.UNKNOWN).words in " ".join(explain(found))


def test_who_leads_again_has_replaced_nobody() -> None:
    again = replace(SECOND, worker="w1", replaces="w1")
    found = cluster(worker("w1", LEADER), stored=kept(again, TERM))
    assert "It had led before, too." in explain(found)
    first = cluster(worker("w1", LEADER), stored=kept(TERM))
    assert "It is the first leader that is on record." in explain(first)


@pytest.mark.parametrize("tables", ["absent", "forbidden", "read"])
@pytest.mark.parametrize(
    "workers", [(), (worker("a"),), (worker("a", LEADER),)]
)
@pytest.mark.parametrize(
    "stranger",
    [None, Stranger("\x1b[0m", 1, NOW, True), Stranger("", 1, None, False)],
)
@pytest.mark.parametrize("stored", [None, kept(TERM), kept(SECOND, TERM)])
def test_there_are_always_whole_sentences(
    tables: str,
    workers: tuple[Worker, ...],
    stranger: Stranger | None,
    stored: Stored | None,
) -> None:
    found = Cluster(
        key=0,
        server=replace(SERVER, tables=tables),
        workers=workers,
        stranger=stranger,
        stored=stored,
    )
    for sentence in explain(found):
        assert sentence.endswith(".")
        assert sentence[0].isupper() or sentence[0] in "1aw"
        assert sentence.isprintable()
    str(last_transition(found))


# -- time ------------------------------------------------------------------


def test_work_that_takes_for_ever_is_left_behind() -> None:
    began = time.monotonic()
    with pytest.raises(Unasked, match=r"no answer within 0\.1 s"):
        in_time(lambda: time.sleep(60), 0.1)
    assert time.monotonic() - began < 30
    assert in_time(lambda: 7, 30) == 7

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        Question(fail).answer(time.monotonic() + 30, 30)


# -- documentation ---------------------------------------------------------


def test_the_documented_exit_codes_are_those_of_the_code() -> None:
    text = (DOCS / "reference" / "exit_codes.rst").read_text("utf-8")
    rows = re.findall(r"^   \* - (\d+)\n((?:     .*\n)+)", text, re.MULTILINE)
    found = {
        int(code): " ".join(words.split()).lstrip("- ") for code, words in rows
    }
    assert found == {int(code): code.meaning for code in ExitCode}


def test_each_command_and_reason_is_documented() -> None:
    text = (DOCS / "operations.rst").read_text("utf-8")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        assert re.search(rf"^``?{name}``?\n(-+)$", text, re.MULTILINE), name
    for reason in Reason:
        assert f"``{reason.value}``" in text


@pytest.mark.parametrize(
    "text, expected",
    [("10m", 600.0), ("90", 90.0), ("1.5h", 5400.0), ("0.5s", 0.5)],
)
def test_a_period_has_a_unit(text: str, expected: float) -> None:
    assert common.period("--for")(text) == expected


@pytest.mark.parametrize(
    "text", ["", "m", "10x", "-1m", "nan", "25h", "0s", "1 m\n", "1e999h"]
)
def test_a_period_that_is_none_is_wrong_usage(text: str) -> None:
    with pytest.raises(OptionError, match=r"^--for: "):
        common.period("--for")(text)
