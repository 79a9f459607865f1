"""The oracle of recovery: an engine with failovers against one without.

A case is a rulebook and a script: events, facts and time. It is done twice.
One run has a leader that never fails. In the other one a call on the engine
can be preceded by a failover, or its answer can be lost, so that another
leader does it again: new sessions are filled with what earlier answers left
to store, and the time of an outage passes on them. What fires has to be the
same, and so has what is in memory afterwards, and what is stored.

What is compared: for each step the rules that fired, in their order, and when
by the session's clock. What one rule found at one time is compared as a
multiset: Drools puts joins off until each pattern of a rule has something, so
in which order it finds them depends on what was there and has long gone.

The leader that never fails ticks every 100 milliseconds, the others once a
step, however long it is: what comes of a span of time may not depend on how
it is cut. What a match posts to the next ruleset is posted at the end of the
time step, as it is after an outage.

Drools itself does not always do the same, and some of it cannot be made up
for. The generator leaves out, each where it says so: not_all beside a
throttle, facts beside a timeout, joins of three patterns whose events expire,
and facts that are taken back where a rule waits for just that.

Run as a program, this does some scenes and writes one JSON object to standard
output: what is wrong with each, null if nothing is.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from itertools import groupby
from typing import Any, Callable, NamedTuple

# Each new session asks for a collection of garbage.
os.environ["JAVA_TOOL_OPTIONS"] = (
    "-XX:+DisableExplicitGC -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
)
os.environ["DROOLS_JPY_JVM_LOG"] = f"logFile={os.devnull}"

from ansible_rulebook.util import get_java_home

if not os.environ.get("JAVA_HOME"):
    os.environ["JAVA_HOME"] = get_java_home() or ""

from ansible_rulebook.json_generator import visit_ruleset
from drools.ruleset import RulesetCollection
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from ansible_rulebook.ha.engine.bridge import (
    NOTHING,
    Answer,
    Bridge,
    Match,
    Record,
    packed,
)

rules_parser: Any = import_module("ansible_rulebook.rules_parser")
# A condition takes the parser milliseconds, and there are not so many.
rules_parser.parse_condition_value = lru_cache(maxsize=None)(
    rules_parser.parse_condition_value
)

START = 4_102_444_800_000  # 2100: a session begins with the present
TICK = 100  # milliseconds
BATCH = 100  # examples
LOST = ("lost", "lost early", "lost twice")
FAULTS = ("before", "before twice", *LOST)

# What Drools refuses, by how often it did.
refused: Counter[str] = Counter()
done: Counter[str] = Counter()


class Step(NamedTuple):
    """Time passes, then something comes."""

    wait: int
    """Milliseconds."""
    do: str
    """event, fact, retract, or nothing."""
    ruleset: int
    what: Any
    """For retract: the fact, whether that is a part of it, and keys that do
    not count."""
    faults: Sequence[str] = ()
    """What happens to the step's calls on the engine, see FAULTS."""


class Case(NamedTuple):
    rulebook: Sequence[Any]
    steps: Sequence[Step]

    @classmethod
    def from_json(cls, text: str) -> Case:
        rulebook, steps = json.loads(text)
        return cls(rulebook, [Step(*each) for each in steps])


class Difference(AssertionError):
    """A recovery that was not exact."""


class Refused(Exception):
    """Drools cannot do this, with or without failovers."""


def start_engine() -> Bridge:
    return Bridge(RulesetCollection.api())


def rulesets_of(rulebook: Sequence[Any]) -> list[dict[str, Any]]:
    """As upstream hands them to the engine."""
    parsed = rules_parser.parse_rule_sets(json.loads(json.dumps(rulebook)))
    found = [visit_ruleset(each, {}) for each in parsed]
    return [each.get("RuleSet", each) for each in found]


class Stored:
    """What is stored of a session."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.is_known = False

    def wrote(self, answer: Answer) -> None:
        if answer is not NOTHING:
            self.is_known = True
        for gone in answer.gone:
            if gone not in self.records:
                raise Difference(f"{gone} has gone, and was not there")
            del self.records[gone]
        for kept in answer.kept:
            self.records[kept.number] = kept

    def packed(self) -> str:
        return packed([self.records[each] for each in sorted(self.records)])

    def comparable(self) -> list[Any]:
        """Without the numbers, of which lost answers have taken some."""
        places = {number: n for n, number in enumerate(sorted(self.records))}
        found = []
        for number in places:
            _, kind, at, expires, text = self.records[number]
            body = json.loads(text)
            for reference in body.get("references", {}).values():
                # One that is not there any more is as good as none.
                reference["record"] = places.get(reference["record"])
            found.append([kind, at, expires, body])
        return found


class Cluster:
    """Sessions of a rulebook, and what is stored of them."""

    def __init__(
        self, bridge: Bridge, rulesets: Sequence[Any], ticks: bool
    ) -> None:
        self.bridge = bridge
        self.ticks = ticks
        self.now = START
        self.texts = [json.dumps(each) for each in rulesets]
        self.stored = [Stored() for _ in rulesets]
        self.sessions = [bridge.create(each) for each in self.texts]
        self.posts = {
            (number, rule["Rule"]["name"]): args.get("event")
            for number, ruleset in enumerate(rulesets)
            for rule in ruleset["rules"]
            for args in [rule["Rule"]["actions"][0]["Action"]["action_args"]]
        }

    def close(self) -> None:
        for each in self.sessions:
            self.bridge.dispose(each)

    def fail_over(self) -> None:
        """Another leader takes over, with what is stored."""
        done["failovers"] += 1
        self.close()
        self.sessions = [self.bridge.create(each) for each in self.texts]
        for session, stored in zip(self.sessions, self.stored):
            if not stored.is_known:
                continue
            self.bridge.restore(session, stored.packed())
            here = self.bridge.time(session)
            times = [each.inserted_at for each in stored.records.values()]
            if times and here != max(times):
                raise Difference(f"the clock shows {here}, not {max(times)}")
            left = self.bridge.advance(session, here)
            if left is not NOTHING:
                raise Difference(f"a restored session told {left}")
            self.check(session, stored)

    def check(self, session: int, stored: Stored) -> None:
        """What is in memory is what is stored."""
        facts = json.loads(self.bridge.facts(session))
        counts = {
            len(facts),
            self.bridge.retained(session),
            len(stored.records),
        }
        if len(counts) > 1:
            raise Difference(f"{facts} in memory, {stored.records} stored")

    def memory(self) -> list[Any]:
        for session, stored in zip(self.sessions, self.stored):
            self.check(session, stored)
        return [
            sorted(
                json.dumps(each, sort_keys=True)
                for each in json.loads(self.bridge.facts(session))
            )
            for session in self.sessions
        ]

    def call(
        self, ruleset: int, do: str, what: Any, fault: str = ""
    ) -> Sequence[Match]:
        """Call the engine, and store what comes."""
        for _ in range({"before": 1, "before twice": 2}.get(fault, 0)):
            self.fail_over()
        for _ in range(2 if fault == "lost twice" else fault in LOST):
            at = self.now
            if fault == "lost early":
                at = (self.bridge.time(self.sessions[ruleset]) + at) // 2
            self.ask(ruleset, do, what, at)
            self.fail_over()
        answer = self.ask(ruleset, do, what, self.now)
        self.stored[ruleset].wrote(answer)
        return answer.matches

    def ask(self, ruleset: int, do: str, what: Any, at: int) -> Answer:
        bridge, session = self.bridge, self.sessions[ruleset]
        try:
            if do == "event":
                return bridge.assert_event(session, at, json.dumps(what))
            if do == "fact":
                return bridge.assert_fact(session, at, json.dumps(what))
            if do == "retract":
                fact, partial, exclude = what
                return bridge.retract(
                    session, at, json.dumps(fact), partial, exclude
                )
            return bridge.advance(session, at)
        except RuntimeError as error:
            raise Refused(str(error).splitlines()[0]) from None

    def step(self, step: Step, number: int) -> list[Any]:
        """What fired: ruleset, rule, time and data."""
        fired: list[Any] = []
        faults = iter(step.faults)

        def call(ruleset: int, do: str, what: Any = None) -> None:
            fault = next(faults, "")
            for match in self.call(ruleset, do, what, fault):
                at = max(match.found_at - START, 0)
                rule, data = json.loads(match.rule), json.loads(match.data)
                fired.append([ruleset, rule, at, data])

        def react(since: int) -> None:
            while since < len(fired):
                ruleset, rule, *_ = fired[since]
                since += 1
                event = self.posts.get((ruleset, rule))
                if event is not None:
                    meta = {"uuid": f"{number}-{since}"}
                    call(ruleset + 1, "event", {**event, "meta": meta})

        begun, end = self.now, self.now + step.wait
        for ruleset in range(len(self.sessions)):
            if self.ticks:
                for self.now in range(begun + TICK, end, TICK):
                    call(ruleset, "tick")
            self.now = end
            call(ruleset, "tick")
        react(0)
        if step.do:
            before = len(fired)
            call(step.ruleset, step.do, step.what)
            react(before)
        done["matches"] += len(fired)
        return fired


def grouped(fired: Sequence[Any]) -> list[Any]:
    """Without the order of what one rule found at one time."""
    return [
        [key, sorted(json.dumps(each, sort_keys=True) for each in group)]
        for key, group in groupby(fired, lambda each: each[:3])
    ]


def run(bridge: Bridge, case: Case) -> None:
    """Do a case with and without failovers.

    :raises Difference: if that can be told from what comes.
    """
    rulesets = rulesets_of(case.rulebook)
    plain = Cluster(bridge, rulesets, ticks=True)
    other = Cluster(bridge, rulesets, ticks=False)
    done["examples"] += 1
    try:
        for number, step in enumerate(case.steps):
            want = plain.step(step._replace(faults=()), number)
            try:
                got = other.step(step, number)
            except Refused as error:
                raise Difference(f"step {number}: {error}") from None
            _compare(number, "fired", grouped(want), grouped(got))
            done["matches in another order"] += want != got
            _compare(number, "in memory", plain.memory(), other.memory())
            for one, two in zip(plain.stored, other.stored):
                _compare(number, "stored", one.comparable(), two.comparable())
    except Refused as error:
        refused[str(error)] += 1
    finally:
        plain.close()
        other.close()


def _compare(number: int, what: str, want: Any, got: Any) -> None:
    if want != got:
        raise Difference(
            f"step {number}, {what}:\n{json.dumps(want)}\n"
            f"with failovers:\n{json.dumps(got)}"
        )


# -- what is tried ----------------------------------------------------------

KINDS = ["event", "fact"]
ABSENT = "j is not defined"
PLAIN = ["single", "all", "any", "facts"]
TIMED = ["within", "once_within", "once_after", "accumulate_within"]
NUMBERS = st.sampled_from([1, 2, 3])
LETTERS = st.sampled_from(["a", "b"])
SECONDS = st.sampled_from(["1 seconds", "2 seconds", "3 seconds", "5 seconds"])
GROUPS = st.sampled_from([["event.k"], ["event.i"], ["event.k", "event.n.m"]])
WAITS = st.one_of(
    st.sampled_from([0, 0, 0, 0, 1, 10, 99, 100, 101, 500]),
    st.sampled_from([999, 1000, 1001, 2000, 3000, 4999, 5000, 12000]),
    st.integers(0, 6000),
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "a.b", "\U0001f600", "\x00\u2028\x1e", "\ud800"]),
    st.lists(st.one_of(NUMBERS, LETTERS, st.none()), max_size=3),
    st.just({"record": 0, "values": [{"n": [1, [2, {"x": None}]]}]}),
)


def seldom(draw: Any) -> bool:
    return bool(draw(st.integers(0, 9)) == 9)


@st.composite
def patterns(draw: Any, kind: str = "event", timed: bool = False) -> str:
    one, two = draw(NUMBERS), draw(NUMBERS)
    # Drools cannot build the negation together with a time.
    absent = f"{kind}.j is {'' if timed else 'not '}defined"
    choices = [
        f"{kind}.i == {one}",
        f"{kind}.i > 1",
        f'{kind}.k == "a"',
        f"{kind}.k is defined",
        f"{kind}.i in [{one}, {two}]",
        f'{kind}.i == {one} and {kind}.k == "a"',
        f'{kind}.i == {one} or {kind}.k == "b"',
        f"not {kind}.i == {one}",
        f"{kind}.n.m == {one}",
        f'{kind}.k is search("a")',
        absent,
    ]
    return str(draw(st.sampled_from(choices)))


@st.composite
def several(
    draw: Any,
    joins: bool = True,
    facts: bool = False,
    timed: bool = False,
    most: int = 3,
) -> list[str]:
    found: list[str] = []
    first = ""
    for name in "abc"[: draw(st.integers(2, most))]:
        kind = draw(st.sampled_from(["event", "fact"])) if facts else "event"
        text = draw(patterns(kind, timed))
        first = first or f"{kind}s.{name}"
        if found and joins and draw(st.booleans()):
            texts = [f"{kind}.k == {first}.k", f"{kind}.i > {first}.i"]
            text = draw(st.sampled_from(texts))
        found.append(f"{kind}s.{name} << {text}")
    return found


@st.composite
def conditions(draw: Any, kind: str, most: int) -> dict[str, Any]:
    if kind == "single" and draw(st.integers(0, 3)) == 3:
        return {"condition": f"event.{ABSENT}"}
    if kind == "single":
        return {"condition": draw(patterns(draw(st.sampled_from(KINDS))))}
    if kind == "all":
        return {"condition": {"all": draw(several(most=most))}}
    if kind == "any":
        return {"condition": {"any": draw(several(joins=False))}}
    if kind == "facts":
        return {"condition": {"all": draw(several(facts=True, most=most))}}
    span = draw(SECONDS)
    if kind == "not_all":
        events = draw(several(joins=False, timed=True))
        return {"condition": {"not_all": events, "timeout": span}}
    if kind == "within":
        events = draw(several(timed=True, most=most))
        return {"condition": {"all": events, "timeout": span}}
    throttle = {kind: span, "group_by_attributes": draw(GROUPS)}
    if kind == "accumulate_within":
        throttle["threshold"] = draw(st.integers(2, 3))
    return {"condition": draw(patterns(timed=True)), "throttle": throttle}


@st.composite
def rulesets(draw: Any, number: int, is_last: bool) -> dict[str, Any]:
    # The rules of a not_all choke on the control events of a throttle.
    kinds = PLAIN + draw(st.sampled_from([TIMED, ["not_all"]]))
    ttl = draw(st.one_of(st.none(), SECONDS))
    # An event that expires takes partial matches with it that it is no part
    # of: Drools goes on to the next one of the wrong parent.
    most = 3 if ttl is None else 2
    rules = []
    for each in range(draw(st.integers(1, 3))):
        rule = draw(conditions(draw(st.sampled_from(kinds)), most))
        rule["name"] = f"r{each} \U0001f600"
        rule["action"] = {"none": None}
        if not is_last and draw(st.booleans()):
            event = {"i": draw(NUMBERS), "k": draw(LETTERS)}
            rule["action"] = {
                "post_event": {"ruleset": f"s{number + 1}", "event": event}
            }
        rules.append(rule)
    return {
        "name": f"s{number}",
        "hosts": "all",
        "sources": [{"range": {"limit": 1}}],
        "rules": rules,
        "match_multiple_rules": draw(st.booleans()),
        **({} if ttl is None else {"default_events_ttl": ttl}),
    }


def takes_facts(ruleset: Any) -> bool:
    """Drools does not know what to do with facts that meet a timeout.

    With all and a timeout, Drools looks for the time of a fact as if it were
    an event. With not_all a fact that waits for the next window takes its
    turn early or late, as it happens.
    """
    return not any(
        "timeout" in rule["condition"]
        for rule in ruleset["rules"]
        if isinstance(rule["condition"], dict)
    )


def takes_back(ruleset: Any) -> bool:
    """What matches since facts have gone comes with one of these, whichever
    Drools' hash table has first."""
    return not any(
        isinstance(rule["condition"], str) and ABSENT in rule["condition"]
        for rule in ruleset["rules"]
    )


@st.composite
def messages(draw: Any, is_event: bool = True) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if not seldom(draw):
        made["i"] = draw(NUMBERS)
    if not seldom(draw):
        made["k"] = draw(ODD if seldom(draw) else LETTERS)
    if draw(st.integers(0, 3)) == 3:
        made["j"] = draw(ODD)
    if seldom(draw):
        made["n"] = draw(st.sampled_from([{"m": 1}, {"m": None}, {}, 1]))
    if is_event and draw(st.booleans()):
        made["meta"] = {"uuid": draw(LETTERS)}
    return made


@st.composite
def steps(draw: Any, rulebook: Sequence[Any]) -> Step:
    ruleset = draw(st.integers(0, len(rulebook) - 1))
    kinds = ["event", "event", "event", ""]
    if takes_facts(rulebook[ruleset]):
        kinds.append("fact")
    if takes_back(rulebook[ruleset]):
        kinds.append("retract")
    do = draw(st.sampled_from(kinds))
    what: Any = None
    if do == "event":
        what = draw(messages())
        if seldom(draw):
            what = {"events": [what, *draw(st.lists(messages(), max_size=2))]}
    elif do == "fact":
        what = draw(messages(is_event=False))
    elif do == "retract":
        excluded = st.sampled_from([[], ["k"], ["meta"], ["i", "meta"]])
        what = [draw(messages()), draw(st.booleans()), draw(excluded)]
    faults: list[str] = []
    if draw(st.booleans()):
        kind = st.sampled_from(["", "", *FAULTS])
        faults = draw(st.lists(kind, min_size=1, max_size=5))
    return Step(draw(WAITS), do, ruleset, what, faults)


@st.composite
def cases(draw: Any) -> Case:
    count = draw(st.integers(1, 2))
    rulebook = [
        draw(rulesets(each, is_last=each + 1 == count))
        for each in range(count)
    ]
    return Case(
        rulebook,
        draw(st.lists(steps(rulebook), min_size=1, max_size=20)),
    )


def explore(bridge: Bridge, examples: int, first_seed: int) -> Iterator[str]:
    """Try as many cases. Yields what differs, with the smallest such case."""
    for begun in range(0, examples, BATCH):
        try:
            _batch(bridge, min(BATCH, examples - begun), first_seed + begun)
        except Exception as error:
            found = getattr(error, "exceptions", [error])
            yield "\n".join(f"{type(e).__name__}: {e}" for e in found)
        else:
            yield ""


def _batch(bridge: Bridge, examples: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def try_one(case: Case) -> None:
        try:
            run(bridge, case)
        except Difference as error:
            raise Difference(f"{error}\n{json.dumps(case)}") from None

    try_one()


# -- scenes -----------------------------------------------------------------


class Leader:
    """One ruleset, led by one worker after another."""

    def __init__(self, bridge: Bridge, *rules: Any, **options: Any) -> None:
        source = {"range": {"limit": 1}}
        head = {"name": "s", "hosts": "all", "sources": [source]}
        for number, rule in enumerate(rules):
            rule.setdefault("name", f"r{number}")
            rule["action"] = {"none": None}
        rulebook = [{**head, "rules": list(rules), **options}]
        self.bridge = bridge
        self.cluster = Cluster(bridge, rulesets_of(rulebook), ticks=False)
        self.last = NOTHING

    @property
    def stored(self) -> Stored:
        return self.cluster.stored[0]

    def event(self, **event: Any) -> list[Any]:
        return self.do("event", event)

    def fact(self, **fact: Any) -> list[Any]:
        return self.do("fact", fact)

    def wait(self, milliseconds: int) -> list[Any]:
        self.cluster.now += milliseconds
        return self.do("tick")

    def do(self, what: str, message: Any = None) -> list[Any]:
        """The data of each match."""
        self.last = self.cluster.ask(0, what, message, self.cluster.now)
        self.stored.wrote(self.last)
        return [json.loads(each.data) for each in self.last.matches]

    def fail_over(self) -> None:
        before = self.cluster.memory()
        self.cluster.fail_over()
        assert self.cluster.memory() == before


def pair(**more: Any) -> dict[str, Any]:
    first = "events.a << event.i == 1"
    events = [first, "events.b << event.i == 2"]
    return {"condition": {"all": events, **more}}


def throttled(kind: str, **more: Any) -> dict[str, Any]:
    throttle = {kind: "5 seconds", "group_by_attributes": ["event.k"], **more}
    return {"condition": "event.i is defined", "throttle": throttle}


def what_matches_nothing_leaves_nothing(bridge: Bridge) -> None:
    leader = Leader(bridge, pair(), throttled("once_within"))
    assert leader.event(other=1) == []
    assert leader.last is NOTHING
    assert not leader.stored.is_known


def values_come_back_as_they_were(bridge: Bridge) -> None:
    odd = {
        "text": ["", "\U0001f600", "\x00\x1e\u2028", "\ud800", "\"'\\"],
        "number": [0, -1, 2**31, -(2**63), 2**64, 10**40, True, False],
        "real": [0.1, -0.0, 1e22, 1e300, 5e-324, 123456789.12345678, 1.0],
        "map": {"": None, "a.b": {"a": [[], {}, [None]]}, "record": 1},
    }
    rules = [pair(), throttled("once_after"), pair(timeout="9 seconds")]
    for rule in rules:
        leader = Leader(bridge, rule)
        leader.event(i=1, k=odd["map"], **odd)
        leader.fail_over()
        leader.fail_over()
        (found,) = leader.event(i=2, k=odd["map"]) or leader.wait(6000)
        event = found.get("a", found.get("m"))
        assert {**event, **odd} == event
        assert json.dumps(odd) == json.dumps({k: event[k] for k in odd})


def several_events_in_one_message(bridge: Bridge) -> None:
    leader = Leader(bridge, pair())
    message = {"events": [{"i": 1, "n": 1}, {"no": 1}, {"i": 1, "n": 2}]}
    assert leader.do("event", message) == []
    assert len(leader.stored.records) == 2
    leader.fail_over()
    assert len(leader.event(i=2)) == 2
    assert not leader.stored.records


def events_with_the_same_uuid_are_two(bridge: Bridge) -> None:
    leader = Leader(bridge, pair())
    leader.event(i=1, meta={"uuid": "x"})
    leader.event(i=1, meta={"uuid": "x"})
    leader.fail_over()
    assert len(leader.event(i=2, meta={"uuid": "x"})) == 2


def what_drools_can_read_is_not_too_deep(bridge: Bridge) -> None:
    deep = "[" * 999 + "]" * 999
    event = f'{{"i":1,"k":"a","deep":{deep}}}'
    for rule in (pair(), throttled("once_after")):
        stored, cluster = Stored(), Leader(bridge, rule).cluster
        (session,), (text,) = cluster.sessions, cluster.texts
        stored.wrote(bridge.assert_event(session, START, event))
        session = bridge.create(text)
        bridge.restore(session, stored.packed())
        answer = bridge.assert_event(session, START, '{"i":2,"k":"a"}')
        if not answer.matches:
            answer = bridge.advance(session, START + 6000)
        assert deep in answer.matches[0].data


def an_attribute_to_group_by_that_is_not_there(bridge: Bridge) -> None:
    keys: Sequence[Any] = ({}, {"k": None}, {"k": "a"})
    for kind in ("once_within", "once_after", "accumulate_within"):
        more = {"threshold": 3} if kind == "accumulate_within" else {}
        found = []
        for fails in (False, True):
            leader = Leader(bridge, throttled(kind, **more))
            fired = []
            for number in range(7):
                fired += leader.event(i=number, **keys[number % 3])
                if fails:
                    leader.fail_over()
            found.append(fired + leader.wait(6000))
        assert found[0] == found[1]


def what_matches_an_empty_memory_matches_once(bridge: Bridge) -> None:
    leader = Leader(bridge, {"condition": "event.j is not defined"})
    assert leader.wait(1) == [{}]
    assert not leader.stored.records
    leader.fail_over()
    assert leader.event(i=1) == []
    leader.event(j=1)
    leader.fail_over()
    assert leader.event(i=1) == []


def what_a_removal_makes_match_is_not_put_off(bridge: Bridge) -> None:
    present = {"condition": "event.j is defined"}
    absent = {"condition": "event.j is not defined"}
    leader = Leader(bridge, present, absent)
    leader.wait(1)
    assert leader.event(j=1) == [{"m": {"j": 1}}, {}]
    leader.fail_over()
    assert leader.event(i=1) == []


def a_not_all_binds_the_same_event_each_time(bridge: Bridge) -> None:
    patterns = ["events.a << event.i == 1", "events.b << event.i == 1"]
    patterns.append("events.c << event.i == 2")
    late = {"not_all": patterns, "timeout": "3 seconds"}
    leader = Leader(bridge, {"condition": late})
    found = []
    for _ in range(3):
        leader.event(i=1)
        found.append(leader.wait(3000))
        leader.wait(3000)
    leader.fail_over()
    leader.event(i=1)
    found.append(leader.wait(3000))
    assert found == [found[0]] * 4, found


def the_oldest_event_begins_the_next_window(bridge: Bridge) -> None:
    patterns = ["events.a << event.i == 1", "events.b << event.i == 2"]
    late = {"not_all": patterns, "timeout": "3 seconds"}
    for failing in range(5):
        leader = Leader(bridge, {"condition": late})
        leader.do("event", {"events": [{"i": 1, "n": 0}, {"i": 1, "n": 1}]})
        leader.event(i=1, n=2)
        leader.event(i=1, n=3)
        found = []
        for window in range(5):
            if window == failing:
                leader.fail_over()
            found += [each["a"]["n"] for each in leader.wait(3000)]
            leader.event(i=1, n=4 + window)
        assert sorted(found[:2]) == [0, 1] and found[2:] == [2, 3, 4], found


def what_is_found_before_a_refusal_is_told(bridge: Bridge) -> None:
    leader = Leader(
        bridge, throttled("once_after"), {"condition": "fact.x is defined"}
    )
    leader.event(i=5, k="a")
    leader.event(i=5, k="b")
    leader.fact(nothing=None, x=1)
    leader.cluster.now += 6000
    for _ in range(2):
        try:
            leader.do("retract", [{"x": 1}, False, []])
        except Refused:
            continue
        raise AssertionError("Drools compares with null now")
    (found,) = leader.wait(0)
    assert {each["k"] for each in found.values()} == {"a", "b"}


def what_drools_refuses_can_be_recovered(bridge: Bridge) -> None:
    leader = Leader(bridge, pair(timeout="9 seconds"))
    leader.event(i=1)
    for _ in range(2):
        with suppress(Refused):
            leader.fact(i=2)
        leader.wait(1)
    assert len(leader.stored.records) == 3
    leader.fail_over()
    leader.event(i=7)


def events_of_once_after_keep_their_order(bridge: Bridge) -> None:
    leader = Leader(bridge, throttled("once_after"))
    for k in "abca":
        leader.event(i=1, k=k)
    leader.fail_over()
    leader.event(i=1, k="b")
    leader.fail_over()
    (found,) = leader.wait(6000)
    order = [found[f"m_{n}"]["k"] for n in range(3)]
    assert order == ["c", "a", "b"], order


def what_one_event_completes_comes_in_its_order(bridge: Bridge) -> None:
    patterns = [f"events.{name} << event.n is defined" for name in "abc"]
    found = []
    for fails in (False, True):
        rule = {"condition": {"all": patterns}}
        leader = Leader(bridge, rule, match_multiple_rules=True)
        for number in range(4):
            leader.event(n=number)
        if fails:
            leader.fail_over()
        found.append(leader.event(n=4))
    assert found[0] == found[1]


def windows_end_at_their_time(bridge: Bridge) -> None:
    patterns = ["events.a << event.i == 1", "events.b << event.i == 2"]
    late = {"not_all": patterns, "timeout": "3 seconds"}
    leader = Leader(bridge, {"condition": late})
    leader.event(i=1)
    leader.wait(1000)
    leader.fail_over()
    assert leader.wait(1999) == []
    leader.fail_over()
    assert len(leader.wait(60_000)) == 1
    assert leader.last.matches[0].found_at == START + 3000
    assert not leader.stored.records


def facts_stay_and_can_be_retracted(bridge: Bridge) -> None:
    both = ["facts.a << fact.os == 'x'", "events.b << event.i == 1"]
    leader = Leader(bridge, {"condition": {"all": both}})
    leader.fact(os="x", n=1)
    leader.fail_over()
    assert len(leader.event(i=1)) == 1
    leader.fail_over()
    assert len(leader.event(i=1)) == 1
    leader.do("retract", [{"os": "x"}, True, []])
    leader.fail_over()
    assert leader.event(i=1) == []
    leader = Leader(bridge, {"condition": "fact.n is not defined"})
    leader.fact(n=1)
    leader.fail_over()
    found = leader.do("retract", [{"n": 1}, False, []])
    assert found == [{"m": {"n": 1}}]
    leader.fail_over()
    assert leader.fact(i=1) == []


def a_clock_that_was_set_back(bridge: Bridge) -> None:
    leader = Leader(bridge, throttled("once_within"))
    leader.event(i=1, k="a")
    leader.cluster.now -= 3_600_000
    leader.fail_over()
    assert leader.event(i=1, k="a") == []
    leader.cluster.now += 3_600_000
    assert leader.wait(4999) == []
    assert leader.event(i=1, k="a") == []
    leader.wait(1)
    assert len(leader.event(i=1, k="a")) == 1


def other_rules_expire_earlier(bridge: Bridge) -> None:
    old = Leader(bridge, pair(), default_events_ttl="60 seconds")
    new = Leader(bridge, pair(), default_events_ttl="5 seconds")
    old.event(i=1)
    old.wait(30_000)
    old.event(i=1)
    new.cluster.stored, new.cluster.now = old.cluster.stored, old.cluster.now
    (session,) = new.cluster.sessions
    bridge.restore(session, new.stored.packed())
    assert len(new.stored.records) == 2
    assert new.wait(1) == []
    assert len(new.stored.records) == 1
    assert len(new.event(i=2)) == 1


def what_is_stored_can_be_encrypted(bridge: Bridge) -> None:
    bridge = start_engine()
    bridge.encrypt("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    leader = Leader(bridge, pair())
    leader.event(i=1, secret="\U0001f600")
    assert "secret" not in leader.stored.packed()
    leader.fail_over()
    (found,) = leader.event(i=2)
    assert found["a"]["secret"] == "\U0001f600"


SCENES: tuple[Callable[[Bridge], None], ...] = (
    what_matches_nothing_leaves_nothing,
    values_come_back_as_they_were,
    what_drools_can_read_is_not_too_deep,
    several_events_in_one_message,
    events_with_the_same_uuid_are_two,
    an_attribute_to_group_by_that_is_not_there,
    what_matches_an_empty_memory_matches_once,
    what_a_removal_makes_match_is_not_put_off,
    a_not_all_binds_the_same_event_each_time,
    the_oldest_event_begins_the_next_window,
    what_is_found_before_a_refusal_is_told,
    what_drools_refuses_can_be_recovered,
    events_of_once_after_keep_their_order,
    what_one_event_completes_comes_in_its_order,
    windows_end_at_their_time,
    facts_stay_and_can_be_retracted,
    a_clock_that_was_set_back,
    other_rules_expire_earlier,
    what_is_stored_can_be_encrypted,
)


def main() -> int:
    bridge = start_engine()
    found: dict[str, str | None] = {}
    for scene in SCENES:
        try:
            scene(bridge)
        except Exception:
            found[scene.__name__] = traceback.format_exc()
        else:
            found[scene.__name__] = None
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
