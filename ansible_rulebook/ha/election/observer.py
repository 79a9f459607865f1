"""Whom the election tells what happens, besides the log."""

from __future__ import annotations

import logging
from typing import NamedTuple

from .beacon import Beacon
from .reasons import Reason
from .term import Term

logger = logging.getLogger(__name__)


class View(NamedTuple):
    """The election as one worker sees it. Times are seconds of the epoch."""

    phase: str
    """The value of :class:`.candidate.Phase`."""
    term: int
    """0 if there is none."""
    since: float
    """When the role began."""
    leads: bool
    """By the lease's clock, at this instant."""
    in_session: bool
    leader: str
    """Who led when this worker last saw a leader; may be itself."""
    lease: float
    """Seconds, as in force."""
    last_renewal: float | None
    pause: Beacon | None = None
    """What holds the lock and does not lead, as this worker last saw it."""


class Observer:
    """Called in the election's loop, and must not wait.

    This one does nothing.
    """

    def connected(self) -> None:
        """A session with PostgreSQL is open."""

    def renewed(self, seconds: float) -> None:
        """The server confirmed the lock, and took so long."""

    def renewal_failed(self) -> None:
        """It did not."""

    def acquired(self, term: Term, gap: float | None, took: float) -> None:
        """This worker leads.

        :param gap: seconds that nobody led before, if that is known.
        :param took: seconds from the lock to here.
        """

    def lost(self, term: Term, reason: Reason) -> None:
        """This worker leads no more."""


class SafeObserver(Observer):
    """Tells another one. What that raises is logged, and ends nothing.

    :param inner: the other one.
    """

    def __init__(self, inner: Observer) -> None:
        self._inner = inner

    def _tell(self, what: str, *args: object) -> None:
        try:
            getattr(self._inner, what)(*args)
        except Exception:
            logger.exception("An observer of the election has failed")

    def connected(self) -> None:
        """See :class:`Observer`."""
        self._tell("connected")

    def renewed(self, seconds: float) -> None:
        """See :class:`Observer`."""
        self._tell("renewed", seconds)

    def renewal_failed(self) -> None:
        """See :class:`Observer`."""
        self._tell("renewal_failed")

    def acquired(self, term: Term, gap: float | None, took: float) -> None:
        """See :class:`Observer`."""
        self._tell("acquired", term, gap, took)

    def lost(self, term: Term, reason: Reason) -> None:
        """See :class:`Observer`."""
        self._tell("lost", term, reason)
