"""The engine of this process, and rulesets as it takes them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from ansible_rulebook.json_generator import visit_ruleset
from ansible_rulebook.util import get_java_home
from drools.ruleset import RulesetCollection

from ansible_rulebook.ha.engine.bridge import Bridge

# Each new session asks for a collection of garbage.
JAVA = "-XX:+DisableExplicitGC -XX:+UseSerialGC -XX:TieredStopAtLevel=1"

rules_parser: Any = import_module("ansible_rulebook.rules_parser")
# A condition takes the parser milliseconds, and there are not so many.
rules_parser.parse_condition_value = lru_cache(maxsize=None)(
    rules_parser.parse_condition_value
)


def start_engine() -> Bridge:
    """Start Java in this process. Only then its variables are set.

    A program that only imports this has children of another kind.
    """
    os.environ["JAVA_TOOL_OPTIONS"] = JAVA
    os.environ["DROOLS_JPY_JVM_LOG"] = f"logFile={os.devnull}"
    if not os.environ.get("JAVA_HOME"):
        os.environ["JAVA_HOME"] = get_java_home() or ""
    return Bridge(RulesetCollection.api())


def rulesets_of(rulebook: Sequence[Any]) -> list[dict[str, Any]]:
    """As upstream hands them to the engine."""
    parsed = rules_parser.parse_rule_sets(json.loads(json.dumps(rulebook)))
    found = [visit_ruleset(each, {}) for each in parsed]
    return [each.get("RuleSet", each) for each in found]
