"""The office of the leader, as the rulebook's event loop sees it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from .term import Term

_UNPINNED = object()
_pinned_term: ContextVar[object] = ContextVar("term", default=_UNPINNED)
_present: list[Office] = []  # at most one: that of this process's worker


def fencing_token() -> int | None:
    """The number of the term that this worker is in, for plugins.

    With state it rises with every term of any worker of the cluster, so a
    system that remembers the highest one that it has seen can refuse a
    worker that has been replaced without knowing it yet (Kleppmann, "How to
    do distributed locking", 2016). Without state it counts this worker's
    terms and is of no use for that.

    :returns: None on a worker that does not lead, and without HA.
    """
    for office in _present:
        term = office.may_act()
        if term is not None:
            return term.number
    return None


class Office:
    """Whether this worker is in office, and the events that tell of it.

    Exactly one of ``leader_event`` and ``follower_event`` is set. The events
    and the waiting belong to one loop; :meth:`leads` asks the term's clock
    and socket each time, since an event can lag behind a paused process.
    """

    def __init__(self) -> None:
        self.leader_event = asyncio.Event()
        self.follower_event = asyncio.Event()
        self.follower_event.set()
        self.shutdown_event = asyncio.Event()
        self.term: Term | None = None
        """The term that may act: the engine's actions, then the sources."""
        self._announced: Term | None = None
        self._next = asyncio.Event()
        _present[:] = [self]

    def may_act(self) -> Term | None:
        """The term in which actions may start now, promotion included."""
        term = self.term
        return term if term is not None and term.is_current() else None

    def pin(self) -> None:
        """Bind this task, and those that it starts, to the present term.

        A rule's second action must not run in a later term than its first.
        """
        _pinned_term.set(self.may_act())

    def allows(self) -> bool:
        """Whether this task may act: in any term, or in the one it has."""
        term = self.term
        if term is None or not term.is_current():
            return False
        pinned = _pinned_term.get()
        return pinned is _UNPINNED or pinned is term

    def still_allows(self, term: Term | None) -> bool:
        """Whether it is still that term, for who has asked before."""
        return term is not None and term is self.term and term.is_current()

    def leads(self) -> bool:
        """Whether events may enter the engine at this instant."""
        term = self._announced
        return term is not None and term.is_current()

    async def next_term(self) -> Term:
        """The current term, or the next one once it has been announced.

        Never returns a term that is over already.
        """
        while True:
            term = self.may_act()
            if term is not None and self.leader_event.is_set():
                return term
            await self._next.wait()

    def enter(self, term: Term) -> None:
        """Allow actions, since promotion may fire some."""
        self.term = term

    def announce(self) -> None:
        """Everything that a leader needs is up."""
        self._announced = self.term
        self.follower_event.clear()
        self.leader_event.set()
        # One event per term: who waits now must not see a later end of it.
        waiting, self._next = self._next, asyncio.Event()
        waiting.set()

    def leave(self) -> None:
        """The term is over."""
        self.term = self._announced = None
        self.leader_event.clear()
        self.follower_event.set()
