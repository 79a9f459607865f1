"""Actions: none starts, and none goes on, after its term."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Awaitable, Callable

from ..election.leadership import Leadership

if TYPE_CHECKING:
    from ..state.store import StateStore

logger = logging.getLogger(__name__)


class Actions:
    """The actions of a worker.

    :param leadership: whether this worker may act.
    :param count: called with how each one ended: ``successful``, ``failed``,
        ``cancelled`` (at the end of a term) or ``refused`` (not started).
    """

    def __init__(
        self, leadership: Leadership, count: Callable[[str], None]
    ) -> None:
        self._leadership = leadership
        self._count = count
        self._running: set[asyncio.Task[Any]] = set()
        self.dropped_total = 0

    def drop(self, what: str) -> None:
        """Count an action that may not start."""
        self.dropped_total += 1
        self._count("refused")
        logger.debug("Not leading, dropped %s", what)

    async def run(
        self, act: Callable[[], Awaitable[None]], state: StateStore | None
    ) -> None:
        """Run an action in the present task, but not beyond its term.

        The action's own task calls this: a second task around each action
        cost a third of the throughput.

        :param state: the action begins once what was stored there of the
            rule's last action is durable; None if no state is kept.
        """
        self._leadership.bind()
        if not self._leadership.may_act():
            self.drop("an action at its start")
            return
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            if state is None or await state.record_is_durable():
                await act()
        except (asyncio.CancelledError, RuntimeError) as error:
            # RuntimeError: the engine takes no change after the term.
            if self._leadership.may_act():
                raise
            logger.debug("An action ended with its term: %s", error)
        finally:
            self._running.discard(task)

    def ended(self, error: BaseException | None) -> None:
        """Count how an action ended."""
        if error is None:
            self._count("successful")
        elif isinstance(error, asyncio.CancelledError):
            self._count("cancelled")
        else:
            self._count("failed")

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
