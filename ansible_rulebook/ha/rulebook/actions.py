"""Actions: none starts, and none goes on, without the term."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..election.leadership import Office
from ..election.term import Term

logger = logging.getLogger(__name__)


class Actions:
    """The actions of a worker.

    :param office: who knows the term.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._running: dict[asyncio.Task[Any], Term | None] = {}
        self.dropped_total = 0

    def drop(self, what: str) -> None:
        """Count an action that may not start."""
        self.dropped_total += 1
        logger.debug("Not leading, dropped %s", what)

    def enter(self) -> bool:
        """An action's task begins; false if it must not go on.

        In the task itself, because a second one around it cost a third of
        the throughput.
        """
        term = self._office.term
        if not self._office.still_allows(term):
            self.drop("an action at its start")
            return False
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = term
        return True

    def leave(self) -> None:
        """An action's task ends."""
        task = asyncio.current_task()
        assert task is not None
        self._running.pop(task, None)

    def may_go_on(self) -> bool:
        """Whether the action of this task still has its term.

        One that was cut short by the end of it has to end quietly, since
        upstream's loops end with a cancelled action.
        """
        task = asyncio.current_task()
        assert task is not None
        return self._office.still_allows(self._running.get(task))

    def running(self) -> int:
        """How many have not ended. For any thread."""
        return len(self._running)

    async def cancel(self) -> int:
        """Cut short what runs, and wait until it has ended.

        :returns: how many there were.
        """
        running = set(self._running)
        for action in running:
            action.cancel()
        if running:
            await asyncio.wait(running)
        return len(running)
