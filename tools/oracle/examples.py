"""Random cases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from ansible_rulebook.ha.engine.bridge import Bridge

from .case import FAULTS, Case, Step
from .comparison import run
from .errors import Difference

BATCH = 100  # examples

KINDS = ["event", "fact"]
ABSENT = "j is not defined"
PLAIN = ["single", "all", "any", "facts"]
TIMED = ["within", "once_within", "once_after", "accumulate_within"]
NUMBERS = st.sampled_from([1, 2, 3])
LETTERS = st.sampled_from(["a", "b"])
SECONDS = st.sampled_from(["1 seconds", "2 seconds", "3 seconds", "5 seconds"])
PATHS = [
    "event.i",
    "event.k",
    "event.n.m",
    "event.p",
    "event.p.a.b",
    'event.p["a.b"]',
    "event.p.l",
    "event.p.l[0]",
    "event.p.l.x",
]
GROUPS = st.one_of(
    st.sampled_from([["event.k"], ["event.i"], ["event.p.a.b"]]),
    st.lists(st.sampled_from(PATHS), min_size=1, max_size=3, unique=True),
)
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
        f'{kind}.p.a.b == "a"',
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
    pattern = "event.i is defined" if draw(st.booleans()) else None
    pattern = pattern or draw(patterns(timed=True))
    return {"condition": pattern, "throttle": throttle}


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
def nested(draw: Any) -> dict[str, Any]:
    value = draw(ODD if seldom(draw) else st.one_of(LETTERS, NUMBERS))
    one = {"a": {"b": value}, "a.b": draw(LETTERS)}
    lists = st.lists(st.one_of(NUMBERS, st.just({"x": value})), max_size=2)
    return {**one, "l": draw(lists)} if draw(st.booleans()) else one


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
    if draw(st.booleans()):
        made["p"] = draw(nested())
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
    script: list[Step] = []
    for step in draw(st.lists(steps(rulebook), min_size=1, max_size=20)):
        burst = draw(st.sampled_from([0, 0, 0, 1, 3]))
        script += [step, *[step._replace(wait=0)] * burst]
    return Case(rulebook, script)


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
