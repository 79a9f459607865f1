"""Actions: none starts, and none goes on, after its term."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..election.leadership import Leadership
from ..operations.metrics import Metrics

logger = logging.getLogger(__name__)


class Actions:
    """The actions of a worker.

    :param leadership: whether this worker may act.
    :param metrics: count how they end.
    """

    def __init__(self, leadership: Leadership, metrics: Metrics) -> None:
        self._leadership = leadership
        self._metrics = metrics
        self._running: set[asyncio.Task[Any]] = set()
        self.dropped_total = 0

    def drop(self, what: str) -> None:
        """Count an action that may not start."""
        self.dropped_total += 1
        self._metrics.action("refused")
        logger.debug("Not leading, dropped %s", what)

    def started(self) -> bool:
        """Count the present task as a running action.

        The action's own task calls this: a second task around each action
        cost a third of the throughput.

        :returns: false if the action must not go on.
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
        """The action of the present task has ended, well or badly."""
        task = asyncio.current_task()
        assert task is not None
        self._running.discard(task)

    def ended(self, error: BaseException | None) -> None:
        """Count how an action ended."""
        if error is None:
            self._metrics.action("successful")
        elif isinstance(error, asyncio.CancelledError):
            self._metrics.action("cancelled")
        else:
            self._metrics.action("failed")

    def check(self) -> None:
        """The fence, for an action that has begun.

        An action whose term has ended is cancelled rather than failed:
        upstream records an action that fails as one that has run.

        :raises asyncio.CancelledError: if it must not go on.
        """
        if not self._leadership.may_act():
            raise asyncio.CancelledError

    async def confirm(self) -> None:
        """:meth:`check` for an action with effects outside of this process.

        The server is asked, too.

        :raises asyncio.CancelledError: if it must not go on.
        """
        if not await self._leadership.confirm():
            raise asyncio.CancelledError

    def running(self) -> int:
        """How many have not ended. For any thread."""
        return len(self._running)

    async def cancel(self) -> int:
        """Cancel the running actions, and wait until they have ended.

        :returns: how many there were.
        """
        running = set(self._running)
        for action in running:
            action.cancel()
        if running:
            await asyncio.wait(running)
        return len(running)
