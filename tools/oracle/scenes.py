"""Cases that were thought of, with what has to come.

Run as a program, this does them and writes one JSON object to standard
output: what is wrong with each, null if nothing is.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from typing import Any, Callable

from ansible_rulebook.ha.engine.bridge import NOTHING, Bridge

from .engine import rulesets_of, start_engine
from .errors import Refused
from .sessions import START, Sessions
from .stored import Stored


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
        self.sessions = Sessions(bridge, rulesets_of(rulebook), ticks=False)
        self.last = NOTHING

    @property
    def stored(self) -> Stored:
        return self.sessions.stored[0]

    def event(self, **event: Any) -> list[Any]:
        return self.do("event", event)

    def fact(self, **fact: Any) -> list[Any]:
        return self.do("fact", fact)

    def wait(self, milliseconds: int) -> list[Any]:
        self.sessions.now += milliseconds
        return self.do("tick")

    def do(self, what: str, message: Any = None) -> list[Any]:
        """The data of each match."""
        self.last = self.sessions.ask(0, what, message, self.sessions.now)
        self.stored.wrote(self.last)
        return [json.loads(each.data) for each in self.last.matches]

    def fail_over(self) -> None:
        before = self.sessions.memory()
        self.sessions.fail_over()
        assert self.sessions.memory() == before


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
        stored, sessions = Stored(), Leader(bridge, rule).sessions
        (session,), (text,) = sessions.ids, sessions.texts
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


def throttles_group_by_any_path(bridge: Bridge) -> None:
    event = {
        "payload": {"do": "say", "a.b": 1.5, "big": 10**40, "none": None},
        "l": [{"x": [1, {"y": True}]}, {"x": 2**40}],
    }
    paths = [
        ["event.payload.do"],
        ['event.payload["a.b"]', "event.payload.big"],
        ["event.payload"],
        ["event.payload.none", "event.i"],
        ["event.l"],
        ["event.l[0].x[1].y"],
        ["event.l.x"],  # of all elements
    ]
    kinds = {
        "once_within": [1, 0, 0, 1, 1],
        "once_after": [0, 0, 0, 0, 0],
        "accumulate_within": [0, 0, 1, 0, 0],
    }
    other = {"payload": {"do": "1", "a.b": "1.5", "none": 0}, "l": [1]}
    another = {"payload": {"do": 1, "a.b": 1, "none": ""}, "l": [{"x": 1}]}
    for path, (kind, counts) in product(paths, kinds.items()):
        more = {"threshold": 3} if kind == "accumulate_within" else {}
        rule = throttled(kind, group_by_attributes=path, **more)
        leader = Leader(bridge, rule)
        found = []
        for each in (event, event, event, other, another):
            found.append(len(leader.event(i=1, **each)))
            leader.fail_over()
        assert found == counts, (kind, path, found)
        ended = leader.wait(6000)
        if kind == "once_after":
            events = {f"m_{n}" for n in range(3)}
            assert [set(each) for each in ended] == [events], (path, ended)


def a_number_that_is_reached_begins_anew(bridge: Bridge) -> None:
    for match_multiple_rules in (False, True):
        leader = Leader(
            bridge,
            {"condition": "event.payload.i is defined"},
            throttled(
                "accumulate_within",
                threshold=4,
                group_by_attributes=["event.payload.do"],
            ),
            match_multiple_rules=match_multiple_rules,
        )
        fired = []
        for _ in range(9):
            fired.append(len(leader.event(i=1, payload={"do": "say"})))
            leader.fail_over()
        assert fired == [0, 0, 0, 1, 0, 0, 0, 1, 0]


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
    leader.sessions.now += 6000
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
    leader.sessions.now -= 3_600_000
    leader.fail_over()
    assert leader.event(i=1, k="a") == []
    leader.sessions.now += 3_600_000
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
    new.sessions.stored, new.sessions.now = (
        old.sessions.stored,
        old.sessions.now,
    )
    (session,) = new.sessions.ids
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
    throttles_group_by_any_path,
    a_number_that_is_reached_begins_anew,
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
