"""Scenes with Drools and PostgreSQL behind a GuardedEngine.

Run with a DSN; writes one JSON object to standard output, what each scene
saw. The scenes are in a process of their own since a JVM takes over signals.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
import uuid
from contextlib import suppress
from typing import Any

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # whatever Java prints is no answer
logging.basicConfig(level=logging.ERROR)

from ansible_rulebook import util  # noqa: E402

if not os.environ.get("JAVA_HOME"):
    os.environ["JAVA_HOME"] = util.get_java_home() or ""

import psycopg  # noqa: E402
from drools.exceptions import MessageNotHandledException  # noqa: E402
from drools.rule import Rule  # noqa: E402
from drools.ruleset import (  # noqa: E402
    Ruleset,
    RulesetCollection,
    assert_fact,
    post,
)

from ansible_rulebook.ha.conninfo import Conninfo  # noqa: E402
from ansible_rulebook.ha.drools_state import (  # noqa: E402
    DroolsState,
    reset,
)
from ansible_rulebook.ha.guarded_engine import GuardedEngine  # noqa: E402
from ansible_rulebook.ha.jdbc import (  # noqa: E402
    application_name,
    jdbc_parameters,
)
from ansible_rulebook.ha.lease import Timings  # noqa: E402
from ansible_rulebook.ha.practice import practise  # noqa: E402
from ansible_rulebook.ha.session_clock import without_clock  # noqa: E402
from ansible_rulebook.ha.state_database import StateDatabase  # noqa: E402

EVENTS = 50
MINE = application_name(1, "0123456789abcdef")
TERM = """
INSERT INTO eda_ha_term (ha_uuid, term, writer, worker_id)
VALUES (%s, 1, %s, '') ON CONFLICT (ha_uuid) DO UPDATE
   SET writer = EXCLUDED.writer
"""
STORED = "SELECT count(*) FROM drools_ansible_matching_event"


def integer(name: str, number: int) -> dict[str, Any]:
    left, right = {"Event": name}, {"Integer": number}
    return {"EqualsExpression": {"lhs": left, "rhs": right}}


def ruleset(
    name: str, *conditions: Any, throttle: Any = None, **extra: Any
) -> str:
    rule: dict[str, Any] = {
        "name": "rule",
        "condition": {"AllCondition": list(conditions), **extra},
        "actions": [{"Action": {"action": "none", "action_args": {}}}],
        "enabled": True,
    }
    if throttle is not None:
        rule["throttle"] = throttle
    return json.dumps(
        {"name": name, "hosts": [], "sources": [], "rules": [{"Rule": rule}]}
    )


SHORT = 0.6  # seconds
GRACE = 1  # seconds
WINDOW = ruleset(
    "T",
    integer("kind", 1),
    throttle={
        "group_by_attributes": ["event.kind"],
        "once_after": f"{int(SHORT * 1000)} milliseconds",
    },
)
# drools_jpy 0.4 cannot build this one if it is to keep its state.
UNBUILDABLE = ruleset(
    "unbuildable",
    {
        "AssignmentExpression": {
            "lhs": {"Events": "first"},
            "rhs": integer("i", 1),
        }
    },
    {
        "EqualsExpression": {
            "lhs": {"Event": "j"},
            "rhs": {"Events": "first.i"},
        }
    },
    timeout="10 seconds",
)


class Source:
    def is_hopeless(self) -> bool:
        return False

    def stored(self, mark: Any) -> None:
        raise AssertionError("these sessions wait for each commit")


class Journal:
    def about_to_write(self) -> None:
        pass

    def wrote(self) -> None:
        pass


class Stage:
    def __init__(self, dsn: str) -> None:
        self.ha_uuid = str(uuid.uuid4())
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.source: Source | None = Source()
        self.failures: list[bool] = []
        self.doubts: list[bool] = []
        self.failed = asyncio.Event()
        self.refusals: list[str] = []
        self.matches: list[int] = []
        self.timed: list[str] = []
        self.names = ["R"]
        conninfo = Conninfo(dsn)
        RulesetCollection.create_engine()
        engine = RulesetCollection.engine
        parameters = jdbc_parameters(
            conninfo, MINE, options="-c search_path=pg_temp,public"
        )
        database = StateDatabase(
            conninfo, uuid.uuid4(), MINE, "w", Timings.of(5)
        )
        database.create(
            lambda: DroolsState.create_tables(
                self.ha_uuid, jdbc_parameters(conninfo, MINE)
            )
        )
        database.close()
        self.drools = DroolsState(engine)
        self.guarded = GuardedEngine(
            engine,
            self.drools,
            lambda: self.source,
            self.on_failure,
            lambda session, match: self.timed.append(match["name"]),
            lambda match: None,
            self.refusals.append,
            Journal(),
        )
        RulesetCollection.engine = self.guarded
        config = {"expired_window_grace_period": GRACE}
        self.drools.initialise(self.ha_uuid, "w", parameters, config, 5.0)
        self.rules = Ruleset("R", ruleset("R", integer("kind", 1)))
        self.rules.add_rule(
            Rule("rule", lambda found: self.matches.append(found.data["m"]))
        )

    def on_failure(self, error: Exception, left: Any, doubtful: bool) -> None:
        self.failures.append(left is self.source)
        self.doubts.append(doubtful)
        self.failed.set()

    def let_write(self, writer: str) -> None:
        self.connection.execute(TERM, (self.ha_uuid, writer))

    def post(self, number: int, text: str = "") -> None:
        event = {"kind": 1, "number": number, "text": text}
        event["meta"] = {"uuid": str(uuid.uuid4())}
        post("R", json.dumps(event))

    def stored(self) -> int:
        row = self.connection.execute(STORED).fetchone()
        assert row is not None
        return int(row[0])

    def numbers(self) -> list[int]:
        found = [match["number"] for match in self.matches]
        self.matches.clear()
        return found

    async def begin(self) -> None:
        """Another try after a failure, as at the next promotion."""
        self.failures.clear()
        self.drools.disable_leader()
        self.let_write(MINE)
        for name in self.names:
            reset(RulesetCollection.get(name))
        self.matches.clear()
        await asyncio.get_running_loop().run_in_executor(
            None, self.drools.enable_leader
        )


async def in_order(stage: Stage) -> Any:
    await stage.begin()
    before = stage.stored()
    for number in range(EVENTS):
        stage.post(number)
    return {"numbers": stage.numbers(), "stored": stage.stored() - before}


async def a_failed_write(stage: Stage) -> Any:
    await stage.begin()
    before = stage.stored()
    stage.let_write("another")
    raised = ""
    try:
        stage.post(1)
    except RuntimeError as error:
        raised = str(error)
    stage.let_write(MINE)
    return {
        "raised": raised,
        "told": list(stage.failures),
        "stored": stage.stored() - before,
    }


async def a_failed_fact(stage: Stage) -> Any:
    await stage.begin()
    stage.let_write("another")
    raised = False
    try:
        assert_fact("R", json.dumps({"kind": 1}))
    except RuntimeError:
        raised = True
    return {"raised": raised, "told": list(stage.failures)}


def begins_a_window(stage: Stage) -> None:
    post("T", json.dumps({"kind": 1, "meta": {"uuid": str(uuid.uuid4())}}))


async def a_timer(stage: Stage) -> Any:
    """It runs out because the clock moves, and is stored before it is told."""
    await stage.begin()
    windows = Ruleset("T", WINDOW)
    windows.add_rule(Rule("rule", lambda found: None))
    stage.names.append("T")
    begins_a_window(stage)
    before = stage.stored()
    await asyncio.sleep(2 * SHORT)
    stands_still = list(stage.timed)
    stage.guarded.clock.start()
    stored = stage.stored() - before
    return {
        "stands_still": stands_still,
        "stored": stored,
        "told": list(stage.timed),
    }


async def a_timer_that_fails(stage: Stage) -> Any:
    stage.guarded.clock.stop()
    stage.timed.clear()
    begins_a_window(stage)
    stage.guarded.clock.start()
    stage.let_write("another")
    stage.failed.clear()
    await stage.failed.wait()
    stage.guarded.clock.stop()
    stage.let_write(MINE)
    return {"told": list(stage.failures), "timed": list(stage.timed)}


async def a_timer_before_a_late_event(stage: Stage) -> Any:
    await stage.begin()
    stage.timed.clear()
    stage.guarded.clock.start()
    begins_a_window(stage)
    time.sleep(2 * SHORT)  # noqa: ASYNC251 - the event loop is blocked
    stage.post(1)
    timed = list(stage.timed)
    stage.guarded.clock.stop()
    return timed


async def a_window_that_is_over_for_too_long(stage: Stage) -> Any:
    """It ends while nobody leads, and this worker stands by."""
    await stage.begin()
    stage.timed.clear()
    stage.guarded.clock.start()
    begins_a_window(stage)
    stage.guarded.clock.stop()
    stage.drools.disable_leader()
    reset(RulesetCollection.get("T"))
    await asyncio.sleep(SHORT + GRACE + 1)
    await stage.begin()
    stage.guarded.clock.start()
    stage.guarded.clock.stop()
    return list(stage.timed)


async def a_timer_that_fails_before_an_event(stage: Stage) -> Any:
    """That one has not been tried, so it is surely not stored."""
    await stage.begin()
    stage.timed.clear()
    stage.guarded.clock.start()
    begins_a_window(stage)
    stage.let_write("another")
    time.sleep(2 * SHORT)  # noqa: ASYNC251 - the event loop is blocked
    stage.doubts.clear()
    raised = False
    try:
        stage.post(1)
    except RuntimeError:
        raised = True
    stage.guarded.clock.stop()
    stage.let_write(MINE)
    return {
        "raised": raised,
        "told": list(stage.failures),
        "doubtful": list(stage.doubts),
        "matched": stage.numbers(),
    }


async def a_practice(stage: Stage) -> Any:
    """Beside the real engine, which goes on as if nothing was."""
    await stage.begin()
    before = stage.stored()
    stage.post(6)
    texts = [
        without_clock(each)
        for each in (WINDOW, ruleset("R", integer("kind", 1)))
    ]
    loop = asyncio.get_running_loop()
    steps = await loop.run_in_executor(None, list, practise(texts))
    stage.post(7)
    return {
        "steps": bool(steps),
        "none": list(practise([])),
        "numbers": stage.numbers(),
        "stored": stage.stored() - before,
    }


async def an_actions_event(stage: Stage) -> Any:
    await stage.begin()
    stage.source = None
    stage.post(3)
    stage.source = Source()
    return stage.numbers()


async def nul(stage: Stage) -> Any:
    await stage.begin()
    refused = False
    try:
        stage.post(1, "\0")
    except MessageNotHandledException:
        refused = True
    stage.post(2, "not \\u0000 at all")
    return {"refused": refused, "then": stage.numbers()}


async def a_mended_checksum(stage: Stage) -> Any:
    await stage.begin()
    stage.post(4)
    stage.drools.disable_leader()
    stage.connection.execute(
        "SELECT set_config('application_name', %s, false)", (MINE,)
    )
    stage.connection.execute(
        "UPDATE drools_ansible_session_state SET current_state_sha = 'x'"
        " WHERE ha_uuid = %s AND rule_set_name = 'R'",
        (stage.ha_uuid,),
    )
    error = ""
    try:
        stage.drools.enable_leader()
    except Exception as caught:
        error = type(caught).__name__
    right = stage.drools.checksum("R")
    stage.drools.disable_leader()
    stage.connection.execute(
        "UPDATE drools_ansible_session_state SET current_state_sha = %s"
        " WHERE ha_uuid = %s AND rule_set_name = 'R'",
        (right, stage.ha_uuid),
    )
    await stage.begin()
    return error


async def unbuildable_rules(stage: Stage) -> Any:
    await stage.begin()
    Ruleset("unbuildable", UNBUILDABLE)
    stage.matches.clear()
    post("R", json.dumps({"kind": 1, "number": 5}))
    return {
        "refused": bool(stage.refusals),
        "with_state": stage.drools.is_initialised,
        "others_go_on": stage.numbers(),
    }


# The last one ends the state of all.
async def a_session_whose_end_fails(stage: Stage) -> Any:
    """As when its clock ticks just then, without state."""
    ruleset = RulesetCollection.get(stage.names[0])
    end = ruleset.end_session

    def fail() -> None:
        end()
        raise RuntimeError("java.util.ConcurrentModificationException")

    ruleset.end_session = fail
    try:
        await stage.begin()
    finally:
        del ruleset.end_session
    stage.post(1)
    return stage.numbers()


SCENES = (
    in_order,
    a_failed_write,
    a_failed_fact,
    an_actions_event,
    nul,
    a_timer,
    a_timer_that_fails,
    a_timer_before_a_late_event,
    a_timer_that_fails_before_an_event,
    a_window_that_is_over_for_too_long,
    a_session_whose_end_fails,
    a_practice,
    a_mended_checksum,
    unbuildable_rules,
)


async def main(dsn: str) -> None:
    stage = Stage(dsn)
    _, writer = await asyncio.open_connection(
        "localhost", RulesetCollection.response_port()
    )
    seen = {}
    for scene in SCENES:
        try:
            seen[scene.__name__] = await asyncio.wait_for(scene(stage), 60)
        except Exception as error:
            seen[scene.__name__] = f"{type(error).__name__}: {error}"
    print(json.dumps(seen), file=answers, flush=True)
    writer.close()
    with suppress(RuntimeError):
        RulesetCollection.shutdown()
    os._exit(0)


asyncio.run(main(sys.argv[1]))
