"""What is relied on of drools_jpy: where it is, and its parameters."""

from __future__ import annotations

SEAMS: dict[str, tuple[str, ...]] = {
    "drools.ruleset.Ruleset.start_session": ("self",),
    "drools.ruleset.Ruleset.end_session": ("self",),
    "drools.ruleset.RulesetCollection.shutdown": (),
    "drools.dispatch.Dispatch": ("session_id", "serialized_result"),
}

# What the state needs on top of that.
STATE_SEAMS: dict[str, tuple[str, ...]] = {
    "drools.ruleset.Ruleset._dispatch": ("self", "rule_match"),
}
