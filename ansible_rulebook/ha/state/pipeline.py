"""Sends one transaction at a time, without waiting for its answer.

libpq's pipeline mode ("Pipeline Mode" in its manual): all statements of a
transaction leave at once, the commit among them. One round trip later the
answer says that the transaction is durable.
"""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from typing import Any, Callable, Dict, Sequence

import psycopg
from psycopg import Connection
from psycopg.pq import DiagnosticField, ExecStatus, Format

from ..errors import HaError, ServerUnavailable, StateFenced, StateRefused
from . import sql
from .changes import Statement

# Errors that no retry mends (SQLSTATE, PostgreSQL's appendix A): classes
# first, then single ones.
REFUSED_CLASSES = (
    "22",  # data_exception
    "23",  # integrity_constraint_violation
    "42",  # syntax_error_or_access_rule_violation
    "54",  # program_limit_exceeded
    "P0",  # plpgsql_error: somebody's trigger
)
REFUSED = ("25006", "0A000")  # read_only_sql_transaction, not supported


class Pipeline:
    """A connection in pipeline mode. Lives on the event loop.

    :param connection: in autocommit mode; it belongs to the pipeline until
        :meth:`detach`.
    :param first: the first parameters of every statement, in text format.
    :param done: called when a transaction is durable.
    :param failed: called once, if a transaction failed or the session ended:
        with the error, and whether the transaction was certainly rolled back.
    """

    def __init__(
        self,
        connection: Connection[Any],
        first: Sequence[bytes],
        done: Callable[[], None],
        failed: Callable[[HaError, bool], None],
    ) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._first = list(first)
        self._done = done
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._socket = connection.fileno()  # libpq forgets it when it is lost
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._prepared: Dict[str, bytes] = {}
        self._writing = False
        self._closed = False
        self.is_busy = False
        """Whether a transaction has been sent and not been answered."""
        self.answers: list[Any] = []
        """What its statements returned, each as libpq gives it."""
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._read)

    def send(self, statements: Sequence[Statement]) -> None:
        """Send a transaction. The one before must have been answered.

        Raises nothing: ``failed`` is called instead.
        """
        self.is_busy = True
        self.answers = []
        pgconn = self._pgconn
        try:
            for text, params in statements:
                name = self._prepared.get(text)
                if name is None:
                    name = f"eda_ha_{len(self._prepared)}".encode()
                    self._prepared[text] = name
                    pgconn.send_prepare(name, text.encode())
                formats = [Format.TEXT] * len(self._first)
                # Arrays come in binary format, numbers as text.
                formats += map(format_of, params)
                pgconn.send_query_prepared(
                    name, [*self._first, *params], formats
                )
            pgconn.pipeline_sync()
            self._flush()
        except psycopg.Error as error:
            self._fail(ServerUnavailable(str(error)))

    def look(self) -> None:
        """Read an answer that has come, before the event loop would.

        Call it before anything that may not follow a failed transaction: the
        loop may have been blocked when the failure came.
        """
        # The end of the session may come behind a notice.
        while not self._closed and self._poll.poll(0):
            self._read()

    def detach(self) -> Connection[Any] | None:
        """Give the connection back if it is fit for use."""
        fit = not self._closed and not self.is_busy
        self._let_go()
        if fit:
            with suppress(psycopg.Error):
                self._pgconn.exit_pipeline_mode()
                return self._connection
        self._connection.close()
        return None

    def _flush(self) -> None:
        # What does not fit into the socket's buffer goes when it has room.
        more = bool(self._pgconn.flush())
        if more and not self._writing:
            self._loop.add_writer(self._socket, self._write)
        elif self._writing and not more:
            self._loop.remove_writer(self._socket)
        self._writing = more

    def _write(self) -> None:
        try:
            self._flush()
        except psycopg.Error as error:
            self._fail(ServerUnavailable(str(error)))

    def _read(self) -> None:
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            if self._writing:
                self._flush()
            while self.is_busy and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    continue  # between two statements
                if result.status == ExecStatus.PIPELINE_SYNC:
                    self.is_busy = False
                    self._done()
                    return
                if result.status not in (
                    ExecStatus.COMMAND_OK,
                    ExecStatus.TUPLES_OK,
                ):
                    self._fail(*_error(result))
                    return
                if result.status == ExecStatus.TUPLES_OK:
                    self.answers.append(result)
            if not self.is_busy:
                pgconn.is_busy()  # parses what came unasked
                if pgconn.status != psycopg.pq.ConnStatus.OK:
                    raise psycopg.OperationalError("the session was lost")
        except psycopg.Error as error:
            self._fail(ServerUnavailable(str(error)))

    def _fail(self, error: HaError, is_rolled_back: bool = False) -> None:
        if not self._closed:
            self._let_go()
            self._connection.close()
            self._failed(error, is_rolled_back)

    def _let_go(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._writing:
            self._loop.remove_writer(self._socket)
            self._writing = False
        self._loop.remove_reader(self._socket)


def classified(sqlstate: str | None, text: str) -> HaError:
    """The error to raise for an error of a statement."""
    state = sqlstate or ""
    if state == sql.FENCED and "eda-ha" in text:
        return StateFenced("another worker has begun a term")
    if state[:2] in REFUSED_CLASSES or state in REFUSED:
        return StateRefused(text)
    return ServerUnavailable(text)


def _error(result: Any) -> tuple[HaError, bool]:
    state = result.error_field(DiagnosticField.SQLSTATE)
    words = result.error_field(DiagnosticField.MESSAGE_PRIMARY)
    severity = result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED)
    text = (words or result.error_message or b"").decode("utf-8", "replace")
    # A session that was ended may have committed before.
    is_rolled_back = severity == b"ERROR"
    return classified(state and state.decode(), text), is_rolled_back


def format_of(param: bytes) -> Format:
    """How a parameter of a :data:`.Statement` is sent."""
    # An array's first byte is 0, a number's a digit.
    return Format.TEXT if param[:1].isdigit() else Format.BINARY
