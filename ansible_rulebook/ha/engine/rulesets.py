"""drools_jpy's rulesets, and the engine that all of them call."""

from __future__ import annotations

import json
import logging
from typing import Any, Callable

from ..redaction import one_line

logger = logging.getLogger(__name__)


def replace_engine(wrap: Callable[[Any], Any]) -> None:
    """Have the rulesets that are built from now on call another engine.

    :param wrap: takes drools_jpy's Java object, returns its replacement.
    """
    from drools.ruleset import RulesetCollection

    RulesetCollection.engine = wrap(RulesetCollection.engine)


def deliver(ruleset: str, match: str) -> None:
    """Run the rule of a match that no call has returned (a timer's).

    :param ruleset: its name.
    :param match: JSON.
    """
    from drools.ruleset import RulesetCollection

    try:
        RulesetCollection.get(ruleset)._dispatch(json.loads(match))
    except Exception as error:
        logger.warning("A match was skipped: %s", one_line(error))


def reset(ruleset: Any) -> None:
    """Begin an empty session in place of the present one."""
    try:
        ruleset.end_session()
    except RuntimeError as error:
        # Drools' clock was in a tick. The engine has dropped the session.
        logger.debug("A session did not end well: %s", error)
    ruleset._session_id = None
    ruleset.start_session()


def session_of(ruleset: Any) -> int:
    """The number of its session."""
    number: int = ruleset._session_id
    return number
