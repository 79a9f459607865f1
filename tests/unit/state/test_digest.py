"""Which rules are those that the state was stored for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_rulebook.ha.state.recovery import digest


def ruleset(**changed: Any) -> str:
    rule = {"name": "r", "condition": {"event": "i"}, "actions": ["debug"]}
    source = {"EventSource": {"source_args": {"port": 5000, "token": "old"}}}
    rules = {
        "name": "s",
        "hosts": ["all"],
        "sources": [source],
        "rules": [{"Rule": rule}],
    }
    return json.dumps({**rules, **changed})


@pytest.mark.parametrize("sources", [[], [{"EventSource": {"port": 5001}}]])
def test_other_sources_are_no_other_rules(sources: list[Any]) -> None:
    assert digest(ruleset(sources=sources)) == digest(ruleset())


def test_the_order_of_keys_says_nothing() -> None:
    reordered = dict(reversed(json.loads(ruleset()).items()))
    assert digest(json.dumps(reordered)) == digest(ruleset())


@pytest.mark.parametrize(
    "changed",
    [
        {"rules": []},
        {"hosts": ["localhost"]},
        {"match_multiple_rules": True},
        {"default_events_ttl": "1 hour"},
    ],
)
def test_all_else_makes_other_rules(changed: dict[str, Any]) -> None:
    assert digest(ruleset(**changed)) != digest(ruleset())
