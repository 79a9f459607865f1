"""The sessions of a rulebook, and their failovers."""

from __future__ import annotations

import json
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ansible_rulebook.ha.engine.bridge import NOTHING, Answer, Bridge, Match
from ansible_rulebook.ha.log import WorkerLog
from ansible_rulebook.ha.state.changes import Changes, Kept
from ansible_rulebook.ha.state.names import key_of_ruleset
from ansible_rulebook.ha.state.recovery import (
    Recovery,
    RecoverySettings,
    digest,
)
from ansible_rulebook.ha.state.terms import Claim

from .case import LOST, Step
from .errors import Difference, Refused
from .stored import Stored

START = 4_102_444_800_000  # 2100: a session begins with the present
TICK = 100  # milliseconds
LOG = WorkerLog(logging.getLogger(__name__), "oracle", uuid.UUID(int=0))

done: Counter[str] = Counter()


class Sessions:
    """Sessions of a rulebook, and what is stored of them."""

    def __init__(
        self, bridge: Bridge, rulesets: Sequence[Any], ticks: bool
    ) -> None:
        self.bridge = bridge
        self.ticks = ticks
        self.now = START
        self.names = [str(each["name"]) for each in rulesets]
        self.texts = [json.dumps(each) for each in rulesets]
        self.digests = [digest(each) for each in self.texts]
        self.stored = [Stored() for _ in rulesets]
        self.ids = [bridge.create(each) for each in self.texts]
        self.posts = {
            (number, rule["Rule"]["name"]): args.get("event")
            for number, ruleset in enumerate(rulesets)
            for rule in ruleset["rules"]
            for args in [rule["Rule"]["actions"][0]["Action"]["action_args"]]
        }

    def close(self) -> None:
        for each in self.ids:
            self.bridge.dispose(each)

    def fail_over(self) -> None:
        """Another leader takes over, with what is stored."""
        done["failovers"] += 1
        self.close()
        self.texts = [in_other_words(each) for each in self.texts]
        self.ids = [self.bridge.create(each) for each in self.texts]
        known = [n for n, each in enumerate(self.stored) if each.is_known]
        keys = {n: key_of_ruleset(self.names[n]) for n in known}
        claim = Claim(
            term=1,
            mark=0,
            began=0,
            last_worker="",
            rulesets={
                key: Kept(self.digests[n], primed=False)
                for n, key in keys.items()
            },
            records={keys[n]: self.stored[n].packed() for n in known},
        )
        recovery = Recovery(
            claim,
            {self.names[n]: (self.ids[n], self.texts[n]) for n in known},
            self.bridge,
            RecoverySettings(),
            LOG,
        )
        self.bridge.times.begin(0)  # long ago: no time passes
        recovery.restore()
        if any(answer is not NOTHING for _, answer in recovery.caught_up):
            raise Difference(f"a recovery told {recovery.caught_up}")
        changes = Changes()
        recovery.adopt(changes)
        if changes.size:
            raise Difference("the rules are taken for others")
        for number in known:
            session, stored = self.ids[number], self.stored[number]
            here = self.bridge.time(session)
            times = [each.inserted_at for each in stored.records.values()]
            if times and here != max(times):
                raise Difference(f"the clock shows {here}, not {max(times)}")
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
        for session, stored in zip(self.ids, self.stored):
            self.check(session, stored)
        return [
            sorted(
                json.dumps(each, sort_keys=True)
                for each in json.loads(self.bridge.facts(session))
            )
            for session in self.ids
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
                at = (self.bridge.time(self.ids[ruleset]) + at) // 2
            self.ask(ruleset, do, what, at)
            self.fail_over()
        answer = self.ask(ruleset, do, what, self.now)
        self.stored[ruleset].wrote(answer)
        return answer.matches

    def ask(self, ruleset: int, do: str, what: Any, at: int) -> Answer:
        bridge, session = self.bridge, self.ids[ruleset]
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
        for ruleset in range(len(self.ids)):
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


def in_other_words(text: str) -> str:
    """The same rules, as another worker of the cluster may have them.

    Its sources have other arguments (each webhook a port of its own), and the
    order of keys is another one.
    """
    rules = json.loads(text)
    (source, *_) = rules["sources"]
    args = source["EventSource"]["source_args"]
    args["limit"] = args.get("limit", 0) + 1
    return json.dumps(dict(reversed(rules.items())))
