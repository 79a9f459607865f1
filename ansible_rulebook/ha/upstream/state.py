"""Upstream's persistence, in place of which our state is kept."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from typing import Any

from ..engine.rulesets import replace_engine
from ..worker import Worker
from .names import upstream

logger = logging.getLogger(__name__)


def install(worker: Worker) -> None:
    """Keep the state of the rules and the progress of their actions."""
    engine, runner = upstream("engine"), upstream("rule_set_runner")
    engine.enable_persistence = partial(enable_persistence, worker)
    engine.enable_leader = stay_follower
    runner.get_action_a_priori = partial(look_up_action, worker)
    update = partial(update_action, worker)
    runner.update_action_info = update
    upstream("action.helper").update_action_info = update


def set_id(worker: Worker, parsed_args: argparse.Namespace) -> None:
    """Name the state: upstream takes feedback sources only with one."""
    own = getattr(parsed_args, "persistence_id", None)
    if own:
        logger.warning(
            "--persistence-id %s is ignored: --ha-uuid names the state, "
            "and --ha-postgres-dsn says where it is kept",
            own,
        )
        parsed_args.persistence_id = None
    upstream("conf").settings.persistence_id = (
        None if worker.state is None else str(worker.options.ha_uuid)
    )


def enable_persistence(
    worker: Worker, parsed_args: argparse.Namespace, variables: dict[str, Any]
) -> None:
    """``engine.enable_persistence``, before the rulesets are built."""
    if worker.state is None:
        return
    config = upstream("persistence")._get_config_params(variables)
    replace_engine(lambda engine: worker.attach_state(engine, config))


def stay_follower() -> None:
    """``engine.enable_leader``: the election decides who leads."""


def look_up_action(
    worker: Worker, rule_set: str, matching_uuid: str, index: int
) -> dict[str, Any] | None:
    """``get_action_a_priori``, for recovered matches only."""
    if worker.state is None:
        return None
    return worker.state.progress.look_up(matching_uuid, index)


def update_action(
    worker: Worker,
    rule_set: str,
    matching_uuid: str,
    index: int,
    info: dict[str, Any],
    create: bool = False,
) -> None:
    """``update_action_info``, with as few writes as recovery needs."""
    if worker.state is not None:
        worker.state.progress.update(matching_uuid, index, info, create)
