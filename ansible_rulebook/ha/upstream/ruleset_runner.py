"""Upstream's runner of a ruleset: its queue and its actions are fenced."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from ..engine.rulesets import reset, session_of
from ..errors import RulesetDied
from ..redaction import clean, one_line
from ..rulebook.gate import DurableFeedback, EventGate
from ..rulebook.match_queue import MatchQueue
from .actions import TEMPLATES
from .mixin import Mixin, combine
from .names import upstream

if TYPE_CHECKING:
    from ..worker import Worker

logger = logging.getLogger(__name__)

# The coroutine of an action's task: the first of these that there is. 1.3
# put a semaphore around it.
ACTION_ENTRIES = ("_call_action_with_semaphore", "_call_action")


def install(worker: Worker) -> None:
    """Have the worker's rules hold for every ruleset."""
    engine = upstream("engine")
    engine.RuleSetRunner = fence(engine.RuleSetRunner, worker)


def fence(base: type, worker: Worker) -> Any:
    """Upstream's class with ours before it."""
    entry = next(name for name in ACTION_ENTRIES if hasattr(base, name))
    methods = {
        entry: FencedRuleSetRunner.act,
        "act_unfenced": getattr(base, entry),
    }
    return combine(FencedRuleSetRunner, base, ha_worker=worker, **methods)


class FencedRuleSetRunner(Mixin):  # type: ignore[misc]
    """A ruleset of a worker; see :class:`..rulebook.rulesets.Ruleset`."""

    ha_worker: Worker

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        worker = self.ha_worker
        worker.install_signal_handlers()  # ansible-runner took them
        worker.rulesets.expect_one_more()
        self._facts: list[Any] = self.hosts_facts
        self.hosts_facts: list[Any] = []  # not before promotion
        self._over = False
        plan: Any = self.ruleset_queue_plan
        gate = worker.gates.of(plan.source_queue)
        gate.will_be_sent_again = self._is_with_feedback
        self._gate = gate
        self.ruleset_queue_plan: Any = plan._replace(source_queue=gate)
        state = worker.state
        matches = MatchQueue(
            _nothing_written if state is None else state.last_write,
            self._complete_nothing,
        )
        plan.plan.queue = matches
        gate.wait_for_room = matches.wait_for_room
        if state is not None:
            self._acknowledge_what_is_durable(plan, gate)

    def _acknowledge_what_is_durable(self, plan: Any, gate: EventGate) -> None:
        queues = plan.source_feedback_queues
        self.ruleset_queue_plan = self.ruleset_queue_plan._replace(
            source_feedback_queues={
                name: DurableFeedback(queues[name], gate) for name in queues
            }
        )

    def _is_with_feedback(self, event: Any) -> bool:
        queues = getattr(self.ruleset_queue_plan, "source_feedback_queues", {})
        try:
            return event["meta"]["source"]["name"] in queues
        except (KeyError, TypeError):
            return False

    async def run_ruleset(self) -> None:
        self.ha_worker.ruleset_started(self)
        try:
            await super().run_ruleset()
        finally:
            self._over = True
            self.ha_worker.rulesets.ended(self)
        if self.ended_unasked() and not self.ha_worker.is_leaving:
            raise RulesetDied(f"the engine of {self.name} ended")

    async def _drain_source_queue(self) -> None:
        while True:
            try:
                await super()._drain_source_queue()
                return
            except Exception as error:
                event = self._gate.refuse()
                if event is None:
                    # The worker would lead on, but read no event.
                    logger.exception("%s cannot go on", self.name)
                    self.action_loop_task.cancel()
                    raise
                # Upstream's reader ends at a bad event, and so would the
                # reader of each leader that gets the event.
                await self._refuse(event, error)

    async def _refuse(self, event: Any, error: Exception) -> None:
        meta = _object(event, "meta")
        source = _object(meta, "source").get("name")
        logger.error(
            "Ruleset %s: an event of source %s with uuid %s cannot be "
            "processed and is refused: %s %s",
            self.name,
            clean(source),
            clean(meta.get("uuid")),
            type(error).__name__,
            one_line(error),
        )
        queues = getattr(self.ruleset_queue_plan, "source_feedback_queues", {})
        if isinstance(source, str) and source in queues:
            await queues[source].put(event)

    def _run_action(
        self, action: Any, action_item: Any, *args: Any, **kwargs: Any
    ) -> asyncio.Task[None]:
        if self.ha_worker.leadership.may_act() and self._is_stored(
            action_item
        ):
            self._tell_kind(action)
            task: asyncio.Task[None] = super()._run_action(
                action, action_item, *args, **kwargs
            )
            return task
        self.ha_worker.actions.drop(f"{action.action} of {action_item.rule}")
        return self._complete_nothing()

    async def act(self, *args: Any, **kwargs: Any) -> None:
        """The coroutine of an action's task, in place of upstream's."""
        await self.ha_worker.actions.run(
            partial(self.act_unfenced, *args, **kwargs), self.ha_worker.state
        )

    def _complete_nothing(self) -> asyncio.Task[None]:
        """A task in place of an action: a drain waits for the last one."""
        dropped = asyncio.ensure_future(_nothing())
        self.active_actions.add(dropped)
        dropped.add_done_callback(self._handle_action_completion)
        return dropped

    def _is_stored(self, action_item: Any) -> bool:
        """Whether the match was stored, so that it can be recovered."""
        if self.ha_worker.state is None:
            return True
        return bool(action_item.rule_engine_results.matching_uuid)

    def _tell_kind(self, action: Any) -> None:
        state = self.ha_worker.state
        if state is not None:
            state.progress.store_start = action.action in TEMPLATES

    async def _run_multiple_actions(self, *args: Any) -> None:
        self.ha_worker.leadership.bind()
        await super()._run_multiple_actions(*args)

    # -- see rulesets.Ruleset ------------------------------------------

    def is_running(self) -> bool:
        return not self._over

    def is_idle(self) -> bool:
        waiting = self.ruleset_queue_plan.plan.queue
        return waiting.empty() and not self.active_actions

    def ended_unasked(self) -> bool:
        return self._over and self.shutdown is None

    @property
    def text(self) -> str:
        text: str = self.ruleset_queue_plan.ruleset.define()
        return text

    @property
    def session(self) -> int:
        return session_of(self.ruleset_queue_plan.ruleset)

    @property
    def has_facts(self) -> bool:
        return bool(self._facts)

    def prime(self) -> None:
        upstream("rule_set_runner").prime_facts(self.name, self._facts)

    def drop_matches(self) -> int:
        queue = self.ruleset_queue_plan.plan.queue
        count = 0
        while not queue.empty():
            queue.get_nowait()
            count += 1
        if count:
            self._complete_nothing()
        return count

    def reset(self) -> None:
        reset(self.ruleset_queue_plan.ruleset)

    def hurry(self) -> None:
        for action in list(self.active_actions):
            action.cancel()
        loop = self.action_loop_task
        if loop is not None and not loop.done():
            loop.cancel()


def _object(parent: Any, name: str) -> dict[str, Any]:
    """What an event has under a name; its source may have put anything."""
    found = parent.get(name) if isinstance(parent, dict) else None
    return found if isinstance(found, dict) else {}


async def _nothing() -> None:
    pass


def _nothing_written() -> None:
    return None
