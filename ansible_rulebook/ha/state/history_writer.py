"""Writes the history of terms, in a thread and a session of its own.

Nothing depends on the history, so nothing waits for it. When a term ends, the
server is often away. Then the end is written later.
"""

from __future__ import annotations

import logging
import time
from queue import SimpleQueue
from threading import Thread
from typing import Callable, NamedTuple

from ..election.reasons import Reason
from ..errors import HaError, ServerUnavailable
from .history import Beginning, History

logger = logging.getLogger(__name__)

MOST_LATE = 20  # ends of terms that wait to be written; more are dropped


class _End(NamedTuple):
    term: int
    reason: Reason
    events: int
    actions: int
    at: float  # monotonic


class HistoryWriter:
    """One for each worker. Calls return at once, and are for any thread.

    :param history: what to write with.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._late: list[_End] = []  # belongs to the thread
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        # A daemon thread: a server that does not answer must not keep the
        # process from its end.
        self._thread = Thread(target=self._run, name="ha-history", daemon=True)
        self._thread.start()

    def tell_begin(self, term: int, found: Beginning) -> None:
        """A term has begun."""

        def write() -> None:
            self._write_late()
            self._history.begin_term(term, found)
            self._history.prune(term)

        self._work.put(write)

    def tell_end(
        self, term: int, reason: Reason, events: int, actions: int
    ) -> None:
        """A term has ended.

        :param events: how many it has processed.
        :param actions: how many matches have had all their actions run.
        """
        end = _End(term, reason, events, actions, time.monotonic())

        def write() -> None:
            if len(self._late) < MOST_LATE:
                self._late.append(end)
            self._write_late()

        self._work.put(write)

    def retry(self) -> None:
        """Write what is late, if anything: the server may be there again."""
        if self._late:
            self._work.put(self._write_late)

    def close(self) -> None:
        """Nothing more will be told."""
        self._work.put(None)

    def finish(self, within: float) -> None:
        """Wait until all is written, or the time is over.

        :param within: seconds.
        """
        self._thread.join(within)

    def _write_late(self) -> None:
        while self._late:
            end = self._late[0]
            ago = time.monotonic() - end.at
            try:
                self._history.end_term(*end[:-1], ago)
            except ServerUnavailable:
                raise
            except HaError:
                self._late.pop(0)  # a retry would fail, too
                raise
            self._late.pop(0)

    def _run(self) -> None:
        while True:
            write = self._work.get()
            if write is None:
                return
            try:
                write()
            except HaError as error:
                logger.debug("The history was not written: %s", error)
            except Exception:
                logger.exception("The history cannot be written")
                self._late.clear()
            finally:
                # The next write may be days away: keep no session until then.
                self._history.close()
