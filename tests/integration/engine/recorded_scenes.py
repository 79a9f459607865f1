"""What upstream's calls on the engine lead to, played on a real Java.

Run as a program, this prints one JSON object: what is wrong with each scene,
null if nothing is. It has a process of its own since a JVM takes over signals.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any, Callable

os.environ["DROOLS_JPY_JVM_LOG"] = f"logFile={os.devnull}"

from ansible_rulebook.json_generator import visit_ruleset
from ansible_rulebook.util import get_java_home
from drools.exceptions import MessageNotHandledException
from drools.ruleset import Ruleset, RulesetCollection

from ansible_rulebook.ha.engine.bridge import Answer, Bridge
from ansible_rulebook.ha.engine.recorded import (
    MOST_FAILURES,
    RecordedEngine,
)
from ansible_rulebook.ha.engine.rulesets import reset
from ansible_rulebook.ha.state.recovery import in_json

if not os.environ.get("JAVA_HOME"):
    os.environ["JAVA_HOME"] = get_java_home() or ""

rules_parser: Any = import_module("ansible_rulebook.rules_parser")

RULES: list[Any] = [
    {"name": "hit", "condition": "event.hit is defined"},
    {
        "name": "pair",
        "condition": {
            "all": [
                "events.one << event.open is defined",
                "events.two << event.close == events.one.open",
            ]
        },
    },
    {
        "name": "after",
        "condition": "event.slow is defined",
        "throttle": {
            "once_after": "1 second",
            "group_by_attributes": ["event.slow"],
        },
    },
    {"name": "fact", "condition": "fact.known is defined"},
]


class Recording:
    """Remembers what it is told; the real one is in the tests of state."""

    def __init__(self) -> None:
        self.is_recording = True
        self.written: list[tuple[Answer, bytes | None]] = []
        self.done: list[str] = []
        self.emptied: list[tuple[str, int, int]] = []

    def wrote(
        self,
        ruleset: str,
        answer: Answer,
        event: bytes | None = None,
        consumed: tuple[str, int, int] | None = None,
    ) -> list[str]:
        assert ruleset == "R"
        self.written.append((answer, event))
        self.emptied += [] if consumed is None else [consumed]
        return [
            in_json(match.rule, match.data, f"id-{number}")
            for number, match in enumerate(answer.matches)
        ]

    def completed(self, match: str) -> None:
        self.done.append(match)


class Source:
    """Where an event came from, by what a scene says of it."""

    def __init__(
        self,
        hopeless: bool = False,
        repeated: bool = False,
        row: tuple[str, int, int] | None = None,
    ) -> None:
        self.row = row
        self.hopeless = hopeless
        self.repeated = repeated
        self.told: list[str] = []

    def is_hopeless(self) -> bool:
        return self.hopeless

    def is_repeated(self, ruleset: str) -> bool:
        return self.repeated

    def key(self, ruleset: str) -> bytes:
        return b"key"

    def done(self) -> tuple[str, int, int] | None:
        return self.row

    def written(self) -> None:
        self.told.append("written")

    def not_written(self) -> None:
        self.told.append("not written")


class House:
    """A ruleset in the engine, as upstream has it."""

    def __init__(self, java: Any, bridge: Bridge) -> None:
        self.recording = Recording()
        self.source: Source | None = Source()
        self.delivered: list[str] = []
        self.failures: list[str] = []
        self.engine = RecordedEngine(
            java,
            bridge,
            self.recording,
            lambda: self.source,
            lambda ruleset, match: self.delivered.append(match),
            self.failures.append,
        )
        RulesetCollection.engine = self.engine
        rulebook = {
            "name": "R",
            "hosts": "all",
            "sources": [{"range": {"limit": 1}}],
            "rules": [{**rule, "action": {"none": None}} for rule in RULES],
        }
        parsed = rules_parser.parse_rule_sets([rulebook])[0]
        definition = visit_ruleset(parsed, {})
        self.ruleset = Ruleset(
            "R", json.dumps(definition.get("RuleSet", definition))
        )

    @property
    def session(self) -> int:
        number: int = self.ruleset._session_id
        return number

    def post(self, **event: Any) -> list[Any]:
        text = json.dumps({**event, "meta": {"uuid": "u"}})
        found: list[Any] = json.loads(
            self.engine.assertEvent(self.session, text)
        )
        return found


def matches_come_in_upstreams_format(house: House) -> None:
    (match,) = house.post(hit="é\U0001f600\0")
    assert match["name"] == "hit" and match["matching_uuid"] == "id-0"
    assert match["events"]["m"]["hit"] == "é\U0001f600\0"
    ((answer, event),) = house.recording.written
    assert event == b"key" and not answer.kept
    assert house.source is not None and house.source.told == ["written"]


def what_changes_nothing_is_not_written(house: House) -> None:
    fact = json.dumps({"nobody": "asks"})
    before = len(house.recording.written)
    house.post(slow=1)
    assert len(house.recording.written) == before + 1
    house.engine.retractFact(house.session, fact)
    assert len(house.recording.written) == before + 1
    assert house.source is not None and house.source.told == ["written"]


def an_event_that_came_before_is_not_given_to_the_rules(
    house: House,
) -> None:
    house.source = Source(repeated=True)
    assert house.post(hit=1) == []
    assert house.recording.written == []
    assert house.source.told == ["written"]  # so it is acknowledged


def an_event_of_an_inbox_is_deleted_with_what_came_of_it(
    house: House,
) -> None:
    events: tuple[dict[str, Any], ...] = ({"hit": 1}, {"nobody": "asks"})
    for number, event in enumerate(events):
        house.source = Source(row=("in", number, 0))
        house.post(**event)
        assert house.recording.emptied == [
            ("in", each, 0) for each in range(number + 1)
        ]
        assert house.source.told == ["written"]
    assert len(house.recording.written) == 2


def an_event_of_an_inbox_that_came_before_is_deleted(house: House) -> None:
    house.source = Source(repeated=True, row=("in", 1, 0))
    assert house.post(hit=1) == []
    assert house.recording.emptied == [("in", 1, 0)]
    assert house.source.told == ["written"]


def one_that_could_never_be_stored_is_refused(house: House) -> None:
    house.source = Source(hopeless=True)
    try:
        house.post(hit=1)
    except MessageNotHandledException:
        return
    raise AssertionError("it was taken")


def after_the_term_an_event_goes_back(house: House) -> None:
    house.recording.is_recording = False
    try:
        house.post(hit=1)
    except RuntimeError:
        assert house.source is not None
        assert house.source.told == ["not written"]
        return
    raise AssertionError("it was taken")


def after_the_term_an_action_is_cancelled(house: House) -> None:
    house.recording.is_recording, house.source = False, None
    calls: list[Callable[[], Any]] = [
        lambda: house.post(hit=1),
        lambda: house.engine.assertFact(house.session, '{"known": 1}'),
        lambda: house.engine.retractFact(house.session, '{"known": 1}'),
        lambda: house.engine.retractMatchingFacts(
            house.session, '{"known": 1}', True, []
        ),
        lambda: house.engine.advanceTime(house.session, 1, "SECONDS"),
    ]
    for call in calls:
        try:
            call()
        except asyncio.CancelledError:
            continue
        raise AssertionError("upstream would take it for done")


def facts_are_set_and_retracted(house: House) -> None:
    house.source = None
    (match,) = json.loads(
        house.engine.assertFact(house.session, '{"known": 1, "more": 2}')
    )
    assert match["name"] == "fact"
    assert json.loads(house.engine.getFacts(house.session)) == [
        {"known": 1, "more": 2}
    ]
    house.engine.retractMatchingFacts(house.session, '{"known": 1}', True, [])
    assert json.loads(house.engine.getFacts(house.session)) == []
    kept, gone = (answer for answer, _ in house.recording.written)
    assert [record.number for record in kept.kept] == list(gone.gone)


def timers_run_out_by_themselves(house: House) -> None:
    house.post(slow=1)

    async def wait() -> None:
        house.engine.clock.start()
        end = time.monotonic() + 30
        while not house.delivered:
            assert time.monotonic() < end, "it never fires"
            await asyncio.sleep(0.01)
        house.engine.clock.pause()

    asyncio.run(wait())
    (match,) = map(json.loads, house.delivered)
    assert match["name"] == "after"
    house.delivered.clear()
    house.post(slow=2)
    house.recording.is_recording = False
    time.sleep(1.2)
    house.engine._advance()
    assert not house.delivered, "nobody leads"


def time_passes_before_an_event(house: House) -> None:
    house.post(slow=1)
    time.sleep(1.2)
    names = [match["name"] for match in house.post(hit=1)]
    assert names == ["after", "hit"]


def statistics_of_a_session_that_is_being_replaced(house: House) -> None:
    assert house.engine.sessionStats(None) is None
    stats = json.loads(house.engine.sessionStats(house.session))
    assert stats["numberOfRules"] == len(RULES)
    assert json.loads(house.engine.dispose(house.session))


def a_reset_forgets(house: House) -> None:
    house.post(open="door")
    reset(house.ruleset)
    assert house.post(close="door") == []


def without_state_the_engine_is_upstreams(house: House) -> None:
    house.engine.stop_recording()
    reset(house.ruleset)
    # Its timers answer through a channel, and it waits for who listens.
    with socket.create_connection(("localhost", house.engine.port())):
        end = time.monotonic() + 30
        while True:
            with suppress(RuntimeError):
                (match,) = house.post(hit=1)
                break
            assert time.monotonic() < end, "it does not see the connection"
            time.sleep(0.05)
    assert match["hit"]
    assert house.recording.written == []
    house.engine.deleteActionInfo(house.session, "m")
    assert house.recording.done == []
    json.loads(house.engine.sessionStats(house.session))


def what_is_done_is_told(house: House) -> None:
    house.engine.deleteActionInfo(house.session, "m")
    assert house.recording.done == ["m"]


def an_engine_that_takes_nothing_is_told_of_once(house: House) -> None:
    def post_nonsense() -> None:
        with suppress(RuntimeError):
            house.engine.assertEvent(house.session, "no JSON")

    for _ in range(MOST_FAILURES - 1):
        post_nonsense()
    house.post(hit=1)  # so it is not the engine
    for _ in range(MOST_FAILURES - 1):
        post_nonsense()
    assert house.failures == []
    for _ in range(MOST_FAILURES):
        post_nonsense()
    (why,) = house.failures
    assert "no JSON" in why or "token" in why, why
    assert "\n" not in why


SCENES: tuple[Callable[[House], None], ...] = (
    matches_come_in_upstreams_format,
    what_changes_nothing_is_not_written,
    an_event_that_came_before_is_not_given_to_the_rules,
    an_event_of_an_inbox_is_deleted_with_what_came_of_it,
    an_event_of_an_inbox_that_came_before_is_deleted,
    one_that_could_never_be_stored_is_refused,
    after_the_term_an_event_goes_back,
    after_the_term_an_action_is_cancelled,
    facts_are_set_and_retracted,
    timers_run_out_by_themselves,
    time_passes_before_an_event,
    statistics_of_a_session_that_is_being_replaced,
    a_reset_forgets,
    without_state_the_engine_is_upstreams,
    what_is_done_is_told,
    an_engine_that_takes_nothing_is_told_of_once,
)


def main() -> None:
    java = RulesetCollection.api()
    found: dict[str, str | None] = {}
    for scene in SCENES:
        try:
            scene(House(java, Bridge(java)))
            found[scene.__name__] = None
        except BaseException:
            found[scene.__name__] = traceback.format_exc()
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # the JVM's threads would keep it


if __name__ == "__main__":
    main()
