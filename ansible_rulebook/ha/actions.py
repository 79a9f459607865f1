"""Actions: none starts, and none goes on, without the term."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from typing import Any, Awaitable, Callable

from .office import Office

logger = logging.getLogger(__name__)

# The term of a rule's first action holds for the actions after it, so that a
# rule that was cut short does not go on in this worker's next term.
_UNPINNED = object()
_rule_term: ContextVar[object] = ContextVar("rule_term", default=_UNPINNED)


class Actions:
    """The actions of one ruleset.

    :param office: who knows the term.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._running: set[asyncio.Task[Any]] = set()
        self._cut_short: set[asyncio.Task[Any]] = set()
        self.dropped_total = 0

    def __len__(self) -> int:
        return len(self._running)

    def pin_term(self) -> None:
        """Bind the actions that this task starts to the present term."""
        _rule_term.set(self._office.may_act())

    def may_start(self) -> bool:
        """The fence: whether an action may start at this instant."""
        term = self._office.may_act()
        pinned = _rule_term.get()
        return term is not None and (pinned is _UNPINNED or pinned is term)

    def drop(self, what: str) -> None:
        """Count an action that may not start."""
        self.dropped_total += 1
        logger.debug("Not leading, dropped %s", what)

    async def run(self, action: Callable[[], Awaitable[None]]) -> None:
        """What an action's task does: the action, if it (still) may start.

        It ends quietly where the term's end cut it short, since upstream's
        loops end with a cancelled action. In the task itself, because a
        second one around it cost a third of the throughput.
        """
        if not self.may_start():
            self.drop("an action at its start")
            return
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await action()
        except asyncio.CancelledError:
            if task not in self._cut_short:
                raise
        finally:
            self._running.discard(task)
            self._cut_short.discard(task)

    async def cancel_all(self) -> int:
        """Cancel what runs, and wait until it has ended.

        :returns: how many there were.
        """
        running = set(self._running)
        self._cut_short |= running
        for action in running:
            action.cancel()
        if running:
            await asyncio.wait(running)
        return len(running)
