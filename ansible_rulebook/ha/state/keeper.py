"""Whether this worker keeps the cluster's state, and what if it cannot.

A worker that cannot keep state must not lead a cluster that has some: the
rules would begin anew. So it follows, says why once, and tries again.
"""

from __future__ import annotations

from typing import Callable

from ..errors import ServerUnavailable, StateRefused
from ..log import WorkerLog
from ..options import StateMode
from .session import RowInUse
from .store import StateStore

SAME_FAILURES = 10  # recoveries in a row; then it is taken for an obstacle


class StateKeeper:
    """Owns the store, until it turns out that no state can be kept.

    :param mode: what the operator wants.
    :param store: to keep the state in; None if the mode is ``off``.
    :param lacks_state: why this upstream cannot keep state, if so.
    :param suspend: keeps the worker from contending, for a reason.
    :param stopped: called when no state is kept any more.
    :param log: for what operators have to see.
    """

    def __init__(
        self,
        mode: StateMode,
        store: StateStore | None,
        lacks_state: str | None,
        suspend: Callable[[str], None],
        stopped: Callable[[], None],
        log: WorkerLog,
    ) -> None:
        self.store = store
        """Keeps the engine's state, or None: then it ends with a term."""
        self.obstacle: str | None = None
        """Why this worker cannot keep the state that its cluster has."""
        self._mode = mode
        self._lacks_state = lacks_state
        self._suspend = suspend
        self._stopped = stopped
        self._log = log
        self._failures: list[str] = []  # the same error, in a row

    def lacks(self, why: str) -> None:
        """The state of this upstream, or of this engine, cannot be kept.

        :raises StateRefused: if the operator requires state.
        """
        self._check_mode(why)
        self._lacks_state = why

    def _check_mode(self, why: object) -> None:
        if self._mode is StateMode.REQUIRED:
            raise StateRefused(
                f"--ha-state required: the state cannot be kept: {why}"
            )

    async def survey(self) -> bool:
        """Find out whether the state can be kept. If not, go without.

        :returns: whether it is known that it can.
        :raises StateRefused: if it cannot, and the operator requires it.
        """
        if self.store is None:
            return False
        try:
            if self._lacks_state is not None:
                raise StateRefused(self._lacks_state)
            if not await self.store.survey():
                return False
        except StateRefused as error:
            await self.go_without(error)
            return False
        if self.obstacle is not None:
            self._log.info("The state can be kept again")
        self.obstacle = None
        return True

    @property
    def has_doubts(self) -> bool:
        """Whether to survey again before this worker contends."""
        return self.store is not None and self._lacks_state is not None

    async def go_without(self, error: StateRefused) -> None:
        """Go on without state, or follow if the cluster may have some.

        :raises StateRefused: if the operator requires state.
        """
        self._check_mode(error)
        if self.store is None:
            return  # that was logged before
        if await self.store.may_have_state():
            if self.obstacle is None:
                self._log.warning(
                    "This worker follows and does not lead: the cluster keeps "
                    "state, or may, and this worker cannot keep it",
                    str(error),
                )
            self.obstacle = str(error)
            self._suspend("the state cannot be kept")
            return
        self.obstacle = None
        store, self.store = self.store, None
        self._stopped()
        if store is not None:
            store.close()
        self._log.warning(
            "The rules' state will not survive a failover", str(error)
        )

    def recovered(self) -> None:
        """A recovery has succeeded."""
        self._failures.clear()

    def fails_for_good(self, error: ServerUnavailable) -> bool:
        """Whether this failure of a recovery is more than an outage.

        It is if the same error came often in a row: the election itself had
        no trouble with the server meanwhile.
        """
        if isinstance(error, RowInUse):
            return False  # the other transaction will end
        if str(error) not in self._failures:
            self._failures.clear()
        self._failures.append(str(error))
        if len(self._failures) < SAME_FAILURES:
            return False
        self._failures.clear()
        return True
