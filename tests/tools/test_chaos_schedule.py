"""A schedule of faults is random, and the same for the same seed."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from chaos.__main__ import command_of, get_parser, main, tasks
from chaos.broker import WINDOW_SIZE, Producer, Queue, mark_of
from chaos.rulebook import rulebook
from chaos.schedule import (
    CLOCKS,
    KINDS,
    PATRONI,
    PROXIES,
    STANDBY,
    STATE,
    VOLUME,
    Fault,
    Plan,
    cluster_of,
    faults,
)
from hypothesis import given
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32)
OWN = (STANDBY, PROXIES, VOLUME, CLOCKS)  # of a server without Patroni
ALL = frozenset({*OWN, STATE})
FOR_OWN = sorted(k for k, kind in KINDS.items() if kind.needs != PATRONI)
PLANS = st.builds(
    Plan,
    lease=st.floats(1, 15),
    has=st.just(ALL),
    kinds=st.lists(st.sampled_from(FOR_OWN), unique=True).map(tuple),
    calmest=st.floats(0, 5),
)


def needing(*what: str) -> set[str]:
    """The kinds that need one of these."""
    return {name for name, kind in KINDS.items() if kind.needs in what}


def first(seed: int, plan: Plan, count: int) -> list[Fault]:
    return list(itertools.islice(faults(seed, plan), count))


# -- faults --------------------------------------------------------------


@given(SEEDS, PLANS)
def test_the_same_seed_gives_the_same_faults(seed: int, plan: Plan) -> None:
    assert first(seed, plan, 60) == first(seed, plan, 60)


@given(SEEDS, PLANS)
def test_a_longer_schedule_begins_as_a_shorter_one(
    seed: int, plan: Plan
) -> None:
    assert first(seed, plan, 60)[:20] == first(seed, plan, 20)


@given(SEEDS)
def test_another_seed_gives_other_faults(seed: int) -> None:
    assert first(seed, Plan(), 30) != first(seed + 1, Plan(), 30)


@given(SEEDS, PLANS)
def test_a_fault_is_within_the_bounds_of_its_kind(
    seed: int, plan: Plan
) -> None:
    for number, fault in enumerate(first(seed, plan, 40), 1):
        kind = KINDS[fault.kind]
        assert fault.number == number
        least = kind.shortest * plan.lease
        most = kind.longest * plan.lease
        assert least - 0.001 <= fault.seconds <= most + 0.001
        assert 0 <= fault.calm <= plan.calmest + 0.001
        assert 0 <= fault.choice < 1
        assert fault.mode in kind.modes
        assert fault.target == kind.befalls or not kind.befalls
        assert not plan.kinds or fault.kind in plan.kinds


@given(SEEDS, PLANS)
def test_each_kind_comes_at_first_and_then_by_its_share(
    seed: int, plan: Plan
) -> None:
    bag = plan.bag()
    kinds = set(bag)
    found = [
        fault.kind for fault in first(seed, plan, len(kinds) + 2 * len(bag))
    ]
    assert set(found[: len(kinds)]) == kinds
    assert Counter(found[len(kinds) :]) == Counter(bag * 2)


@given(SEEDS, st.sets(st.sampled_from(sorted(ALL))))
def test_a_kind_comes_only_where_there_is_what_it_needs(
    seed: int, has: set[str]
) -> None:
    plan = Plan(has=frozenset(has))
    kinds = {fault.kind for fault in first(seed, plan, 100)}
    assert kinds == set(FOR_OWN) - needing(*ALL - has)


def test_patroni_cares_for_its_servers_itself() -> None:
    bag = Plan(has=frozenset({PATRONI, STATE})).bag()
    of_servers = {k for k in bag if KINDS[k].befalls == "server"}
    assert of_servers == needing(PATRONI) | {"lock-journal", "unstorable"}
    assert {"kill", "end-session", "pause-long"} < set(bag)


def test_kinds_need_what_a_cluster_can_have() -> None:
    needs = {kind.needs for kind in KINDS.values()} - {""}
    assert needs == ALL | {PATRONI}


@given(SEEDS)
def test_a_standby_has_no_volume(seed: int) -> None:
    assert len(cluster_of(seed) & {STANDBY, VOLUME}) == 1


@given(SEEDS, st.sampled_from(sorted(KINDS)))
def test_a_cluster_has_what_a_chosen_kind_needs(seed: int, kind: str) -> None:
    Plan(has=cluster_of(seed, (kind,)) | {STATE}, kinds=(kind,)).bag()


def test_leaders_and_followers_are_hurt() -> None:
    targets = Counter(fault.target for fault in first(1, Plan(), 300))
    assert targets["leader"] > targets["follower"] > 20


def test_pauses_are_shorter_and_longer_than_the_lease() -> None:
    plan = Plan(lease=3.0)
    seconds = {
        name: [f.seconds for f in first(1, plan, 300) if f.kind == name]
        for name in ("pause-short", "pause-long", "cut-off")
    }
    assert max(seconds["pause-short"]) < 2.0
    assert min(seconds["pause-long"]) > 3.0
    assert min(seconds["cut-off"]) < 3.0 < max(seconds["cut-off"])


def test_a_fault_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no such fault: flood; there are"):
        Plan(kinds=("kill", "flood")).bag()


def test_a_promotion_without_a_standby_is_refused() -> None:
    with pytest.raises(ValueError, match="need standby"):
        Plan(kinds=("promote",)).bag()


# -- events --------------------------------------------------------------


@given(SEEDS)
def test_the_same_seed_gives_the_same_events(seed: int) -> None:
    one, other = Producer("plain", seed), Producer("plain", seed)
    assert [one.next() for _ in range(80)] == [other.next() for _ in range(80)]
    assert one.rest() == other.rest()


@given(SEEDS)
def test_two_sources_of_one_seed_are_not_alike(seed: int) -> None:
    one, other = Producer("plain", seed), Producer("feedback", seed)
    kinds = [
        [source.next()["kind"] for _ in range(60)] for source in (one, other)
    ]
    assert kinds[0] != kinds[1]


@given(SEEDS, st.integers(1, 120))
def test_every_pair_and_every_window_becomes_complete(
    seed: int, count: int
) -> None:
    producer = Producer("plain", seed)
    events = [producer.next() for _ in range(count)] + producer.rest()
    names = [event["id"] for event in events]
    marks = {event["meta"]["uuid"] for event in events}
    assert len(set(names)) == len(marks) == len(events)
    pairs: dict[str, list[str]] = {}
    for event in events:
        if "pair" in event:
            pairs.setdefault(event["pair"], []).append(event["kind"])
    assert all(kinds == ["first", "second"] for kinds in pairs.values())
    groups = Counter(event["group"] for event in events if "group" in event)
    assert all(size == WINDOW_SIZE for size in groups.values())


def test_every_kind_of_event_is_made() -> None:
    producer = Producer("plain", 1)
    kinds = Counter(producer.next()["kind"] for _ in range(2000))
    assert set(kinds) == {"one", "first", "second", "window", "three", "play"}
    assert kinds["play"] > 5


def test_an_event_is_handed_out_until_it_is_acknowledged() -> None:
    queue = Queue(Producer("feedback", 1), keeps=True)
    event, again = queue.take()
    assert event is not None and not again
    assert queue.take() == (event, True)
    assert queue.acknowledge(event["id"])
    assert not queue.acknowledge(event["id"])
    other, again = queue.take()
    assert other is not None and other["id"] != event["id"] and not again


def test_a_queue_names_what_it_has_handed_out() -> None:
    queue = Queue(Producer("plain", 1), keeps=False)
    events = [event for event, _ in (queue.take() for _ in range(9)) if event]
    assert queue.names == [event["id"] for event in events]
    assert [mark_of(name) for name in queue.names] == [
        event["meta"]["uuid"] for event in events
    ]


def test_without_feedback_an_event_is_handed_out_once() -> None:
    queue = Queue(Producer("plain", 1), keeps=False)
    names = [event["id"] for event, _ in (queue.take() for _ in range(50))]
    assert len(set(names)) == 50


@pytest.mark.parametrize("keeps", [True, False])
def test_a_queue_that_ends_is_empty_once_all_is_taken(keeps: bool) -> None:
    queue = Queue(Producer("plain", 3), keeps)
    for _ in range(40):
        event, _ = queue.take()
        queue.acknowledge(event["id"])
    queue.finish()
    assert not queue.is_empty  # a pair or a window is not complete
    event, _ = queue.take()
    while event is not None:
        assert not (keeps and queue.is_empty)
        queue.acknowledge(event["id"])
        event, _ = queue.take()
    assert queue.is_empty


# -- the rulebook --------------------------------------------------------


def test_only_with_state_is_there_a_source_with_feedback() -> None:
    assert "feedback: true" in rulebook(True, 0.1, 2)
    assert "feedback" not in rulebook(False, 0.1, 2)


@pytest.mark.parametrize("state", [True, False])
def test_upstream_accepts_the_rulebook(state: bool) -> None:
    import yaml
    from ansible_rulebook.validators import Validate

    rulesets = yaml.safe_load(rulebook(state, 0.1, 2))
    Validate.rulebook(rulesets)
    assert len(rulesets) == (3 if state else 2)
    assert sum("witness" in str(each["sources"]) for each in rulesets) == 1
    for each in rulesets:
        assert len(each["rules"][3]["actions"]) == 3


# -- the command -----------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], "make chaos"),
        (["--keep", "/home/x", "--json", "/home/y"], "make chaos"),
        (["--json", "/home/y", "--resume", "--jobs", "2"], "make chaos"),
        (["--seed", "7", "kill"], "make chaos CHAOS_ARGS='kill --seed 7'"),
    ],
)
def test_the_command_is_told_without_where_the_output_went(
    words: list[str], command: str
) -> None:
    parser = get_parser()

    assert command_of(parser, parser.parse_args(words)) == command


def test_each_schedule_has_a_seed_and_they_take_turns() -> None:
    words = ["--seed", "5", "--schedules", "4", "--state", "off"]

    found = tasks(get_parser().parse_args(words))

    assert [(t.seed, t.has) for t in found] == [
        (5, {VOLUME, PROXIES}),
        (6, {STANDBY, CLOCKS}),
        (7, {VOLUME}),
        (8, {STANDBY, PROXIES}),
    ]


def test_what_a_machine_cannot_do_is_left_out() -> None:
    parse = get_parser().parse_args

    (task,) = tasks(parse(["--seed", "5"]), frozenset({VOLUME}))

    assert task.has == {PROXIES}
    with pytest.raises(ValueError, match="need volume"):
        tasks(parse(["disk-full"]), frozenset({VOLUME}))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--workers", "1"], "two workers at least"),
        (["flood"], "no such fault: flood"),
        (["promote", "--has", "none"], "need standby"),
        (["end-writer", "--state", "off"], "need state"),
        (["slow", "--has", "standby"], "need proxies"),
        (["--has", "wings"], "no cluster has wings"),
        (["--schedules", "0"], "--schedules: one at least"),
        (["--jobs", "0"], "--jobs: one at least"),
        (["--resume"], "--resume needs --json"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(words)

    assert exit_info.value.code == 2
    assert error in capsys.readouterr().err.splitlines()[-1]
