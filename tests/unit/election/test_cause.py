"""Why a worker leads: from what it has seen, and as far as that goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_rulebook.ha.election.beacon import Beacon
from ansible_rulebook.ha.election.cause import Cause, Trail, find_cause
from ansible_rulebook.ha.election.holder import LockHolder
from ansible_rulebook.ha.election.lock_delay import ServerLife
from ansible_rulebook.ha.election.names import PAUSE, application_name
from ansible_rulebook.ha.election.reasons import Reason
from ansible_rulebook.ha.election.witness import Witness

LEASE = 15.0
LIFE, NEXT_LIFE = ServerLife("1"), ServerLife("2")


def holder(
    worker: str = "w1", kind: str = "eda-ha", silent: float | None = 1.0
) -> LockHolder:
    name = application_name(7, worker, "ab12", kind)
    return LockHolder(name, Beacon(worker=worker, role="leader"), silent)


def word(ended: Reason, why: str = "", kind: str = "eda-ha") -> LockHolder:
    said = Beacon(worker="w1", ended=ended.value, reason=why)
    return LockHolder(application_name(7, "w1", "ab12", kind), said)


ALONE = Trail("w2", LEASE)
BEHIND = replace(ALONE, holder=holder(), ago=2.0, has_waited=True)


@pytest.mark.parametrize(
    ("trail", "reason", "replaces", "evidence"),
    [
        pytest.param(
            ALONE, Reason.FIRST, "", "nobody led when it came", id="first"
        ),
        pytest.param(
            BEHIND, Reason.KILLED, "w1", "its session ended", id="killed"
        ),
        pytest.param(
            replace(BEHIND, holder=holder(silent=None), ago=1000.0),
            Reason.KILLED,
            "w1",
            "its session ended",
            id="it is not seen when it gave a sign",
        ),
        pytest.param(
            replace(BEHIND, holder=holder(silent=11.0), ago=4.0),
            Reason.LEASE_EXPIRED,
            "w1",
            "it gave no sign for 15.0 s, and its lease is 15 s",
            id="its lease ran out",
        ),
        pytest.param(
            replace(BEHIND, holder=holder(silent=1.0), ago=60.0),
            Reason.KILLED,
            "w1",
            "its session ended",
            id="it was on time, and was not looked at since",
        ),
        pytest.param(
            replace(BEHIND, holder=holder(silent=9.0), ago=2.0),
            Reason.KILLED,
            "w1",
            "its session ended",
            id="it was late, but had time left",
        ),
        pytest.param(
            replace(
                BEHIND,
                last_word=word(Reason.SWITCHOVER, "asked to hand over by a@b"),
            ),
            Reason.SWITCHOVER,
            "w1",
            "it said so: asked to hand over by a@b",
            id="asked",
        ),
        pytest.param(
            replace(ALONE, last_word=word(Reason.STOPPED)),
            Reason.STOPPED,
            "w1",
            "it said so",
            id="a last word counts for whoever comes then",
        ),
        pytest.param(
            replace(BEHIND, last_word=word(Reason.STOPPED, "x", PAUSE)),
            Reason.PAUSED,
            "",
            "the pause by w1 is over",
            id="a pause ended",
        ),
        pytest.param(
            replace(BEHIND, holder=holder("a@b-1", PAUSE)),
            Reason.PAUSED,
            "",
            "the pause by a@b-1 is over: its session ended",
            id="a pause died",
        ),
        pytest.param(
            replace(BEHIND, has_waited=False, is_new_life=True),
            Reason.SERVER_RESTARTED,
            "w1",
            "PostgreSQL was started again or promoted since w1 led",
            id="another life of the server",
        ),
        pytest.param(
            replace(ALONE, own_end=Reason.SESSION_LOST, is_new_life=True),
            Reason.SERVER_RESTARTED,
            "w2",
            "PostgreSQL was started again or promoted since w2 led",
            id="another life, and it led itself",
        ),
        pytest.param(
            replace(ALONE, own_end=Reason.SESSION_LOST),
            Reason.SESSION_LOST,
            "w2",
            "this worker had led itself",
            id="it led itself",
        ),
        pytest.param(
            replace(BEHIND, has_waited=False),
            Reason.UNKNOWN,
            "w1",
            "the lock was free when it was connected again",
            id="it was away when it happened",
        ),
        pytest.param(
            replace(BEHIND, holder=LockHolder("psql", None, 1.0)),
            Reason.UNKNOWN,
            "psql",
            "a session that was no worker's held the lock",
            id="a stranger",
        ),
    ],
)
def test_it_says_what_it_can_know(
    trail: Trail, reason: Reason, replaces: str, evidence: str
) -> None:
    assert find_cause(trail) == Cause(reason, replaces, evidence)


def test_a_word_that_is_not_in_the_list_is_unknown() -> None:
    said = Beacon(worker="w1", ended="<b>", reason="\x1b")
    found = find_cause(
        replace(BEHIND, last_word=LockHolder("eda-ha:1:w1:2", said))
    )
    assert found.reason is Reason.UNKNOWN


def test_what_is_on_record_counts_for_who_led_last() -> None:
    killed = Cause(Reason.KILLED, "w1", "its session ended")
    assert killed.recorded("w1") is killed
    assert killed.recorded("") is killed
    found = killed.recorded("w3")
    assert (found.reason, found.replaces) == (Reason.UNKNOWN, "w3")
    assert "seen is w1" in found.evidence
    long = "w" * 100  # of which a name has a part
    cut = application_name(7, long).split(":")[2]
    assert replace(killed, replaces=cut).recorded(long).replaces == long
    for reason in (Reason.FIRST, Reason.PAUSED):
        found = Cause(reason, evidence="so").recorded("w9")
        assert found == Cause(reason, "w9", "so")
        assert found.ended is Reason.UNKNOWN
    assert killed.ended is Reason.KILLED


def test_a_promotion_that_failed_changes_nothing() -> None:
    witness = Witness("w2")
    witness.saw(holder(), 10.0, LIFE)
    first = witness.won(None, 12.0, LIFE, LEASE, has_waited=True)
    assert first.reason is Reason.KILLED
    # It gave the lock up again, unannounced, and found it free.
    assert witness.won(None, 20.0, LIFE, LEASE, has_waited=False) == first
    witness.saw(holder("w3"), 21.0, LIFE)
    again = witness.won(None, 22.0, LIFE, LEASE, has_waited=True)
    assert again.replaces == "w3"


def test_its_own_term_is_remembered_until_another_one_leads() -> None:
    witness = Witness("w2")
    witness.led(Reason.STATE_FAILED, LIFE)
    assert witness.holder is None
    found = witness.won(None, 1.0, LIFE, LEASE, has_waited=False)
    assert (found.reason, found.replaces) == (Reason.STATE_FAILED, "w2")
    witness.led(Reason.SESSION_LOST, LIFE)
    found = witness.won(None, 1.0, NEXT_LIFE, LEASE, has_waited=False)
    assert found.reason is Reason.SERVER_RESTARTED
    witness.led(Reason.SESSION_LOST, LIFE)
    witness.saw(holder("w3"), 2.0, LIFE)
    found = witness.won(None, 3.0, LIFE, LEASE, has_waited=True)
    assert found.replaces == "w3"


@pytest.mark.parametrize(
    "row", [None, [], ["a"], "abc", {"a": 1}, ["a", "b", "c", "d"]]
)
def test_other_rows_show_no_holder(row: object) -> None:
    assert LockHolder.told(row) is None


def test_its_own_session_that_is_ending_is_no_leader_before_it() -> None:
    witness = Witness("w2")
    witness.led(Reason.SESSION_LOST, LIFE)
    witness.saw(holder("w2"), 1.0, LIFE)
    cause = witness.won(None, 2.0, LIFE, LEASE, has_waited=True)
    assert (cause.reason, cause.replaces) == (Reason.SESSION_LOST, "w2")


def test_another_process_of_its_name_may_have_led_before_it() -> None:
    witness = Witness("w2")
    witness.saw(holder("w2"), 1.0, LIFE)
    cause = witness.won(None, 2.0, LIFE, LEASE, has_waited=True)
    assert (cause.reason, cause.replaces) == (Reason.KILLED, "w2")
