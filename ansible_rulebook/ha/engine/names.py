"""The names of drools_jpy that we rely on, with their parameters."""

from __future__ import annotations

SEAMS: dict[str, tuple[str, ...]] = {
    "drools.ruleset.Ruleset.start_session": ("self",),
    "drools.ruleset.Ruleset.end_session": ("self",),
    "drools.ruleset.RulesetCollection.shutdown": (),
    "drools.dispatch.Dispatch": ("session_id", "serialized_result"),
}

# The state needs these, too.
STATE_SEAMS: dict[str, tuple[str, ...]] = {
    "drools.ruleset.Ruleset._dispatch": ("self", "rule_match"),
}
