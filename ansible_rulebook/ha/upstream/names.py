"""What is relied on of upstream, and the check that it is there.

Upstream (``ansible_rulebook`` 1.1 to 1.3) is extended by replacing a few of
its module-level names, and only in a run that has HA options. Each is
checked first: a version that lacks one is refused with the name of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from importlib.metadata import version
from typing import Any

from ..engine import names as drools
from ..errors import UpstreamChanged
from ..version import DISTRIBUTION, own_version

UPSTREAM = "ansible-rulebook"

# Where each seam is, and the parameters that we rely on.
SEAMS: dict[str, tuple[str, ...]] = {
    "ansible_rulebook.app.run": ("parsed_args",),
    "ansible_rulebook.app.run_rulesets": ("event_log", "ruleset_queues"),
    "ansible_rulebook.app.request_workload": ("activation_instance_id",),
    "ansible_rulebook.app.load_vars": ("parsed_args",),
    "ansible_rulebook.util.decrypted_context": ("obj",),
    "ansible_rulebook.engine.runpy": (),
    "ansible_rulebook.engine.has_source": ("collection", "source"),
    "ansible_rulebook.engine.find_source": ("collection", "source"),
    "ansible_rulebook.engine.monitor_rulebook": ("rulebook_file",),
    "ansible_rulebook.engine.RuleSetRunner.__init__": (
        "self",
        "event_log",
        "ruleset_queue_plan",
        "hosts_facts",
    ),
    "ansible_rulebook.engine.RuleSetRunner.run_ruleset": ("self",),
    "ansible_rulebook.engine.RuleSetRunner._run_action": (
        "self",
        "action",
        "action_item",
        "rule_run_at",
    ),
    "ansible_rulebook.engine.RuleSetRunner._call_action": ("self", "action"),
    "ansible_rulebook.engine.RuleSetRunner._drain_source_queue": ("self",),
    "ansible_rulebook.engine.RuleSetRunner._run_multiple_actions": (
        "self",
        "action_item",
        "rule_run_at",
    ),
    "ansible_rulebook.engine.establish_async_channel": (),
    "ansible_rulebook.engine.handle_async_messages": ("reader", "writer"),
    "ansible_rulebook.engine.broadcast": ("shutdown",),
    "ansible_rulebook.engine.all_source_queues": (),
    "ansible_rulebook.engine.FilteredQueue": ("filters", "queue"),
    "ansible_rulebook.messages.Shutdown": ("message", "delay", "kind"),
    "ansible_rulebook.rule_set_runner.ACTION_CLASSES": (),
    "ansible_rulebook.rule_set_runner.prime_facts": ("name", "hosts_facts"),
    "ansible_rulebook.action.run_playbook.RunPlaybook.__call__": ("self",),
    "ansible_rulebook.action.run_playbook.Runner.__init__": (
        "self",
        "runner_args",
    ),
    "ansible_rulebook.action.run_playbook.Runner.__call__": ("self",),
    "ansible_rulebook.conf.settings": (),
    **drools.SEAMS,
}

# The state needs these, too. Upstream has them from 1.3 on.
STATE_SEAMS: dict[str, tuple[str, ...]] = {
    "ansible_rulebook.engine.enable_persistence": (
        "parsed_args",
        "variables",
    ),
    "ansible_rulebook.engine.enable_leader": (),
    "ansible_rulebook.persistence._get_config_params": ("variables",),
    "ansible_rulebook.rule_set_runner.get_action_a_priori": (),
    "ansible_rulebook.rule_set_runner.update_action_info": (
        "rule_set",
        "matching_uuid",
        "index",
        "info",
        "create",
    ),
    "ansible_rulebook.action.helper.update_action_info": (),
    **drools.STATE_SEAMS,
}


def check() -> None:
    """See whether this upstream can be extended.

    :raises UpstreamChanged: naming the seam and upstream's version.
    """
    for path, parameters in SEAMS.items():
        problem = _problem(path, parameters)
        if problem:
            raise UpstreamChanged(
                f"{path} {problem} in {UPSTREAM} {version(UPSTREAM)}, which "
                f"{DISTRIBUTION} {own_version()} cannot extend: install "
                "versions of both that fit, or run without --ha-postgres-dsn"
            )


def lacks_state() -> str | None:
    """Why this upstream cannot keep state, or None if it can."""
    for path, parameters in STATE_SEAMS.items():
        problem = _problem(path, parameters)
        if problem:
            return (
                f"{UPSTREAM} {version(UPSTREAM)} cannot keep it, 1.3 can "
                f"({path} {problem})"
            )
    return None


def is_able_to_keep_state() -> bool:
    """Whether this upstream is new enough, without loading much of it."""
    return importlib.util.find_spec("ansible_rulebook.persistence") is not None


def upstream(module: str) -> Any:
    """A module of upstream's.

    :param module: its name below ``ansible_rulebook``.
    """
    return importlib.import_module(f"ansible_rulebook.{module}")


def _problem(path: str, parameters: tuple[str, ...]) -> str:
    """What is wrong with a seam, if anything."""
    module, *names = _split(path)
    found: Any = module
    for name in names:
        found = getattr(found, name, None)
    if found is None:
        return "is missing"
    if parameters:
        present = list(inspect.signature(found).parameters)
        lacking = [name for name in parameters if name not in present]
        if lacking:
            return f"has no parameter {', '.join(lacking)}"
    return ""


def _split(path: str) -> list[Any]:
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        return [module, *parts[count:]]
    return [None, *parts]
