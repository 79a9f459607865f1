"""The checker finds each violation that is planted, and nothing else.

Histories are made of the lines that workers write, so that reading them is
tested as well. Times are in milliseconds.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import random
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from bench.report import machine
from chaos.campaign import Campaign, progress
from chaos.checker import Limits, Verdict, Violation, check
from chaos.cluster import Settings
from chaos.records import REFUSED, BadRecord, History, parse, read
from chaos.report import Report, percentile, rst
from chaos.run import Task
from chaos.schedule import PROXIES, STANDBY, Plan, faults
from chaos.summary import Summary, summary_of
from hypothesis import given, settings
from hypothesis import strategies as st

MS = 1_000_000  # ns
LEASE = 3.0
POLL = 1.0
EXACT = Limits(slack=0.0)
HAS = frozenset({PROXIES, STANDBY})


class Story:
    """Rows of workers and driver, in the order in which they are told."""

    def __init__(self, state: bool = False, proxied: bool = False) -> None:
        self.state = state
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.numbers = itertools.count(1)
        self.driver(
            "run",
            seed=7,
            state=state,
            proxied=proxied,
            poll=POLL,
            lease=LEASE,
        )

    def driver(self, kind: str, **values: Any) -> None:
        self.tell("driver", kind, **values)

    def tell(self, file: str, kind: str, **values: Any) -> None:
        for key in ("at", "start", "end", "until", "looked"):
            if key in values:
                values[key] = round(values[key] * MS)
        self.rows[file].append({"kind": kind, **values})

    # What several rows tell

    def leads(
        self,
        life: str,
        start: float,
        end: float,
        term: int = 1,
    ) -> None:
        """It is told so a millisecond after it could act."""
        self.tell(life, "lead", start=start, end=end, samples=9)
        self.role(life, "leader", start + 1, term)
        self.role(life, "follower", end + 1)

    def role(
        self,
        life: str,
        role: str,
        at: float,
        term: int | None = None,
    ) -> None:
        self.tell(life, "role", role=role, at=at, term=term)

    def handed(
        self, name: str, kind: str, at: float, group: str | None = None
    ) -> None:
        source = name.rpartition("-")[0]
        self.driver(
            "taken",
            source=source,
            id=name,
            event=kind,
            group=group,
            again=False,
            at=at,
        )

    def posts(
        self,
        life: str,
        name: str,
        at: float,
        how: str = "ok",
        leads: bool = True,
        looked: float | None = None,
    ) -> None:
        looked = at if looked is None else looked
        self.tell(life, "post", id=name, leads=leads, looked=looked, at=at)
        self.tell(life, "posted", id=name, how=how, at=at + 1)

    def acts(
        self,
        life: str,
        action: str,
        names: str,
        at: float,
        end: float | None = None,
        *,
        index: int = 0,
        how: str | None = "done",
        match: str | None = None,
        leads: bool = True,
        looked: float | None = None,
        durable: bool = True,
    ) -> None:
        """With state, what has to be stored before it is, by a hair."""
        run = next(self.numbers)
        end = at + 5 if end is None else end
        if self.state and durable:
            match = match or f"m-of-{run}"
            self.driver("found", match=match, at=at - 0.5)
            if index:
                self.recorded(match, at - 0.5, index - 1)
        self.tell(
            life,
            "begin",
            run=run,
            action=action,
            index=index,
            ids=names.split(),
            match=match,
            leads=leads,
            looked=at if looked is None else looked,
            at=at,
        )
        if how is not None:
            self.tell(life, "end", run=run, how=how, at=end)

    def recorded(self, match: str, at: float, index: int | None) -> None:
        self.driver("recorded", match=match, index=index, at=at)

    def acked(self, name: str, at: float) -> None:
        """With state, it has just been stored."""
        if self.state:
            self.driver("processed", id=name, at=at - 0.5)
        self.driver("acked", id=name, at=at)

    def event(
        self, life: str, name: str, at: float, kind: str = "one"
    ) -> None:
        """Handed out, posted, acknowledged, and its action run."""
        self.handed(name, kind, at)
        self.posts(life, name, at + 1)
        self.acked(name, at + 3)
        if kind == "three":
            for index in range(3):
                self.acts(life, kind, name, at + 4 + 10 * index, index=index)
        else:
            self.acts(life, kind, name, at + 4)

    def plays(
        self, life: str, name: str, start: float, end: float, pid: int = 9
    ) -> None:
        file = f"{life}.plays"
        self.tell(file, "play", id=name, pid=pid, state="begin", at=start)
        self.tell(file, "play", id=name, pid=pid, state="alive", at=end)

    def fault(
        self, kind: str, at: float, victim: str | None = None, number: int = 1
    ) -> None:
        self.driver(
            "fault",
            number=number,
            fault=kind,
            target="leader",
            victim=victim,
            seconds=0.0,
            mode="",
            at=at,
        )

    def exit(self, life: str, at: float, code: int, *expected: int) -> None:
        self.driver(
            "exit", life=life, code=code, expected=list(expected), at=at
        )

    # What is made of it

    @property
    def texts(self) -> dict[str, str]:
        return {
            name: "".join(f"{json.dumps(row)}\n" for row in rows)
            for name, rows in self.rows.items()
        }

    @property
    def history(self) -> History:
        return parse(self.texts)

    def verdict(self, limits: Limits = EXACT) -> Verdict:
        return check(self.history, limits)


def clean(state: bool = False) -> Story:
    """A leader that is killed, one that follows it, and all that runs."""
    story = Story(state)
    story.driver("began", at=1000)
    story.leads("w1", 0, 10_000, term=1)
    story.leads("w2", 10_020, 20_000, term=2)
    for second in range(1, 19):
        life = "w1" if second < 10 else "w2"
        at = second * 1000 + 100
        kind = "three" if second % 5 == 0 else "one"
        story.event(life, f"plain-{second}", at, kind)
    story.fault("kill", 10_000, "w1")
    story.exit("w1", 10_001, -9, -9)
    story.driver("over", at=19_500)
    return story


def rules(verdict: Verdict) -> list[str]:
    return [violation.rule for violation in verdict.violations]


def only(story: Story, limits: Limits = EXACT) -> Violation:
    """The violation, if there is one and no other."""
    found = story.verdict(limits).violations
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


# -- clean histories -----------------------------------------------------


@pytest.mark.parametrize("state", [True, False])
def test_a_clean_history_passes(state: bool) -> None:
    assert rules(clean(state).verdict()) == []


def test_nothing_recorded_is_no_violation() -> None:
    assert check(History()).violations == []


def test_what_there_was_to_check_is_counted() -> None:
    counts = clean().verdict().counts
    assert counts["terms"] == 2
    assert counts["events handed out"] == counts["events in an engine"] == 18
    assert counts["actions done"] == 18 + 2 * 3


# -- two leaders ---------------------------------------------------------


def test_two_leaders_are_found() -> None:
    story = clean()
    story.tell("w2", "lead", start=9_990, end=9_995, samples=3)

    found = only(story)

    assert found.rule == "two leaders"
    assert found.what.startswith("w1 and w2 both led for 5.000 ms")
    assert any(line.startswith("w1.jsonl:1: ") for line in found.lines)
    assert any('"start": 9990000000' in line for line in found.lines)


def test_two_lives_of_one_worker_are_two_leaders() -> None:
    story = clean()
    story.tell("w1~2", "lead", start=12_000, end=12_001, samples=2)

    assert only(story).what.startswith("w2 and w1~2")


def test_two_leaders_are_shown_with_the_fault_before() -> None:
    story = clean()
    story.tell("w1", "lead", start=10_030, end=10_040, samples=2)

    assert '"fault": "kill"' in only(story).lines[-1]


def beside(fault: str, state: bool = True) -> Story:
    """A worker has the lock beside another one, and does nothing yet."""
    story = clean(state)
    story.fault(fault, 12_000)
    story.tell("w3", "lead", start=12_100, end=13_000, samples=9)
    return story


def test_of_two_primaries_locks_the_one_that_led_to_nothing_is_none() -> None:
    assert rules(beside("patroni-freeze").verdict()) == []


@pytest.mark.parametrize(
    ("fault", "state"), [("patroni-crash", True), ("patroni-freeze", False)]
)
def test_but_with_one_server_or_without_state_it_is(
    fault: str, state: bool
) -> None:
    assert "two leaders" in rules(beside(fault, state).verdict())


def test_who_does_something_with_that_lock_is_a_leader_too() -> None:
    story = beside("patroni-freeze")
    story.acts("w3", "one", "plain-99", 12_500)
    found = rules(story.verdict())
    assert "two leaders" in found and "action on a non-leader" in found


def late(
    fault: str, milliseconds: float, proxied: bool, *breaks: float
) -> Story:
    """What a worker does that hears late that it has lost the lock.

    :param breaks: when both have given no true answer for a moment.
    """
    story = Story(proxied=proxied)
    end = 10_000 + milliseconds
    for life, begin, over in (("w1", 0, end), ("w2", 10_000, 20_000)):
        start = float(begin)
        for at in sorted(at for at in breaks if start < at < over):
            story.tell(life, "lead", start=start, end=at, samples=9)
            start = at + 1
        story.leads(life, start, over)
    story.fault(fault, 9_990, "w1")
    story.acts("w1", "one", "plain-1", end - 1)
    return story


def test_behind_a_proxy_a_worker_may_hear_late_that_its_session_ended() -> (
    None
):
    assert rules(late("end-session", 90, proxied=True).verdict()) == []


@pytest.mark.parametrize("at", [9_995, 10_050])
def test_nor_does_it_matter_that_answers_were_missing(at: float) -> None:
    assert rules(late("end-session", 90, True, at).verdict()) == []
    found = rules(late("end-session", 150, True, at).verdict())
    assert found == ["two leaders", "action on a non-leader"]


@pytest.mark.parametrize(
    ("fault", "milliseconds", "proxied"),
    [
        ("end-session", 110, True),  # later than it may
        ("end-session", 90, False),  # nothing in between delays it
        ("pause-long", 90, True),  # its own clock should have told it
    ],
)
def test_but_not_too_late_and_only_there(
    fault: str, milliseconds: float, proxied: bool
) -> None:
    found = rules(late(fault, milliseconds, proxied).verdict())

    assert found == ["two leaders", "action on a non-leader"]


# -- actions and events on who does not lead -----------------------------


def test_an_action_that_begins_beside_another_leader_is_found() -> None:
    story = clean()
    story.acts("w1", "one", "plain-99", 10_021)

    found = only(story)

    assert found.rule == "action on a non-leader"
    assert found.what == "one 0 of plain-99 began on w1 while w2 led"
    assert "plain-99" in found.lines[0]
    assert found.lines[1].startswith("w2.jsonl:1: ")


def test_an_action_that_begins_while_nobody_leads_is_found() -> None:
    story = clean()
    story.acts("w3", "one", "plain-99", 10_010, leads=False)

    assert only(story).what.endswith("began on w3, which did not lead")


def test_an_action_long_after_the_end_of_its_term_is_found() -> None:
    story = Story()
    story.leads("w1", 0, 1000)
    story.acts("w1", "one", "plain-1", 1_101, leads=False)

    assert rules(story.verdict()) == ["action on a non-leader"]


def test_an_action_a_moment_after_it_is_allowed() -> None:
    story = Story()
    story.leads("w1", 0, 1000)
    story.acts("w1", "one", "plain-1", 1_050, leads=False)
    story.tell("w2", "point", at=3_000)
    story.acts("w2", "one", "plain-2", 3_020, leads=False)

    assert rules(story.verdict()) == []


def stopped(looked: float, began: float) -> Story:
    """A leader that is stopped from 1000 to 6000; another one leads then."""
    story = Story()
    story.leads("w1", 0, 1_000)
    story.driver("pause", life="w1", at=1_000, until=6_000)
    story.leads("w2", 4_500, 9_000, term=2)
    story.acts("w1", "one", "plain-1", began, leads=False, looked=looked)
    story.posts("w1", "plain-2", began, leads=False, looked=looked)
    return story


def test_who_is_stopped_between_look_and_deed_does_it_afterwards() -> None:
    assert rules(stopped(990, 6_010).verdict()) == []


@pytest.mark.parametrize(
    ("looked", "began"),
    [
        (850, 6_010),  # it did something else after that look
        (990, 6_150),  # it had the time to look again
        (6_005, 6_010),  # it was told yes when it should not
        (-500, 6_010),  # nor did it lead then
    ],
)
def test_but_only_what_comes_right_after_the_look(
    looked: float, began: float
) -> None:
    assert rules(stopped(looked, began).verdict()) == [
        "action on a non-leader",
        "event on a non-leader",
    ]


def test_samples_that_are_missing_are_no_violation() -> None:
    # The sampler got no processor, but the worker asked at its begin.
    story = Story()
    story.leads("w1", 0, 1000)
    story.acts("w1", "one", "plain-1", 1_500)

    assert rules(story.verdict()) == []


def test_an_action_during_promotion_is_allowed() -> None:
    # Recovered matches run before the leader is announced.
    story = Story()
    story.tell("w1", "lead", start=0, end=2000, samples=9)
    story.acts("w1", "one", "plain-1", 100)
    story.role("w1", "leader", 500, 1)

    assert rules(story.verdict()) == []


def test_an_event_that_enters_beside_another_leader_is_found() -> None:
    story = clean()
    story.posts("w1", "plain-99", 10_025)

    found = only(story)

    assert found.rule == "event on a non-leader"
    assert "went into the engine of w1 while w2 led" in found.what


def test_an_event_that_enters_a_follower_is_found() -> None:
    story = clean()
    story.posts("w3", "plain-99", 10_010, leads=False)

    assert only(story).rule == "event on a non-leader"


def test_an_event_that_is_refused_enters_no_engine() -> None:
    story = clean()
    story.posts("w3", "plain-99", 10_010, leads=False, how=REFUSED)

    assert rules(story.verdict()) == []


# -- actions that go on --------------------------------------------------


def test_an_action_that_goes_on_beside_another_leader_is_found() -> None:
    story = clean()
    story.acts("w1", "one", "plain-99", 9_990, 11_021, how="cancelled")

    found = only(story)

    assert found.rule == "action on a non-leader"
    assert "went on for 1.001 s while w2 led" in found.what


def test_an_action_that_is_cut_short_in_time_is_only_counted() -> None:
    story = clean()
    story.acts("w1", "one", "plain-99", 9_990, 10_120, how="cancelled")

    verdict = story.verdict()

    assert rules(verdict) == []
    (overrun,) = verdict.overruns
    assert overrun.seconds == pytest.approx(0.1)


def test_the_bound_of_that_can_be_set() -> None:
    story = clean()
    story.acts("w1", "one", "plain-99", 9_990, 10_120, how="cancelled")

    assert rules(story.verdict(Limits(overrun=0.05))) == [
        "action on a non-leader"
    ]


def test_an_action_of_a_killed_worker_ended_with_it() -> None:
    story = clean()
    story.acts("w1", "one", "plain-99", 9_990, how=None)

    verdict = story.verdict()

    assert rules(verdict) == [] and verdict.overruns == []


def test_an_action_goes_on_until_its_worker_has_ended() -> None:
    story = clean()
    story.leads("w3", 20_050, 30_000, term=3)
    story.acts("w2", "one", "plain-99", 19_990, how=None)
    story.exit("w2", 21_100, 75, 75)

    assert "went on for 1.050 s while w3 led" in only(story).what


def test_a_paused_worker_does_nothing_meanwhile() -> None:
    story = clean()
    story.driver("pause", life="w1", at=9_995, until=15_000)
    story.acts("w1", "one", "plain-99", 9_990, 15_010, how="cancelled")

    verdict = story.verdict()

    assert rules(verdict) == []
    assert verdict.overruns[0].seconds == pytest.approx(0.010)


def test_nor_does_one_whose_main_loop_is_blocked() -> None:
    story = clean()
    story.tell("w1", "blocking", at=9_995, seconds=5.0)
    story.acts("w1", "one", "plain-99", 9_990, 15_010, how="cancelled")

    verdict = story.verdict()

    assert rules(verdict) == []
    assert verdict.overruns[0].seconds == pytest.approx(0.015)


def test_a_playbook_goes_on_while_its_worker_is_paused() -> None:
    story = clean()
    story.driver("pause", life="w1", at=9_995, until=15_000)
    story.plays("w1", "plain-99", 9_000, 11_500)

    found = only(story)

    assert found.what == (
        "the playbook of plain-99 of w1 went on for 1.480 s while w2 led"
    )
    assert found.lines[0].startswith("w1.plays.jsonl:1: ")


def test_a_playbook_that_comes_up_beside_the_next_leader_counts() -> None:
    story = clean()
    story.plays("w1", "plain-99", 10_900, 11_050)

    assert "went on for 1.030 s while w2 led" in only(story).what


def test_a_playbook_that_dies_with_its_worker_is_fine() -> None:
    story = clean()
    story.plays("w1", "plain-99", 9_000, 10_030)

    verdict = story.verdict()

    assert rules(verdict) == []
    assert verdict.counts["playbooks cut short"] == 1


# -- roles and terms -----------------------------------------------------


@pytest.mark.parametrize("told", ["both roles", "no role"])
def test_a_worker_without_exactly_one_role_is_found(told: str) -> None:
    story = clean()
    both = told == "both roles"
    story.tell("w2", "neither", leads=both, follows=both, at=11_000)

    found = only(story)

    assert (found.rule, found.what) == ("not one role", f"w2 was told {told}")


@pytest.mark.parametrize("after", [5, 2_000])
def test_a_term_that_is_told_when_a_process_goes_on_was_there_before(
    after: float,
) -> None:
    """As in seed 2011."""
    story = clean(state=True)
    story.role("w2", "leader", 14_000, 4)
    story.driver("pause", life="w3", at=13_000, until=15_000)
    story.role("w3", "leader", 15_000 + after, 3)

    assert rules(story.verdict()) == ["terms not rising"] * (after > 100)


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("term", [1, 2])
def test_a_term_that_does_not_rise_is_found(term: int, state: bool) -> None:
    story = clean(state)
    story.role("w2", "leader", 15_000, term)

    found = only(story)

    assert found.rule == "terms not rising"
    assert found.what == f"w2 leads in term {term}, after w2 in 2"
    assert len(found.lines) == 3  # both roles and the fault


def test_with_state_a_term_that_another_had_is_found() -> None:
    story = clean(state=True)
    story.leads("w3", 20_100, 21_000, term=2)

    assert only(story).what == "w3 leads in term 2, after w2 in 2"


def test_without_state_each_life_counts_its_own() -> None:
    story = clean(state=False)
    story.leads("w1~2", 20_100, 21_000, term=1)

    assert rules(story.verdict()) == []


# -- events and actions --------------------------------------------------


def test_an_acknowledged_event_without_its_action_is_found() -> None:
    story = clean(state=True)
    story.handed("feedback-1", "one", 9_900)
    story.acked("feedback-1", 9_950)
    story.acts("w1", "one", "feedback-1", 9_980, how=None)

    found = only(story)

    assert found.rule == "event lost"
    assert "feedback-1 was acked, but one 0" in found.what
    shown = " ".join(found.lines)
    assert '"acked"' in shown and '"taken"' in shown and '"begin"' in shown


def test_so_is_one_that_is_stored_without_it() -> None:
    story = clean(state=True)
    story.handed("plain-99", "one", 9_900)
    story.posts("w1", "plain-99", 9_950)
    story.driver("stored", id="plain-99", at=9_952)

    found = only(story)

    assert "plain-99 was stored, but one 0" in found.what
    assert any('"post"' in line for line in found.lines)


def test_an_event_that_is_only_in_the_engine_was_not_promised() -> None:
    # The engine stores it while the event loop goes on.
    story = clean(state=True)
    story.handed("plain-99", "one", 9_900)
    story.posts("w1", "plain-99", 9_950)

    assert rules(story.verdict()) == []


def test_nor_one_whose_worker_died_over_it() -> None:
    story = clean(state=True)
    story.handed("plain-99", "one", 9_900)
    story.tell("w1", "post", id="plain-99", leads=True, looked=9_999, at=9_999)

    assert rules(story.verdict()) == []


def test_without_state_what_was_in_flight_may_be_lost() -> None:
    story = clean(state=False)
    story.handed("plain-99", "one", 9_900)
    story.posts("w1", "plain-99", 9_950)

    assert rules(story.verdict()) == []


def test_an_action_that_ran_on_the_next_leader_is_enough() -> None:
    story = clean(state=True)
    story.handed("plain-99", "one", 9_900)
    story.driver("stored", id="plain-99", at=9_950)
    story.acts("w1", "one", "plain-99", 9_980, how=None)
    story.acts("w2", "one", "plain-99", 10_100)

    assert rules(story.verdict()) == []


def test_an_action_that_failed_is_not_enough() -> None:
    story = clean(state=True)
    story.handed("plain-99", "one", 9_900)
    story.driver("stored", id="plain-99", at=9_950)
    story.acts("w1", "one", "plain-99", 9_980, how="KeyError")

    assert only(story).rule == "event lost"


def test_each_of_three_actions_is_due() -> None:
    story = clean(state=True)
    story.handed("plain-99", "three", 9_900)
    story.driver("stored", id="plain-99", at=9_910)
    story.acts("w1", "three", "plain-99", 9_920, index=0)
    story.acts("w1", "three", "plain-99", 9_940, index=1)

    assert "three 2 of plain-99 never ran" in only(story).what


def test_a_pair_is_due_once_both_are_there() -> None:
    story = clean(state=True)
    story.handed("plain-98", "first", 9_900, "pair-1")
    story.driver("stored", id="plain-98", at=9_910)
    assert rules(story.verdict()) == []

    story.handed("plain-99", "second", 9_920, "pair-1")
    assert rules(story.verdict()) == []

    story.driver("stored", id="plain-99", at=9_930)
    assert rules(story.verdict()) == ["event lost", "event lost"]

    story.acts("w2", "two", "plain-98 plain-99", 10_100)
    assert rules(story.verdict()) == []


def test_a_window_is_due_once_for_its_group() -> None:
    story = clean(state=True)
    for number in (97, 98, 99):
        story.handed(f"plain-{number}", "window", 9_900 + number, "group-1")
        story.driver("stored", id=f"plain-{number}", at=10_001)
    assert rules(story.verdict()) == ["event lost"] * 3

    story.acts("w2", "window", "plain-97", 12_000)
    assert rules(story.verdict()) == []


def test_so_is_one_of_a_transaction_without_it() -> None:
    # It would not be processed again, were it to come once more.
    story = clean(state=True)
    story.handed("plain-99", "one", 9_900)
    story.driver("processed", id="plain-99", at=9_952)

    assert "plain-99 was processed, but one 0" in only(story).what


def test_an_action_before_its_match_is_stored_is_found() -> None:
    story = clean(state=True)
    story.acts("w1", "one", "plain-99", 9_000, match="m-9", durable=False)
    story.driver("found", match="m-9", at=9_001)

    found = only(story)

    assert found.rule == "not durable yet"
    assert "began on w1 before its match was stored" in found.what
    assert any('"found"' in line for line in found.lines)


@pytest.mark.parametrize("match", [None, "m-9"])
def test_so_is_one_whose_match_is_not_stored_at_all(match: str | None) -> None:
    story = clean(state=True)
    story.acts("w1", "one", "plain-99", 9_000, match=match, durable=False)

    assert only(story).rule == "not durable yet"


@pytest.mark.parametrize("at", [None, 9_101])
def test_an_action_before_the_last_ones_outcome_is_stored_is_found(
    at: int | None,
) -> None:
    story = clean(state=True)
    story.acts("w1", "three", "plain-99", 9_000, match="m-9", index=0)
    if at is not None:
        story.recorded("m-9", at, 0)
    story.acts(
        "w1", "three", "plain-99", 9_100, match="m-9", index=1, durable=False
    )

    found = only(story)

    assert found.what == (
        "three 1 of plain-99 began on w1 before the end of the one that "
        "precedes it was stored"
    )


@pytest.mark.parametrize("at", [None, 9_951])
def test_an_acknowledgement_before_the_event_is_stored_is_found(
    at: int | None,
) -> None:
    story = clean(state=True)
    story.handed("feedback-1", "one", 9_900)
    story.driver("acked", id="feedback-1", at=9_950)
    if at is not None:
        story.driver("processed", id="feedback-1", at=at)
    story.acts("w1", "one", "feedback-1", 9_980)

    found = only(story)

    assert found.what == "feedback-1 was acknowledged before it was stored"


def test_what_came_before_the_ledger_is_not_in_it() -> None:
    story = clean(state=True)
    story.handed("feedback-1", "one", 900)
    story.driver("acked", id="feedback-1", at=950)
    story.acts("w1", "one", "feedback-1", 960, durable=False)

    assert rules(story.verdict()) == []


def test_an_event_whose_outcome_is_stored_twice_is_found() -> None:
    story = clean(state=True)
    story.posts("w2", "plain-1", 10_100)
    story.driver("processed", id="plain-1", at=10_102)

    found = only(story)

    assert found.rule == "event processed again"
    assert sum('"post"' in line for line in found.lines) == 2


def terms(*rows: tuple[int, int | None]) -> Story:
    """A journal: terms that began, and marks of their transactions."""
    story = clean(state=True)
    for at, (term, mark) in enumerate(rows, 2_000):
        if mark is None:
            story.driver("claimed", worker="w1", term=term, at=at)
        else:
            story.driver("committed", term=term, mark=mark, at=at)
    return story


def test_a_journal_goes_on_with_the_next_term() -> None:
    story = terms((1, None), (1, 7), (1, 8), (2, None), (3, None), (3, 9))

    assert rules(story.verdict()) == []


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (
            [(1, None), (2, None), (1, 7), (2, 8)],
            "term 1 wrote in term 2",
        ),
        ([(2, None), (2, None)], "term 2 began after 2"),
        ([(1, None), (1, 7), (1, 9)], "transaction 9 came after 7"),
        ([(1, None), (1, 7), (1, 7)], "transaction 7 came after 7"),
    ],
)
def test_a_write_that_should_not_be_there_is_found(
    rows: list[tuple[int, int | None]], what: str
) -> None:
    found = only(terms(*rows))

    assert (found.rule, found.what) == ("stale write", what)


def test_what_the_rules_remember_for_ever_is_found() -> None:
    story = clean(state=True)
    story.driver("left", record="E", ids=["plain-1"], at=25_000)

    assert only(story).what == "plain-1 is in the rules' memory for ever"


def test_so_is_the_window_that_never_ends() -> None:
    story = clean(state=True)
    story.driver("left", record="C", ids=[], at=25_000)

    assert only(story).rule == "memory left"


def test_half_a_pair_waits_for_the_other_one() -> None:
    story = clean(state=True)
    story.handed("plain-98", "first", 9_900, "pair-1")
    story.driver("stored", id="plain-98", at=9_910)
    story.handed("plain-99", "second", 9_920, "pair-1")
    story.driver("left", record="E", ids=["plain-98"], at=25_000)
    assert rules(story.verdict()) == []

    story.driver("stored", id="plain-99", at=9_930)
    story.acts("w2", "two", "plain-98 plain-99", 10_100)

    assert only(story).rule == "memory left"


def test_what_the_ledger_has_is_counted() -> None:
    counts = clean(state=True).verdict().counts
    assert counts["events stored"] == 18
    assert counts["matches stored"] == counts["actions done"]
    assert "matches stored" not in clean().verdict().counts


def test_a_ledger_that_is_missing_is_one_violation() -> None:
    # The server did not come back: seed 3017.
    story = clean(state=True)
    for kind in ("found", "processed", "recorded"):
        story.rows["driver"] = [
            row for row in story.rows["driver"] if row["kind"] != kind
        ]

    assert only(story).rule == "no ledger"


def test_a_match_that_stays_for_ever_is_found() -> None:
    story = clean(state=True)
    story.acts("w2", "one", "plain-99", 19_000, match="m-9")
    story.driver("pending", match="m-9", at=25_000)

    found = only(story)

    assert found.rule == "match left"
    assert any("plain-99" in line for line in found.lines)


def test_without_state_a_completed_action_that_runs_again_is_found() -> None:
    story = clean()
    story.acts("w1", "one", "plain-99", 9_900)
    story.acts("w2", "one", "plain-99", 10_100)

    found = only(story)

    assert found.rule == "action run again"
    assert found.what == (
        "one 0 of plain-99 ran on w2 though w1 had completed it"
    )
    assert found.lines[0].startswith("w1.jsonl:")
    assert any(line.startswith("w2.jsonl:") for line in found.lines)


@pytest.mark.parametrize("index", [None, 1])
@pytest.mark.parametrize("match", ["m-1", "m-2"])
def test_with_state_one_that_was_recorded_as_such_is(
    index: int | None, match: str
) -> None:
    # By another match, if an event was taken for a new one.
    story = clean(state=True)
    story.acts("w1", "three", "plain-99", 9_800, index=0, match="m-1")
    story.acts("w1", "three", "plain-99", 9_900, index=1, match="m-1")
    story.recorded("m-1", 9_910, index)
    story.acts("w2", "three", "plain-99", 10_100, index=1, match=match)

    found = only(story)

    assert found.what == (
        "three 1 of plain-99 ran on w2 though w1 had completed it, and that "
        "was recorded"
    )
    assert any('"recorded"' in line for line in found.lines)


def test_with_state_it_may_run_again_if_that_was_not_recorded() -> None:
    # Killed between the action's end and its being written down.
    story = clean(state=True)
    story.acts("w1", "three", "plain-99", 9_800, index=0, match="m-1")
    story.recorded("m-1", 9_810, index=0)
    story.acts("w1", "three", "plain-99", 9_990, index=1, match="m-1")
    story.acts("w2", "three", "plain-99", 10_100, index=1, match="m-1")
    story.recorded("m-1", 10_110, index=1)

    assert rules(story.verdict()) == []


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize(
    ("done_at", "again"),
    [(4_700, []), (980, ["action run again"])],
    ids=["after the look", "before it"],
)
def test_who_is_stopped_after_the_look_cannot_know_that_it_is_done(
    state: bool, done_at: float, again: list[str]
) -> None:
    # Seed 3002.
    story = Story(state)
    story.leads("w1", 0, 1_000)
    story.driver("pause", life="w1", at=1_000, until=6_000)
    story.leads("w2", 4_500, 9_000, term=2)
    doer = "w2" if done_at > 4_500 else "w1"
    story.acts(doer, "one", "plain-1", done_at - 6, match="m-1")
    story.recorded("m-1", done_at, None)
    story.acts(
        "w1",
        "one",
        "plain-1",
        6_010,
        match="m-1",
        leads=False,
        looked=990,
        durable=False,
    )

    assert rules(story.verdict()) == again


def test_one_that_was_cut_short_runs_again() -> None:
    story = clean()
    story.acts("w1", "one", "plain-99", 9_990, 10_010, how="cancelled")
    story.acts("w2", "one", "plain-99", 10_100)

    assert rules(story.verdict()) == []


def test_one_that_runs_twice_at_a_time_is_found() -> None:
    story = clean()
    story.acts("w2", "one", "plain-99", 11_000, 11_200)
    story.acts("w2", "one", "plain-99", 11_100, 11_300)

    assert "though w2 was still at it" in only(story).what


def test_a_window_that_opens_again_for_later_events_may_end_again() -> None:
    story = clean()
    story.acts("w1", "window", "plain-97", 9_000)
    story.acts("w2", "window", "plain-99", 12_000)

    assert rules(story.verdict()) == []


def test_windows_that_end_together_are_told_apart() -> None:
    story = clean()
    story.acts("w1", "window", "plain-97 plain-98", 9_000)
    story.acts("w2", "window", "plain-98", 12_000)

    assert only(story).rule == "action run again"


def test_the_second_action_before_the_first_is_found() -> None:
    story = clean()
    story.acts("w1", "three", "plain-99", 9_000, 9_050, index=0)
    story.acts("w1", "three", "plain-99", 9_040, 9_080, index=1)

    found = only(story)

    assert found.rule == "actions out of order"
    assert "three 1 of plain-99" in found.what


def test_the_second_action_on_the_next_leader_is_in_order() -> None:
    story = clean()
    story.acts("w1", "three", "plain-99", 9_000, index=0)
    story.acts("w2", "three", "plain-99", 10_100, index=1)

    assert rules(story.verdict()) == []


# -- how long nobody leads -----------------------------------------------


def outage(gap: float, *outages: tuple[float, float]) -> Story:
    """Nobody leads for so many milliseconds, from 10,000 on."""
    story = Story()
    story.driver("began", at=0)
    story.leads("w1", 0, 10_000)
    story.leads("w2", 10_000 + gap - 1, 30_000)
    story.fault("kill", 10_000, "w1")
    for at, until in outages:
        story.driver("outage", at=at, until=until)
    story.driver("over", at=29_000)
    return story


def test_nobody_for_longer_than_lease_and_poll_is_found() -> None:
    found = only(outage(4_001))

    assert found.rule == "no leader"
    assert "nobody led for 4.001 s" in found.what
    assert any('"role": "leader"' in line for line in found.lines)


def test_lease_and_poll_are_allowed() -> None:
    assert rules(outage(4_000).verdict()) == []


def test_so_is_what_the_machine_may_add() -> None:
    assert rules(outage(4_900).verdict(Limits(slack=1.0))) == []
    assert rules(outage(5_100).verdict(Limits(slack=1.0))) == ["no leader"]


def test_while_no_server_is_reachable_it_does_not_count() -> None:
    assert rules(outage(9_000, (10_000, 15_500)).verdict()) == []


def test_from_when_there_is_one_again_it_does() -> None:
    found = only(outage(9_000, (10_000, 14_900)))

    assert "nobody led for 4.100 s" in found.what


def test_nobody_until_the_end_is_found() -> None:
    story = Story()
    story.driver("began", at=0)
    story.leads("w1", 0, 10_000)
    story.driver("over", at=20_000)

    assert "nobody led for 10.000 s" in only(story).what


def test_a_promotion_that_is_not_announced_is_no_lead() -> None:
    story = Story()
    story.driver("began", at=0)
    story.leads("w1", 0, 10_000)
    story.tell("w2", "lead", start=10_010, end=16_000, samples=9)
    story.role("w2", "leader", 15_000, 1)
    story.driver("over", at=16_000)

    assert "nobody led for 5.000 s" in only(story).what


def test_before_the_first_fault_and_after_the_last_one_nothing_counts() -> (
    None
):
    story = Story()
    story.leads("w1", 20_000, 30_000)
    story.driver("began", at=20_001)
    story.driver("over", at=30_000)
    story.tell("w1", "shutdown", at=99_000)

    assert rules(story.verdict()) == []


def test_a_source_that_stands_still_under_a_leader_is_found() -> None:
    story = Story()
    story.leads("w1", 0, 30_000)
    for at in range(0, 30_000, 500):
        story.handed(f"plain-{at}", "one", at)
        if not 10_000 < at < 23_000:
            story.handed(f"feedback-{at}", "one", at)

    found = only(story)

    assert found.rule == "source stalled"
    assert "the source feedback asked for nothing for 13.0 s" in found.what


# -- processes -----------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, -11])
def test_a_worker_that_ends_unasked_is_found(code: int) -> None:
    story = clean()
    story.exit("w2", 19_000, code)

    found = only(story)

    assert found.what == f"w2 ended with exit code {code}"


def test_a_worker_that_could_not_demote_in_time_is_told_apart() -> None:
    story = clean()
    story.exit("w2", 19_000, 75)

    found = only(story)

    assert (found.rule, found.what) == (
        "demotion too long",
        "w2 ended itself for that",
    )
    assert rules(story.verdict(Limits(fencing=True))) == []


def test_a_worker_that_ends_otherwise_than_asked_is_found() -> None:
    story = clean()
    story.exit("w2", 19_000, 1, 0)

    assert only(story).rule == "unexpected exit"


def test_children_that_outlive_their_worker_are_found() -> None:
    story = clean()
    story.driver("orphans", life="w1", pids=[4711], at=17_000)

    assert "children of w1 live on: [4711]" in only(story).what


def test_a_password_in_a_log_is_found() -> None:
    story = clean()
    story.driver("leaked", life="w1", what="a password", at=17_000)

    assert only(story).what == "a password in the log of w1"


def test_a_record_that_broke_off_is_found() -> None:
    story = clean()
    story.tell("w2", "error", text="no answer", at=17_000)

    assert only(story).rule == "record broken"


# -- outcomes ------------------------------------------------------------


def test_a_takeover_is_timed_from_the_fault() -> None:
    (outcome,) = clean().verdict().outcomes

    assert outcome.takeover == pytest.approx(0.021)
    assert outcome.leaderless == pytest.approx(0.021)


def test_or_from_when_a_server_could_be_reached() -> None:
    story = clean()
    story.driver("outage", at=10_000, until=10_015)

    (outcome,) = story.verdict().outcomes

    assert outcome.takeover == pytest.approx(0.006)


def test_a_fault_that_leaves_the_leader_has_no_takeover() -> None:
    story = clean()
    story.fault("slow", 15_000, "w2", number=2)

    first, second = story.verdict().outcomes

    assert first.takeover is not None
    assert second.takeover is None and second.leaderless == 0


# -- reading -------------------------------------------------------------


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    for name, text in clean().texts.items():
        cut = '{"kind": "le' if name == "w1" else ""
        (tmp_path / f"{name}.jsonl").write_text(text + cut, "utf-8")

    assert read(tmp_path) == clean().history


def test_a_hole_that_a_kill_left_is_skipped() -> None:
    texts = clean().texts
    first, _, rest = texts["w1"].partition("\n")

    assert parse({**texts, "w1": f"{first}\n\0\0\0{rest}"}) == clean().history


def test_a_broken_line_in_the_middle_is_an_error() -> None:
    texts = clean().texts

    with pytest.raises(BadRecord, match=r"w1\.jsonl:1"):
        parse({**texts, "w1": "{\n" + texts["w1"]})


def test_a_span_that_ends_before_it_starts_is_an_error() -> None:
    story = Story()
    story.tell("w1", "lead", start=5, end=4, samples=1)

    with pytest.raises(BadRecord, match="ends before it starts"):
        _ = story.history


# -- histories made of schedules -----------------------------------------


def simulated(seed: int, count: int, state: bool) -> Story:
    """What faithful workers would write while this schedule goes on.

    Whoever leads loses it at each fault, the next one takes over, and what
    was cut short runs again there.
    """
    dice = random.Random(seed)
    story = Story(state)
    story.driver("began", at=0)
    at, token, number = 0.0, 0, 0
    open_ones: list[str] = []
    terms: dict[str, int] = defaultdict(int)
    for fault in itertools.islice(faults(seed, Plan(has=HAS)), count):
        life = f"w{token % 3 + 1}"
        token += 1
        terms[life] += 1
        start = at
        at += 10
        for name in open_ones if state else ():
            story.acts(life, "one", name, at)
            at += 20
        open_ones = []
        end = at + 100 + fault.calm * 1000
        while at < end - 100:
            number += 1
            kind = dice.choice(["one", "one", "three"])
            story.event(life, f"plain-{number}", at, kind)
            at += dice.uniform(40, 90)
        number += 1
        name = f"plain-{number}"
        story.handed(name, "one", end - 20)
        story.posts(life, name, end - 19)
        story.acked(name, end - 17)
        story.acts(life, "one", name, end - 16, end + 1, how="cancelled")
        open_ones.append(name)
        story.leads(life, start, end, token if state else terms[life])
        story.fault(fault.kind, end, life, fault.number)
        at = end + dice.uniform(5, 3_900)
    last = f"w{token % 3 + 1}"
    story.leads(last, at, at + 1000, token + 1 if state else terms[last] + 1)
    for name in open_ones if state else ():
        story.acts(last, "one", name, at + 10)
    story.driver("over", at=at + 900)
    return story


SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.integers(1, 12), st.booleans())
@settings(max_examples=30)
def test_a_made_history_is_the_same_for_the_same_seed_and_passes(
    seed: int, count: int, state: bool
) -> None:
    story = simulated(seed, count, state)

    assert story.texts == simulated(seed, count, state).texts
    assert rules(story.verdict()) == []
    assert len(story.verdict().outcomes) == count


def plant_second_leader(story: Story, life: str, start: int) -> None:
    story.tell("w9", "lead", start=start + 5, end=start + 6, samples=2)


def plant_stray_action(story: Story, life: str, start: int) -> None:
    story.acts("w9", "one", "plain-0", start + 5)


def plant_stray_event(story: Story, life: str, start: int) -> None:
    story.posts("w9", "plain-0", start + 5)


def plant_overrun(story: Story, life: str, start: int) -> None:
    story.tell("w9", "lead", start=start - 4, end=start - 3, samples=2)
    story.acts("w9", "one", "plain-0", start - 3, start + 1_100)


def plant_old_term(story: Story, life: str, start: int) -> None:
    story.role(life, "leader", start + 5, 0)


def plant_repetition(story: Story, life: str, start: int) -> None:
    story.acts(life, "one", "plain-0", start + 5, match="m-0")
    story.recorded("m-0", start + 20, None)
    story.acts(life, "one", "plain-0", start + 50, match="m-0")


def plant_disorder(story: Story, life: str, start: int) -> None:
    story.acts(life, "three", "plain-0", start + 5, index=1)


def plant_loss(story: Story, life: str, start: int) -> None:
    story.handed("feedback-0", "one", start + 5)
    story.acked("feedback-0", start + 6)


def plant_haste(story: Story, life: str, start: int) -> None:
    story.acts(life, "one", "plain-0", start + 5, match="m-0", durable=False)


def plant_double(story: Story, life: str, start: int) -> None:
    story.event(life, "plain-0", start + 5)
    story.driver("processed", id="plain-0", at=start + 50)


def plant_stale_write(story: Story, life: str, start: int) -> None:
    story.driver("claimed", worker=life, term=3, at=start)
    story.driver("committed", term=2, mark=1, at=start + 1)


def plant_death(story: Story, life: str, start: int) -> None:
    story.exit("w9", start + 5, 1)


PLANTS = {
    plant_second_leader: "two leaders",
    plant_stray_action: "action on a non-leader",
    plant_stray_event: "event on a non-leader",
    plant_overrun: "action on a non-leader",
    plant_old_term: "terms not rising",
    plant_repetition: "action run again",
    plant_disorder: "actions out of order",
    plant_loss: "event lost",
    plant_haste: "not durable yet",
    plant_double: "event processed again",
    plant_stale_write: "stale write",
    plant_death: "unexpected exit",
}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda each: each.__name__)
@given(seed=SEEDS, count=st.integers(2, 8), place=st.floats(0, 0.99))
@settings(max_examples=15)
def test_what_is_planted_anywhere_in_it_is_found(
    plant: Any, seed: int, count: int, place: float
) -> None:
    story = simulated(seed, count, state=True)
    # A simulated term; the first has none before that could overrun.
    offices = story.history.offices[1:]
    office = offices[int(place * len(offices))]

    plant(story, office.life, office.start // MS)

    assert PLANTS[plant] in rules(story.verdict())


# -- an inbox ------------------------------------------------------------


def posted(*names: str, of: int = 0) -> Story:
    """Each accepted, taken out, and its action run; in one transaction."""
    story = clean(state=True)
    for number, name in enumerate(names):
        at = 2000 + 40 * number
        story.handed(name, "one", at)
        story.driver("arrived", id=name, at=at + 1)
        story.driver("acked", id=name, at=at + 2)
        story.posts("w1", name, at + 3)
        story.driver("processed", id=name, at=at + 4, of=of)
        story.acts("w1", "one", name, at + 5)
    return story


def test_events_of_an_inbox_are_accepted_before_they_are_processed() -> None:
    assert rules(posted("posted-1", "posted-2").verdict()) == []


def test_an_event_that_came_in_twice_is_found() -> None:
    story = posted("posted-1")
    story.driver("arrived", id="posted-1", at=2010)
    found = only(story)
    assert found.rule == "inbox"
    assert found.what == "posted-1 came into the inbox twice"


def test_an_event_that_overtook_another_is_found() -> None:
    story = posted("posted-1", of=7)
    story.handed("posted-2", "one", 2100)
    story.driver("arrived", id="posted-2", at=2101)
    story.driver("processed", id="posted-2", at=2102, of=6)
    story.acts("w1", "one", "posted-2", 2103)
    assert only(story).what == "posted-1 was processed after posted-2"


def test_an_event_that_stays_in_the_inbox_is_found() -> None:
    story = clean(state=True)
    story.driver("waiting", id="posted-1", at=19_500)
    assert only(story).what == "posted-1 is never taken out of the inbox"


def test_one_that_was_accepted_before_it_was_stored_is_found() -> None:
    story = posted("posted-1")
    story.handed("posted-2", "one", 2100)
    story.driver("acked", id="posted-2", at=2101)
    story.driver("arrived", id="posted-2", at=2102)
    story.driver("processed", id="posted-2", at=2103, of=1)
    story.acts("w1", "one", "posted-2", 2104)
    found = only(story)
    assert found.rule == "not durable yet"
    assert found.what == "posted-2 was acknowledged before it was stored"


def test_one_that_was_accepted_and_never_led_to_anything_is_found() -> None:
    story = posted("posted-1")
    story.handed("posted-2", "one", 2100)
    story.driver("arrived", id="posted-2", at=2101)
    story.driver("acked", id="posted-2", at=2102)
    assert only(story).rule == "event lost"


def test_nothing_is_promised_of_an_event_that_cannot_be_stored() -> None:
    story = posted("posted-1")
    for name in ("posted-2", "feedback-1"):
        story.handed(name, "poison", 2100)
        story.driver("acked", id=name, at=2102)
    assert rules(story.verdict()) == []


# -- reports ---------------------------------------------------------------


def summarized(story: Story) -> Summary:
    return summary_of(story.history, story.verdict(), HAS, 60.0)


def reported(*stories: Story) -> Report:
    about = {"machine": machine()}
    campaign = Campaign(about, [summarized(each) for each in stories])
    return Report(campaign, "make chaos", Settings())


def test_a_report_counts_faults_and_what_was_found_by_their_kind() -> None:
    bad = clean()
    bad.fault("slow", 15_000, "w2", number=2)
    bad.exit("w2", 19_000, 1)

    report = reported(clean(), bad)
    killed, slow, every = report.groups()

    assert (killed.count, len(killed.takeovers), killed.violations) == (
        2,
        2,
        0,
    )
    assert (slow.count, len(slow.takeovers), slow.violations) == (1, 0, 1)
    assert (every.count, len(every.takeovers), every.violations) == (3, 2, 1)
    assert [found.after for _, found in report.violations] == ["slow"]


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(each) for each in range(1, 201)]

    assert percentile(values, 99) == 198
    assert percentile(values, 50) == 100
    assert percentile([7.0], 99) == 7


def test_the_table_for_the_documentation_has_command_and_figures() -> None:
    text = rst(reported(clean()))

    assert "   $ make chaos\n" in text
    row = "   * - worker killed (SIGKILL)\n     - 1\n     - 1\n     - 0.021\n"
    assert row in text
    assert "3 workers, poll interval 1 s, lease 3 s, without state" in text


def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    bad = clean()
    bad.exit("w2", 19_000, 1)
    report = reported(bad)

    report.campaign.save(tmp_path / "f", report.as_json())

    found = json.loads((tmp_path / "f").read_text())
    assert found["faults"][0]["takeover"]["median"] == pytest.approx(0.021)
    (violation,) = found["schedules"][0]["found"]
    assert violation["rule"] == "unexpected exit"
    assert violation["lines"]


def test_a_campaign_goes_on_with_what_is_written(tmp_path: Path) -> None:
    bad = clean()
    bad.exit("w2", 19_000, 1)
    begun = Campaign({"code": "1"}, [summarized(bad)])
    begun.save(tmp_path / "f", {"command": "make chaos"})

    resumed = Campaign({"code": "1"})
    resumed.load(tmp_path / "f")

    assert resumed == begun
    assert [task.seed for task in resumed.left([Task(7), Task(8)])] == [8]


def test_a_campaign_of_other_code_is_not_gone_on_with(tmp_path: Path) -> None:
    Campaign({"code": "1"}).save(tmp_path / "f", {})

    with pytest.raises(ValueError, match=r"cannot go on with .*: code: 1"):
        Campaign({"code": "2"}).load(tmp_path / "f")


def test_one_may_end_while_it_is_told_how_far_each_is() -> None:
    over = threading.Event()
    with multiprocessing.Manager() as manager:
        told = manager.dict({7: "fault 1"})

        def come_and_go() -> None:
            while not over.is_set():
                told[8] = "fault 2"
                told.pop(8)

        other = threading.Thread(target=come_and_go)
        other.start()
        try:
            seen = {progress(told) for _ in range(2000)}
        finally:
            over.set()
            other.join()

    assert seen <= {"7: fault 1", "7: fault 1; 8: fault 2"}
