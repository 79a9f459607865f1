"""An oracle of recovery: the engine with failovers against one without."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

# One small Java, and no collection that is asked for: every session that is
# made would ask for one.
os.environ["JAVA_TOOL_OPTIONS"] = (
    "-XX:+DisableExplicitGC -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
)
os.environ["DROOLS_JPY_JVM_LOG"] = f"logFile={os.devnull}"

from ansible_rulebook import util

if not os.environ.get("JAVA_HOME"):
    os.environ["JAVA_HOME"] = util.get_java_home() or ""

from drools.ruleset import RulesetCollection
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from ansible_rulebook import json_generator, rules_parser
from ansible_rulebook.ha.engine import bridge as engine

rules_parser.parse_condition_value = lru_cache(maxsize=None)(
    rules_parser.parse_condition_value
)

START = 4_102_444_800_000  # 2100: a new session's clock shows the present
TICK = 100  # milliseconds
NONE, BEFORE, LOST, TWICE, EARLY = range(5)  # what happens to a call


class Step(NamedTuple):
    """Time passes, then something comes."""

    wait: int
    do: str  # event, fact, retract, exact, or "" for nothing
    ruleset: int
    what: Any
    faults: Sequence[int] = ()
    """What happens to each call on the engine: a failover before it, or one
    in which its answer is lost."""


class Case(NamedTuple):
    rulesets: Any
    steps: Sequence[Step]


# --- the machinery -----------------------------------------------------------


REFUSED: Counter[str] = Counter()


class Refused(Exception):
    """The engine cannot do this, with or without failovers."""


class Difference(AssertionError):
    """A recovery that was not exact."""


def rulesets_of(rulebook: Any) -> list[dict[str, Any]]:
    """As upstream hands them to the engine."""
    parsed = rules_parser.parse_rule_sets(json.loads(json.dumps(rulebook)))
    found = [json_generator.visit_ruleset(each, {}) for each in parsed]
    return [each.get("RuleSet", each) for each in found]


class Leader:
    """Sessions of all rulesets, and what was stored of them."""

    def __init__(
        self, java: engine.Bridge, rulesets: list[dict[str, Any]], ticks: bool
    ) -> None:
        self.java = java
        self.ticks = ticks
        self.texts = [json.dumps(each) for each in rulesets]
        self.journals: list[dict[int, engine.Record]] = [{} for _ in rulesets]
        self.touched = [False for _ in rulesets]
        self.posts = {
            (number, each["Rule"]["name"]): args["event"]
            for number, ruleset in enumerate(rulesets)
            for each in ruleset["rules"]
            for args in [each["Rule"]["actions"][0]["Action"]["action_args"]]
            if "event" in args
        }
        self.now = START
        self.sessions = [java.create(each) for each in self.texts]

    def close(self) -> None:
        for each in self.sessions:
            self.java.dispose(each)

    def fail_over(self) -> None:
        """Another leader takes over, with what was stored."""
        old = self.sessions
        self.sessions = []
        for text, journal, touched in zip(
            self.texts, self.journals, self.touched
        ):
            session = self.java.create(text)
            self.sessions.append(session)
            if touched:
                self.java.restore(
                    session,
                    engine.packed([journal[each] for each in sorted(journal)]),
                )
                here = self.java.time(session)
                left = self.java.advance(session, here)
                if left is not engine.NOTHING:
                    raise Difference(f"a restore left {left}")
            if self.java.retained(session) != len(journal):
                raise Difference("a restore left more or less")
        for each in old:
            self.java.dispose(each)

    def check(self) -> None:
        """What is stored is what there is."""
        for session, journal in zip(self.sessions, self.journals):
            there = len(json.loads(self.java.facts(session)))
            counted = self.java.retained(session)
            if not there == counted == len(journal):
                raise Difference(
                    f"{there} in memory, {counted} counted, "
                    f"{len(journal)} stored"
                )

    def memory(self) -> list[list[str]]:
        return [
            sorted(
                json.dumps(each, sort_keys=True)
                for each in json.loads(self.java.facts(session))
            )
            for session in self.sessions
        ]

    def call(
        self, ruleset: int, do: str, what: Any, fault: int
    ) -> list[engine.Match]:
        if fault in (BEFORE, TWICE):
            self.fail_over()
        if fault == TWICE:
            self.fail_over()
        if fault in (LOST, EARLY):
            at = self.now
            if fault == EARLY:
                here = self.java.time(self.sessions[ruleset])
                at = (here + at) // 2
            self.apply(ruleset, do, what, at)
            self.fail_over()
        answer = self.apply(ruleset, do, what, self.now)
        if isinstance(answer, str):
            if self.ticks:
                raise Refused(answer)
            raise Difference(answer)
        journal = self.journals[ruleset]
        if answer is not engine.NOTHING:
            self.touched[ruleset] = True
        for gone in answer.gone:
            if gone not in journal:
                raise Difference(f"{gone} has gone, and was not there")
            del journal[gone]
        for kept in answer.kept:
            journal[kept.number] = kept
        return list(answer.matches)

    def apply(
        self, ruleset: int, do: str, what: Any, at: int
    ) -> engine.Answer | str:
        session = self.sessions[ruleset]
        try:
            if do == "advance":
                return self.java.advance(session, at)
            if do == "event":
                return self.java.assert_event(session, at, json.dumps(what))
            if do == "fact":
                return self.java.assert_fact(session, at, json.dumps(what))
            fact, partial, exclude = what
            return self.java.retract(
                session, at, json.dumps(fact), partial, exclude
            )
        except RuntimeError as error:
            if os.environ.get("V"):
                print(error)
            return str(error).splitlines()[0]

    def step(self, step: Step, number: int) -> list[Any]:
        faults = iter(step.faults)
        fired: list[Any] = []

        def done(ruleset: int, found: list[engine.Match]) -> None:
            for match in found:
                rule = json.loads(match.rule)
                at = max(match.found_at - START, 0)
                fired.append([ruleset, rule, at, json.loads(match.data)])

        def react(since: int) -> None:
            while since < len(fired):
                ruleset, rule, _, _ = fired[since]
                since += 1
                event = self.posts.get((ruleset, rule))
                if event is not None:
                    uuid = f"{number}-{since}"
                    event = {**event, "meta": {"uuid": uuid}}
                    target = ruleset + 1
                    done(
                        target,
                        self.call(target, "event", event, next(faults, NONE)),
                    )

        start, self.now = self.now, self.now + step.wait
        end = self.now
        for ruleset in range(len(self.sessions)):
            if self.ticks:
                for tick in range(start + TICK, end, TICK):
                    self.now = tick
                    done(ruleset, self.call(ruleset, "advance", None, NONE))
                self.now = end
            done(
                ruleset,
                self.call(ruleset, "advance", None, next(faults, NONE)),
            )
        react(0)
        if step.do:
            before = len(fired)
            done(
                step.ruleset,
                self.call(
                    step.ruleset, step.do, step.what, next(faults, NONE)
                ),
            )
            react(before)
        return fired


def grouped(fired: list[Any]) -> list[Any]:
    """What one rule found at once, in any order.

    Drools puts joins off until each pattern of a rule has something, so in
    which order it finds them depends on what was there and has long gone.
    """
    return [
        (key, sorted(json.dumps(each, sort_keys=True) for each in group))
        for key, group in groupby(fired, lambda each: each[:3])
    ]


def run(java: engine.Bridge, case: Case) -> None:
    """Do it with and without failovers.

    :raises Difference: if that can be told from what comes.
    """
    rulesets = rulesets_of(case.rulesets)
    plain = Leader(java, rulesets, ticks=True)
    other = Leader(java, rulesets, ticks=False)
    try:
        for number, step in enumerate(case.steps):
            want = plain.step(step._replace(faults=()), number)
            got = other.step(step, number)
            if grouped(want) != grouped(got):
                raise Difference(
                    f"step {number}: {json.dumps(want)} without, "
                    f"{json.dumps(got)} with failovers"
                )
            plain.check()
            other.check()
            if plain.memory() != other.memory():
                raise Difference(
                    f"step {number}: memory {plain.memory()} without, "
                    f"{other.memory()} with failovers"
                )
    except Refused as error:
        REFUSED[str(error)] += 1
    finally:
        plain.close()
        other.close()


# --- what is tried -----------------------------------------------------------

ints = st.sampled_from([1, 2, 3])
letters = st.sampled_from(["a", "b"])
windows = st.sampled_from([1, 2, 3, 5])
waits = st.one_of(
    st.sampled_from([0, 0, 0, 10, 100, 1000, 1, 99, 101, 500, 2000, 3000]),
    st.sampled_from([999, 1001, 1999, 2001, 4999, 5000, 5001, 12000]),
    st.integers(0, 6000),
)
values = st.one_of(
    ints,
    letters,
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
    st.sampled_from(["\U0001f600", "a.b", "\x00", "\u2028", ""]),
    st.lists(st.one_of(ints, letters, st.none()), max_size=3),
    st.just([{"n": [1, [2, {"x": None}]]}]),
)


@st.composite
def simple(draw: Any, kind: str = "event", timed: bool = False) -> str:
    n, m = draw(ints), draw(ints)
    return str(
        draw(
            st.sampled_from(
                [
                    f"{kind}.i == {n}",
                    f"{kind}.i > 1",
                    f"{kind}.k is defined",
                    f'{kind}.k == "a"',
                    f"{kind}.i in [{n}, {m}]",
                    f"{kind}.j is {'' if timed else 'not '}defined",
                    f'{kind}.i == {n} and {kind}.k == "a"',
                    f'{kind}.i == {n} or {kind}.k == "b"',
                    f"not {kind}.i == {n}",
                ]
            )
        )
    )


@st.composite
def several(
    draw: Any, joins: bool = True, facts: bool = False, timed: bool = False, most: int = 3
) -> list[str]:
    found: list[str] = []
    for number in range(draw(st.integers(2, most))):
        kind = draw(st.sampled_from(["event", "fact"])) if facts else "event"
        text = draw(simple(kind, timed))
        if number and joins and draw(st.booleans()):
            other = found[0].split(" ")[0]
            text = draw(
                st.sampled_from(
                    [f"{kind}.k == {other}.k", f"{kind}.i > {other}.i"]
                )
            )
        found.append(f"{kind}s.{'abc'[number]} << {text}")
    return found


PLAIN = ["single", "all", "any", "facts", "within"]
THROTTLES = ["once_within", "once_after", "accumulate_within"]


@st.composite
def rule(draw: Any, name: str, posts: bool, kinds: list[str], most: int) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name}
    kind = draw(st.sampled_from(kinds))
    span = f"{draw(windows)} seconds"
    if kind == "single":
        made["condition"] = draw(simple(draw(st.sampled_from(["event", "fact"]))))
    elif kind == "all":
        made["condition"] = {"all": draw(several(most=most))}
    elif kind == "any":
        made["condition"] = {"any": draw(several(joins=False))}
    elif kind == "facts":
        made["condition"] = {"all": draw(several(facts=True, most=most))}
    elif kind == "not_all":
        made["condition"] = {
            "not_all": draw(several(joins=False, timed=True)),
            "timeout": span,
        }
    elif kind == "within":
        made["condition"] = {"all": draw(several(timed=True, most=most)), "timeout": span}
    else:
        made["condition"] = draw(simple(timed=True))
        made["throttle"] = {
            kind: span,
            "group_by_attributes": draw(
                st.sampled_from([["event.k"], ["event.i"], ["event.k", "event.i"]])
            ),
        }
        if kind == "accumulate_within":
            made["throttle"]["threshold"] = draw(st.integers(2, 3))
    made["action"] = {"none": None}
    if posts and draw(st.booleans()):
        event = {"i": draw(ints), "k": draw(letters)}
        made["action"] = {"post_event": {"ruleset": "s1", "event": event}}
    return made


@st.composite
def ruleset(draw: Any, name: str, posts: bool) -> dict[str, Any]:
    # Drools cannot do these together: the rules of a not_all choke on the
    # control events of a throttle.
    kinds = PLAIN + draw(st.sampled_from([THROTTLES, ["not_all"]]))
    ttl = draw(st.booleans())
    # An event that expires takes partial matches with it that it is no part
    # of: Drools goes from match to match the wrong way.
    most = 2 if ttl else 3
    made: dict[str, Any] = {
        "name": name,
        "hosts": "all",
        "sources": [{"range": {"limit": 1}}],
        "rules": [
            draw(rule(f"r{number}", posts, kinds, most))
            for number in range(draw(st.integers(1, 3)))
        ],
    }
    if draw(st.booleans()):
        made["match_multiple_rules"] = True
    if ttl:
        made["default_events_ttl"] = f"{draw(windows)} seconds"
    return made


@st.composite
def message(draw: Any, meta: bool) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if draw(st.integers(0, 9)) != 9:
        made["i"] = draw(ints)
    if draw(st.integers(0, 4)) != 4:
        made["k"] = draw(letters)
    if draw(st.integers(0, 9)) == 9:
        made["j"] = draw(values)
    if draw(st.integers(0, 9)) == 9:
        made["k"] = draw(values)
    if meta and draw(st.booleans()):
        made["meta"] = {"uuid": draw(letters)}
    return made


@st.composite
def step(draw: Any, rulesets: int) -> Step:
    do = draw(st.sampled_from(["event", "event", "event", "fact", "retract", ""]))
    what: Any = None
    if do == "event":
        what = draw(message(True))
        if draw(st.integers(0, 9)) == 9:
            what = {"events": draw(st.lists(message(True), min_size=1, max_size=3))}
    elif do == "fact":
        what = draw(message(False))
    elif do == "retract":
        what = [
            draw(message(False)),
            draw(st.booleans()),
            draw(st.sampled_from([[], ["k"], ["meta"], ["i", "meta"]])),
        ]
    faults: list[int] = []
    if draw(st.booleans()):
        faults = draw(
            st.lists(
                st.sampled_from([NONE, NONE, BEFORE, LOST, TWICE, EARLY]),
                max_size=5,
            )
        )
    return Step(
        draw(waits),
        do,
        draw(st.integers(0, rulesets - 1)),
        what,
        faults,
    )


@st.composite
def cases(draw: Any) -> Case:
    number = draw(st.integers(1, 2))
    rulesets = [
        draw(ruleset(f"s{each}", posts=each + 1 < number))
        for each in range(number)
    ]
    steps = draw(st.lists(step(number), min_size=1, max_size=14))
    return Case(rulesets, steps)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay")
    options = parser.parse_args()
    java = engine.Bridge(RulesetCollection.api())
    if options.replay:
        for line in Path(options.replay).read_text().splitlines():
            found = json.loads(line)
            case = Case(found[0], [Step(*each) for each in found[1]])
            try:
                run(java, case)
                print("same")
            except Difference as error:
                print(error)
        return 0
    begun = time.monotonic()
    count = 0
    bad = 0
    batch = 0

    while count < options.examples and bad < 3:
        @seed(options.seed + batch)
        @settings(
            max_examples=200,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @given(cases())
        def test(case: Case) -> None:
            nonlocal count
            count += 1
            try:
                run(java, case)
            except Difference as error:
                raise Difference(f"{error}\n{json.dumps(case)}") from None

        batch += 1
        try:
            test()
        except BaseException as error:
            bad += 1
            for each in getattr(error, "exceptions", [error]):
                print(type(each).__name__, str(each)[:3000], flush=True)
                print("....", str(each)[-1500:], flush=True)
    print(count, time.monotonic() - begun, REFUSED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
