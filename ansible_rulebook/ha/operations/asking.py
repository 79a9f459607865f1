"""Asks a server, and never waits longer than the caller allows."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Generic, Iterator, List, TypeVar

import psycopg
from psycopg import Connection
from psycopg.rows import namedtuple_row

from ..conninfo import Conninfo
from ..errors import HaError, ServerUnavailable

T = TypeVar("T")

APPLICATION = "eda-ha-command"
SHORTEST_CONNECT = 2  # seconds, the least that libpq takes
LIMIT = "SELECT pg_catalog.set_config('statement_timeout', %s, true)"


class Unasked(HaError):
    """The server gave no answer, so nothing is known of the cluster."""


class Question(Generic[T]):
    """Work that may never end, in a thread of its own.

    A thread whose answer comes too late is left behind. It cannot be ended:
    nothing interrupts the look-up of a host's name.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._answers: List[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answers.append(self._work())
        except BaseException as error:
            self._error = error

    def answer(self, until: float, seconds: float) -> T:
        """The result of the work. An error of the work is raised here.

        :param until: when to stop waiting, by the monotonic clock.
        :param seconds: how long that is in all, for the message.
        :raises Unasked: if there is no result by then.
        """
        self._thread.join(max(until - time.monotonic(), 0.0))
        if self._error is not None:
            raise self._error
        if not self._answers:
            raise Unasked(f"no answer within {seconds:g} s")
        return self._answers[0]


def in_time(work: Callable[[], T], seconds: float) -> T:
    """The result of ``work``, which another thread does.

    :raises Unasked: if there is none within ``seconds``.
    """
    return Question(work).answer(time.monotonic() + seconds, seconds)


@contextmanager
def reading(
    conninfo: Conninfo, seconds: float, name: str = APPLICATION
) -> Iterator[Connection[Any]]:
    """A session in a transaction that may only read. Rows have names.

    It leaves no setting behind, in case a pooler is in between.

    :param seconds: the limit for connecting, and for each statement.
    :raises ServerUnavailable: if the server cannot be asked.
    """
    try:
        with connect(conninfo, seconds, name) as connection:
            connection.read_only = True
            with connection.transaction():
                connection.execute(LIMIT, (str(int(seconds * 1000)),))
                yield connection
    except psycopg.errors.QueryCanceled:
        raise Unasked(f"no answer within {seconds:g} s") from None
    except (psycopg.Error, OSError, ValueError) as error:
        raise ServerUnavailable(conninfo.redact(str(error))) from None


def connect(
    conninfo: Conninfo, seconds: float, name: str = APPLICATION
) -> Connection[Any]:
    """Connect as workers do.

    :param seconds: the limit for all hosts together.
    :raises psycopg.Error: if no host can be connected to.
    """
    each = max(math.floor(seconds / conninfo.hosts), SHORTEST_CONNECT)
    return psycopg.connect(
        conninfo.to_connect(
            name,
            connect_timeout=each,
            tcp_user_timeout=int(seconds * 1000),
        ),
        autocommit=True,
        prepare_threshold=None,
        row_factory=namedtuple_row,
    )
