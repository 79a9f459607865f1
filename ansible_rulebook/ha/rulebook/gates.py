"""All gates of a worker, one for each ruleset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping

from ..log import WorkerLog
from .gate import Count, EventGate

if TYPE_CHECKING:
    from ..state.store import StateStore


class Gates:
    """The gates of one load of the rulebook. The counts go on after it.

    :param make_gate: makes the gate for a ruleset's queue.
    :param count: counts what becomes of events.
    :param log: for what was not processed.
    """

    def __init__(
        self,
        make_gate: Callable[[Any], EventGate],
        count: Count,
        log: WorkerLog,
    ) -> None:
        self._make_gate = make_gate
        self._count = count
        self._log = log
        self._gates: dict[int, EventGate] = {}
        self._dropped_before = 0  # by gates of rulebooks loaded before

    def of(self, queue: Any) -> EventGate:
        """The gate of a ruleset's queue, the same for both of its ends."""
        gate = self._gates.get(id(queue))
        if gate is None:
            gate = self._gates[id(queue)] = self._make_gate(queue)
            gate.count = self._count
        return gate

    def keep_state(self, state: StateStore | None) -> None:
        """Store the changes by events there from now on; None: nowhere."""
        for gate in self._gates.values():
            gate.state = state

    def doubtful_terms(self) -> set[int]:
        """See :meth:`EventGate.doubtful_terms`."""
        terms: set[int] = set()
        return terms.union(
            *(gate.doubtful_terms() for gate in self._gates.values())
        )

    def settle(self, last_marks: Mapping[int, int]) -> None:
        """See :meth:`EventGate.settle`."""
        for gate in self._gates.values():
            gate.settle(last_marks)

    @property
    def are_idle(self) -> bool:
        """See :attr:`EventGate.is_idle`."""
        return all(gate.is_idle for gate in self._gates.values())

    def wake_all(self) -> None:
        """See :meth:`EventGate.wake_all`."""
        for gate in self._gates.values():
            gate.wake_all()

    def recall(self, term: int) -> None:
        """See :meth:`EventGate.recall`."""
        for gate in self._gates.values():
            gate.recall(term)

    def clear(self) -> None:
        """The rulebook is being loaded anew: drop the events that are held."""
        self._dropped_before += self._held_or_dropped()
        self._gates.clear()

    def _held_or_dropped(self) -> int:
        return sum(g.held + g.dropped_total for g in self._gates.values())

    def tell_counts(self, actions_dropped: int) -> None:
        """Log what was not processed, if anything.

        :param actions_dropped: actions that were not started.
        """
        held = sum(gate.held for gate in self._gates.values())
        dropped = self._held_or_dropped() - held + self._dropped_before
        refused = sum(gate.refused_total for gate in self._gates.values())
        if refused:
            self._log.warning("Events could not be processed", events=refused)
        if held or dropped or actions_dropped:
            self._log.info(
                "Not processed, since this worker did not lead",
                events_held=held,
                events_dropped=dropped,
                actions_dropped=actions_dropped,
            )
