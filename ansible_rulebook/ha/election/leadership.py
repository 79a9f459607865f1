"""Whether this worker may act, as the rulebook's event loop asks it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Awaitable, Callable

from .term import Term

_UNBOUND = object()
_bound_term: ContextVar[object] = ContextVar("term", default=_UNBOUND)
_present: list[Leadership] = []  # at most one: that of this process's worker


def fencing_token() -> int | None:
    """The number of the term that this worker is in, for plugins.

    With state it rises with every term of any worker of the cluster, so a
    system that remembers the highest one that it has seen can refuse a
    worker that has been replaced without knowing it yet (Kleppmann, "How to
    do distributed locking", 2016). Without state it counts this worker's
    terms and is of no use for that.

    :returns: None on a worker that does not lead, and without HA.
    """
    for leadership in _present:
        term = leadership.acting_term()
        if term is not None:
            return term.number
    return None


class Leadership:
    """What this worker may do now, and the events that tell of it.

    Exactly one of ``leader_event`` and ``follower_event`` is set. The events
    and the waiting belong to one loop. The questions ask the term's clock
    and socket each time, since an event can lag behind a paused process:

    * :meth:`is_open`: may a source put an event?
    * :meth:`takes_events`: may an event enter the engine?
    * :meth:`may_act`: may this task act?
    * :meth:`confirm`: the same, and the server says so, too.

    :param ask_server: whether the server confirms the lock; one round trip.
    """

    def __init__(self, ask_server: Callable[[], Awaitable[bool]]) -> None:
        self.leader_event = asyncio.Event()
        self.follower_event = asyncio.Event()
        self.follower_event.set()
        self.shutdown_event = asyncio.Event()
        self.term: Term | None = None
        """The term that may act: the engine's actions, then the sources."""
        self._ask_server = ask_server
        self._announced: Term | None = None
        self._is_closed = False
        self._next = asyncio.Event()
        self._closing = asyncio.Event()
        _present[:] = [self]

    # -- questions -------------------------------------------------------

    def acting_term(self) -> Term | None:
        """The term in which actions may start now, promotion included."""
        term = self.term
        return term if term is not None and term.is_current() else None

    def may_act(self) -> bool:
        """Whether this task may act: in any term, or in that of its own."""
        term = self.term
        if term is None or not term.is_current():
            return False
        bound = _bound_term.get()
        return bound is _UNBOUND or bound is term

    def takes_events(self) -> bool:
        """Whether events may enter the engine: not before promotion ends."""
        term = self._announced
        return term is not None and term.is_current()

    def is_open(self) -> bool:
        """Whether sources may run and put; not while it hands over."""
        return not self._is_closed and self.takes_events()

    @property
    def is_ending(self) -> bool:
        """Whether the term, or this worker, is to end in good order."""
        return self._is_closed or self.shutdown_event.is_set()

    async def confirm(self) -> bool:
        """Whether this task may do something outside of this process.

        A machine that its hypervisor paused resumes with a lease that looks
        trusted, so the server is asked.
        """
        return self.may_act() and await self._ask_server() and self.may_act()

    def bind(self) -> None:
        """Bind this task, and those that it starts, to the present term.

        A rule's second action must not run in a later term than its first.
        A task that has a term already keeps it.
        """
        if _bound_term.get() is _UNBOUND:
            _bound_term.set(self.acting_term())

    async def next_term(self) -> Term:
        """The current term if it is open, or the next one once it is.

        Never returns a term that is over already.
        """
        while True:
            term = self.term
            if term is not None and self.is_open():
                return term
            await self._next.wait()

    async def closed(self, term: Term) -> None:
        """Wait until no source may put in a term any more."""
        while self._announced is term and not self._is_closed:
            await self._closing.wait()

    # -- what the worker tells -------------------------------------------

    def begin(self, term: Term) -> None:
        """Allow actions, since promotion may fire some."""
        self.term = term
        self._is_closed = False

    def announce(self) -> None:
        """Everything that a leader needs is up.

        Nobody is told if the term is over by now: this worker was paused.
        """
        if self.acting_term() is None:
            return
        self._announced = self.term
        self.follower_event.clear()
        self.leader_event.set()
        # One event per term: those that wait now are woken for this one.
        waiting, self._next = self._next, asyncio.Event()
        waiting.set()

    def turn_sources_away(self) -> None:
        """The term is to end in good order: no source may put any more."""
        self._is_closed = True
        self._wake_closed()

    def end(self) -> None:
        """The term is over."""
        self.term = self._announced = None
        self.leader_event.clear()
        self.follower_event.set()
        self._wake_closed()

    def _wake_closed(self) -> None:
        waiting, self._closing = self._closing, asyncio.Event()
        waiting.set()
