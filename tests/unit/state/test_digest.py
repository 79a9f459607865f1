"""What counts as a change of the rules, and drops their state."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest

from ansible_rulebook.ha.state.recovery import digest

RULE: dict[str, Any] = {
    "name": "hit",
    "condition": "event.hit is defined",
    "action": {"none": None},
}


def definition(
    rule: dict[str, Any] = RULE, port: int = 5000, filters: Any = ()
) -> str:
    """A ruleset as upstream gives it to the engine."""
    parser: Any = import_module("ansible_rulebook.rules_parser")
    generator: Any = import_module("ansible_rulebook.json_generator")
    source = {"ha_webhook": {"port": port, "token": str(port)}}
    if filters:
        source["filters"] = filters
    rulebook = {
        "name": "R",
        "hosts": "all",
        "sources": [source],
        "rules": [rule],
    }
    (parsed,) = parser.parse_rule_sets([rulebook])
    made = generator.visit_ruleset(parsed, {})
    return json.dumps(made.get("RuleSet", made))


def test_each_worker_may_listen_at_a_port_of_its_own() -> None:
    first, second = definition(port=5000), definition(port=5001)
    assert first != second
    assert digest(first) == digest(second)


@pytest.mark.parametrize(
    "change",
    [
        {"condition": "event.hit == 1"},
        {"name": "another"},
        {"throttle": {
            "once_within": "5 minutes",
            "group_by_attributes": ["event.hit"],
        }},
    ],
)  # fmt: skip
def test_another_rule_is_a_change(change: dict[str, Any]) -> None:
    assert digest(definition()) != digest(definition({**RULE, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"hosts": ["localhost"]},
        {"match_multiple_rules": True},
        {"default_events_ttl": "1 hour"},
    ],
)
def test_another_ruleset_is_a_change(change: dict[str, Any]) -> None:
    ruleset = json.loads(definition())
    reordered = dict(reversed(ruleset.items()))
    assert digest(json.dumps(reordered)) == digest(definition())
    changed = json.dumps({**ruleset, **change})
    assert digest(changed) != digest(definition())
