"""Scenes with Drools and PostgreSQL behind a GuardedEngine.

Run with a DSN; writes one JSON object to standard output, what each scene
saw. The scenes are in a process of their own since a JVM takes over signals.
"""

# It is a script of waits.
# ruff: noqa: ASYNC110

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
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
from drools.ruleset import Ruleset, RulesetCollection, post  # noqa: E402

from ansible_rulebook.ha.conninfo import Conninfo  # noqa: E402
from ansible_rulebook.ha.drools_state import DroolsState  # noqa: E402
from ansible_rulebook.ha.guarded_engine import GuardedEngine  # noqa: E402
from ansible_rulebook.ha.jdbc import (  # noqa: E402
    application_name,
    jdbc_parameters,
)
from ansible_rulebook.ha.lease import Timings  # noqa: E402
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


def ruleset(name: str, *conditions: Any, **extra: Any) -> str:
    rule = {
        "name": "rule",
        "condition": {"AllCondition": list(conditions), **extra},
        "actions": [{"Action": {"action": "none", "action_args": {}}}],
        "enabled": True,
    }
    return json.dumps(
        {"name": name, "hosts": [], "sources": [], "rules": [{"Rule": rule}]}
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


@dataclass(eq=False)
class Source:
    may_overlap: bool = True

    def is_hopeless(self) -> bool:
        return False


class Stage:
    def __init__(self, dsn: str) -> None:
        self.ha_uuid = str(uuid.uuid4())
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.source: Source | None = Source()
        self.failures: list[int] = []
        self.refusals: list[str] = []
        self.matches: list[int] = []
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
            ThreadPoolExecutor(1),
            lambda: self.source,
            lambda error, left: self.failures.append(len(left)),
            lambda match: None,
            self.refusals.append,
        )
        RulesetCollection.engine = self.guarded
        self.drools.initialise(self.ha_uuid, "w", parameters, {}, 5.0)
        self.rules = Ruleset("R", ruleset("R", integer("kind", 1)))
        self.rules.add_rule(
            Rule("rule", lambda found: self.matches.append(found.data["m"]))
        )

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
        self.rules.end_session()
        self.rules._session_id = None
        self.rules.start_session()
        self.matches.clear()
        await asyncio.get_running_loop().run_in_executor(
            None, self.drools.enable_leader
        )


async def in_order(stage: Stage) -> Any:
    await stage.begin()
    before = stage.stored()
    returned_early = False
    for number in range(EVENTS):
        stage.post(number)
        returned_early |= len(stage.matches) <= number
        await asyncio.sleep(0)
    stage.guarded.settle()
    return {
        "numbers": stage.numbers(),
        "stored": stage.stored() - before,
        "overlapped": returned_early,
    }


async def arrives_by_itself(stage: Stage) -> Any:
    await stage.begin()
    stage.post(7)
    while not stage.matches:
        await asyncio.sleep(0.001)
    return stage.numbers()


async def without_overlap(stage: Stage) -> Any:
    await stage.begin()
    stage.source = Source(may_overlap=False)
    stage.post(8)
    numbers = stage.numbers()
    stage.let_write("another")
    raised = False
    try:
        stage.post(9)
    except RuntimeError:
        raised = True
    stage.source = Source()
    return {"numbers": numbers, "raised": raised, "left": list(stage.failures)}


async def fails_before_the_next(stage: Stage) -> Any:
    await stage.begin()
    before = stage.stored()
    stage.let_write("another")
    stage.post(1)
    raised = False
    try:
        stage.post(2)
    except RuntimeError:
        raised = True
    stage.let_write(MINE)
    return {
        "raised": raised,
        "left": list(stage.failures),
        "stored": stage.stored() - before,
    }


async def fails_alone(stage: Stage) -> Any:
    await stage.begin()
    stage.let_write("another")
    stage.post(1)
    while not stage.failures:
        await asyncio.sleep(0.001)
    return list(stage.failures)


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
    stage.post(2)
    stage.guarded.settle()
    return {"refused": refused, "then": stage.numbers()}


async def a_mended_checksum(stage: Stage) -> Any:
    await stage.begin()
    stage.post(4)
    stage.guarded.settle()
    stage.drools.disable_leader()
    stage.connection.execute(
        "SELECT set_config('application_name', %s, false)", (MINE,)
    )
    stage.connection.execute(
        "UPDATE drools_ansible_session_state SET current_state_sha = 'x'"
        " WHERE ha_uuid = %s",
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
        " WHERE ha_uuid = %s",
        (right, stage.ha_uuid),
    )
    await stage.begin()
    return error


async def unbuildable_rules(stage: Stage) -> Any:
    await stage.begin()
    Ruleset("unbuildable", UNBUILDABLE)
    stage.matches.clear()
    post("R", json.dumps({"kind": 1, "number": 5}))
    stage.guarded.settle()
    return {
        "refused": bool(stage.refusals),
        "with_state": stage.drools.is_initialised,
        "others_go_on": stage.numbers(),
    }


# The last one ends the state of all.
SCENES = (
    in_order,
    arrives_by_itself,
    without_overlap,
    fails_before_the_next,
    fails_alone,
    an_actions_event,
    nul,
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
