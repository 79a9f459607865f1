"""An event of an inbox, on its way through a worker.

::

    taken from the table -> put, in one part or several -> processed -> gone

A source's filters may split an event, or drop it. So what reaches the gate
while the event is being put counts as its parts, and the row of the inbox is
deleted when the last of them has been processed. Until then the row says how
many have been, so that the next leader skips those, however many they are.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Callable, Iterator, NamedTuple, Protocol

_being_put: ContextVar[Delivery | None] = ContextVar("delivery", default=None)


class Row(NamedTuple):
    """Where an event is in the table."""

    inbox: str
    number: int


class Consumed(NamedTuple):
    """What the processing of a part means to the row of its event."""

    inbox: str
    number: int
    parts: int
    """So many of its parts have been processed; 0 if all: delete it."""


class Lead(Protocol):
    """The term that an event was taken in."""

    def is_current(self) -> bool:
        """Whether this worker leads in it at this instant."""


class Delivery:
    """An event that was taken out of an inbox and not processed yet.

    :param row: where it is.
    :param event: what was put, decoded.
    :param arrived: when, in seconds since 1970 by the server's clock.
    :param term: of the worker that has taken it; None outside of a worker.
    :param delete: called with the row to delete it, where no journal does.
    :param processed: how many of its parts earlier terms have processed.
    """

    def __init__(
        self,
        row: Row,
        event: dict[str, Any],
        arrived: float,
        term: Lead | None,
        delete: Callable[[Row], None],
        processed: int = 0,
    ) -> None:
        self.row = row
        self.event = event
        self.arrived = arrived
        self.term = term
        self._delete = delete
        self._before = processed
        self._parts = 0
        self._processed = processed
        self._open = 0
        self._is_sealed = False

    def is_current(self) -> bool:
        """Whether the worker still leads in the term that it was taken in."""
        return self.term is None or self.term.is_current()

    @contextmanager
    def being_put(self) -> Iterator[None]:
        """Events that this task puts meanwhile are parts of this one."""
        token = _being_put.set(self)
        try:
            yield
        finally:
            with suppress(ValueError):  # its task was forgotten, not ended
                _being_put.reset(token)

    def seal(self) -> None:
        """It has been put: no more parts come of it."""
        self._is_sealed = True
        if not self._open:
            self._delete(self.row)  # a filter has dropped it

    def skips_part(self) -> bool:
        """Whether the next part has been processed in an earlier term."""
        if self._parts >= self._before:
            return False
        self._parts += 1
        return True

    def part(self, event: Any) -> Part:
        """What came of it at the end of the filters, or one of several."""
        name = f"{self.row.inbox}:{self.row.number}:{self.arrived!r}"
        if isinstance(event, dict) and isinstance(event.get("meta"), dict):
            # The same each time that it is taken, so a part that has been
            # processed before is known.
            event["meta"]["uuid"] = str(
                uuid.uuid5(uuid.NAMESPACE_OID, f"{name}:{self._parts}")
            )
        self._parts += 1
        self._open += 1
        return Part(self, event)

    def _part_done(self) -> Consumed:
        self._open -= 1
        self._processed += 1
        is_last = self._is_sealed and not self._open
        return Consumed(*self.row, 0 if is_last else self._processed)

    def delete(self) -> None:
        """Delete it without a journal, soon."""
        self._delete(self.row)


class Part:
    """An event at the gate.

    :param event: kept, so that no other object gets its identity.
    """

    def __init__(self, delivery: Delivery, event: Any) -> None:
        self.delivery = delivery
        self.event = event
        self.is_done = False

    def done(self) -> Consumed | None:
        """It has been processed, or never can be.

        :returns: what that means to the row; None if that was told before.
        """
        if self.is_done:
            return None
        self.is_done = True
        return self.delivery._part_done()


def being_put() -> Delivery | None:
    """What this task puts now, if that comes from an inbox."""
    return _being_put.get()
