"""Actions: none starts, and none goes on, without the term."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from typing import Callable

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
        self._running: set[asyncio.Task[None]] = set()
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

    def start(
        self, begin: Callable[[], asyncio.Task[None]]
    ) -> asyncio.Task[None]:
        """Start an action that :meth:`may_start` allowed.

        :param begin: starts it and returns its task.
        :returns: a task that ends with it, but ends quietly where the term's
            end cut it short: upstream's loops end with a cancelled one.
        """
        action = begin()
        self._running.add(action)
        action.add_done_callback(self._running.discard)
        return asyncio.ensure_future(self._outcome(action))

    def drop(self, what: str) -> None:
        """Count an action that may not start."""
        self.dropped_total += 1
        logger.debug("Not leading, dropped %s", what)

    async def _outcome(self, action: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait({action})
        except asyncio.CancelledError:
            action.cancel()
            raise
        if not action.cancelled():
            action.result()

    async def cancel_all(self) -> int:
        """Cancel what runs, and wait until it has ended.

        :returns: how many there were.
        """
        running = set(self._running)
        for action in running:
            action.cancel()
        if running:
            await asyncio.wait(running)
        return len(running)
