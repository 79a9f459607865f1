"""The state's session with PostgreSQL, and what its errors mean."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from contextlib import contextmanager, suppress
from typing import Any, Iterator

import psycopg
from psycopg import Connection

from ..conninfo import Conninfo
from ..election.lease import Timings
from ..election.settings import (
    Found,
    dropped,
    names_to_read,
    not_in_effect,
    warning,
)
from ..election.sql import READ_SETTINGS, WRITE_SETTING, WRITE_SETTINGS
from ..errors import HaError, ServerUnavailable, StateRefused
from ..redaction import one_line
from . import sql
from .pipeline import classified

logger = logging.getLogger(__name__)

LONGEST_CONNECT = 5  # seconds


class RowInUse(ServerUnavailable):
    """Another transaction took too long. Trying again may help."""


class StateSession:
    """A session that is opened when needed, and again if lost. Calls block.

    The journal takes the connection for as long as a term lasts.

    :param conninfo: where the server is. libpq reads password files,
        certificates and services anew each time.
    :param name: the ``application_name``.
    :param timings: the time limits are made from the lease.
    """

    def __init__(
        self, conninfo: Conninfo, name: str, timings: Timings
    ) -> None:
        self._conninfo = conninfo
        self._name = name
        self._timings = timings
        self._connection: Connection[Any] | None = None
        self._warned: list[str] = []
        self._turn = threading.RLock()

    def another(self) -> StateSession:
        """Another session of the same kind."""
        other = StateSession(self._conninfo, self._name, self._timings)
        other._warned = self._warned
        return other

    @contextmanager
    def transaction(self) -> Iterator[Connection[Any]]:
        """The session, in a transaction.

        :raises ServerUnavailable: if the server cannot be asked now.
        :raises StateRefused: if it will not do that, now or later.
        """
        try:
            with self._turn:
                connection = self._open()
                with connection.transaction():
                    yield connection
        except psycopg.Error as error:
            raise self._meaning(error) from None

    def keep_open(self) -> None:
        """Connect if need be, so that a promotion does not have to.

        :raises HaError: if it cannot connect.
        """
        try:
            with self._turn:
                self._open()
        except psycopg.Error as error:
            raise self._meaning(error) from None

    def take(self) -> Connection[Any]:
        """Hand the connection over. It is the caller's until given back.

        :raises HaError: if it cannot connect.
        """
        self.keep_open()
        connection, self._connection = self._connection, None
        assert connection is not None
        return connection

    def give_back(self, connection: Connection[Any] | None) -> None:
        """Take the connection back.

        :param connection: None if it was lost.
        """
        if connection is not None:
            self._close(self._connection)
            self._connection = connection

    def abort(self) -> None:
        """Shut the socket down, which ends every wait on it.

        Another thread calls it. A frozen server does not answer, but its
        kernel does, so no time limit of TCP ends the wait.
        """
        connection = self._connection
        if connection is None:
            return
        with suppress(psycopg.Error, OSError):
            copy = os.dup(connection.fileno())
            with socket.socket(fileno=copy) as wire:
                wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the session."""
        connection, self._connection = self._connection, None
        self._close(connection)

    def _open(self) -> Connection[Any]:
        if self._connection is not None and _has_news(self._connection):
            self.close()  # what comes unasked can only be its last error
        if self._connection is None or self._connection.closed:
            connection = psycopg.connect(
                self._conninfo.to_connect(self._name, **self._options()),
                autocommit=True,
                prepare_threshold=None,
            )
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _set_up(self, connection: Connection[Any]) -> None:
        """Set what the state needs, and check that it took effect."""
        asked = self._conninfo.settings
        wanted = {
            **sql.SETTINGS,
            "client_encoding": "UTF8",
            "application_name": self._name,
        }
        names = {"names": names_to_read(wanted, asked)}
        if asked:
            asked = dropped(asked, _found(connection, names))
        refusals = _write_settings(connection, {**asked, **wanted})
        found = _found(connection, names)
        missed = not_in_effect(wanted, asked, found)
        if missed and not self._warned:
            self._warned.append(warning(missed, found, refusals))
            logger.warning(*self._warned)

    def _options(self) -> dict[str, Any]:
        limit = self._timings.demote_within
        return {
            "connect_timeout": min(max(int(limit / 2), 2), LONGEST_CONNECT),
            "tcp_user_timeout": max(int(limit * 1000), 1000),
            "keepalives_idle": max(1, int(limit)),
            "keepalives_interval": 1,
            "keepalives_count": 3,
        }

    def _meaning(self, error: psycopg.Error) -> HaError:
        text = self._conninfo.redact(str(error))
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return RowInUse(text)
        found = classified(error.sqlstate, text)
        if not isinstance(found, StateRefused):
            # The outcome of the statement is unknown: take a new session.
            self.close()
        return found

    @staticmethod
    def _close(connection: Connection[Any] | None) -> None:
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()


def _found(connection: Connection[Any], names: dict[str, Any]) -> Found:
    row = connection.execute(READ_SETTINGS, names).fetchone()
    return row[0] if row else {}


def _write_settings(
    connection: Connection[Any], changes: dict[str, str]
) -> dict[str, str]:
    """Set what can be set; for each that cannot be, the server's words."""
    refusals: dict[str, str] = {}
    try:
        values = [list(changes), list(changes.values())]
        connection.execute(WRITE_SETTINGS, values)
        return refusals
    except psycopg.Error:
        if connection.closed:
            raise
    for name, value in changes.items():
        try:
            connection.execute(WRITE_SETTING, (name, value))
        except psycopg.Error as error:
            if connection.closed:
                raise
            refusals[name] = one_line(error)
    return refusals


def _has_news(connection: Connection[Any]) -> bool:
    """Whether the server sent something, or hung up, since the last use."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (psycopg.Error, OSError):
        return True
