"""Actions: none starts, and none goes on, without the term."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..election.leadership import Leadership

logger = logging.getLogger(__name__)


class Actions:
    """The actions of a worker.

    :param leadership: whether they may act.
    """

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._running: set[asyncio.Task[Any]] = set()
        self.dropped_total = 0

    def drop(self, what: str) -> None:
        """Count an action that may not start."""
        self.dropped_total += 1
        logger.debug("Not leading, dropped %s", what)

    def started(self) -> bool:
        """This task is an action's; false if it must not go on.

        In the task itself, because a second one around it cost a third of
        the throughput.
        """
        self._leadership.bind()
        if not self._leadership.may_act():
            self.drop("an action at its start")
            return False
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        return True

    def finished(self) -> None:
        """The action of this task has ended, well or not."""
        task = asyncio.current_task()
        assert task is not None
        self._running.discard(task)

    def check(self) -> None:
        """The fence, for an action that has begun.

        One that was cut short by the end of its term has to end quietly,
        since upstream takes one that fails for one that has run.

        :raises asyncio.CancelledError: if it must not go on.
        """
        if not self._leadership.may_act():
            raise asyncio.CancelledError

    async def confirm(self) -> None:
        """The same for one that acts outside of this process.

        Then the server is asked, too.

        :raises asyncio.CancelledError: if it must not go on.
        """
        if not await self._leadership.confirm():
            raise asyncio.CancelledError

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
