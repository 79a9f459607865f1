"""Actions: none starts, and none goes on, without the term."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Awaitable, Callable

from .office import Office

logger = logging.getLogger(__name__)


class Actions:
    """The actions of one ruleset.

    :param office: who knows the term.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._running: set[asyncio.Task[Any]] = set()
        self.dropped_total = 0

    def __len__(self) -> int:
        return len(self._running)

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
        if not self._office.allows():
            self.drop("an action at its start")
            return
        self._office.pin()
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await action()
        except asyncio.CancelledError:
            if self._office.allows():
                raise
        finally:
            self._running.discard(task)

    def cancel(self) -> set[asyncio.Task[Any]]:
        """Cut short what runs; returns the tasks, still to be waited for."""
        running = set(self._running)
        for action in running:
            action.cancel()
        return running
