"""The advisory lock and the one PostgreSQL session that holds it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import re
import secrets
import select
import socket
import threading
import uuid
from contextlib import suppress
from typing import (
    Any,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
    TypeVar,
    Union,
)

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from ..conninfo import Conninfo
from ..errors import ServerRefused, ServerUnavailable, SessionLost
from ..redaction import one_line
from . import sql
from .lease import Timings
from .server_life import ServerLife
from .settings import (
    IN_ALL,
    IN_LOCK,
    LEASE_LIMITS,
    ON_TCP,
    SHORTEST_MS,
    UNLIMITED,
    Found,
    dropped,
    lock_limits,
    names_to_read,
    not_in_effect,
    stricter,
    warning,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")
Params = Union[Sequence[Any], Mapping[str, Any]]

APPLICATION = "eda-ha"
NAME_BYTES = 63  # of application_name, PostgreSQL's NAMEDATALEN - 1
PROCESS_DIGITS = 8  # hexadecimal, at the end of the name
LEFT_OUT = ".."
IGNORE_OPTIONS = (
    "PgBouncer needs ignore_startup_parameters = options; what the connection "
    "string's options ask for is set all the same"
)
CHUNK_WHEN_LOGGED = 60.0  # seconds, longest wait with log_lock_waits = on
CANCEL_TIMEOUT = 1.0  # seconds
RELEASE_TIMEOUT = 2.0  # seconds; closing the session frees the lock, too
# psycopg limits each try; a name may have many addresses.
CONNECT_PATIENCE = 120.0  # seconds
ANSWER_SLACK = 5.0  # seconds for an answer on top of the wait asked for

# Linux tells the end of a stream even while unread bytes stand before it.
_HUNG_UP: int = getattr(select, "POLLRDHUP", 0)

# Errors that no retry mends (SQLSTATE, PostgreSQL's appendix A).
REFUSALS = {
    "28P01",  # invalid_password
    "28000",  # invalid_authorization_specification
    "3D000",  # invalid_catalog_name
    "42501",  # insufficient_privilege
}
# libpq tells no SQLSTATE of an error that came before the session was up, so
# the server's words have to do. A server that speaks another language is
# then taken for unavailable: its message is logged and the worker retries.
_REFUSED = re.compile(
    r"password authentication failed|no password supplied"
    r"|(?:role|database) \".*\" does not exist|no pg_hba\.conf entry"
    r"|authentication failed for user|permission denied for database"
    r"|is not permitted to log in|unsupported startup parameter"
    r"|invalid value for parameter|unrecognized configuration parameter"
    r"|permission denied to set parameter|parameter \".*\" cannot be "
)


def lock_key(ha_uuid: uuid.UUID) -> int:
    """The advisory lock's key for a cluster: a signed 64-bit integer.

    The first 8 bytes of a namespaced SHA-256 of the canonical UUID, so that
    it collides neither with another cluster's nor with locks that other
    programs number by hand.
    """
    text = f"ansible-rulebook-ha:leader:{ha_uuid}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def application_name(
    key: int, worker_id: str, process: str = "", kind: str = APPLICATION
) -> str:
    """How a session shows in ``pg_stat_activity``.

    ``<kind>:<key>:<worker id>:<process>``. Of an id that is too long the
    middle is left out: many differ at one end only.

    :param process: tells workers with the same id apart. Without it this is
        what all names for the worker id begin with.
    """
    worker = re.sub(r"[^A-Za-z0-9._-]", "_", worker_id)
    head = f"{kind}:{key % 2**64:016x}:"
    room = NAME_BYTES - len(head) - len(":") - PROCESS_DIGITS
    if len(worker) > room:
        half = (room - len(LEFT_OUT)) // 2
        worker = worker[:half] + LEFT_OUT + worker[-half:]
    return f"{head}{worker}:{process[:PROCESS_DIGITS]}"


class AdvisoryLock:
    """Finds the server and opens sessions that contend for one lock.

    :param conninfo: where the server is.
    :param ha_uuid: the cluster; the lock's key is made from it.
    :param worker_id: shown in ``application_name``.
    :param timings: what the session's time limits are made from.
    :param session_pooler: the operator vouches that the pooler in between
        keeps one server session for one client connection.
    :param claimant: names this process in ``application_name``, and in the
        table of claims if it claims its terms there; default random.
    """

    def __init__(
        self,
        conninfo: Conninfo,
        ha_uuid: uuid.UUID,
        worker_id: str,
        timings: Timings,
        session_pooler: bool = False,
        claimant: str | None = None,
    ) -> None:
        self.conninfo = conninfo
        self.ha_uuid = ha_uuid
        self.worker_id = worker_id
        self.claimant = claimant or secrets.token_hex(PROCESS_DIGITS // 2)
        self.key = lock_key(ha_uuid)
        self.name = application_name(self.key, worker_id, self.claimant)
        self.name_prefix = application_name(self.key, worker_id)
        self.timings = timings
        self.session_pooler = session_pooler
        self._warned: set[str] = set()

    async def open(self, claims_terms: bool = False) -> LockSession:
        """Open a session to the primary, set up and not yet locked.

        :param claims_terms: this worker claims its terms in a table, as
            workers with state do.
        :raises ServerRefused: if an operator has to act.
        :raises ServerUnavailable: if trying again may help.
        """
        return await self._open(lambda session: session.set_up(claims_terms))

    async def check(self) -> None:
        """Open a session, look whether it would do, and close it.

        :raises ServerRefused: if an operator has to act.
        :raises ServerUnavailable: if trying again may help.
        """
        session = await self._open(LockSession.check)
        await session.close()

    async def namesakes(self) -> set[str]:
        """The sessions of other processes with the same worker id.

        :raises ServerRefused: if an operator has to act.
        :raises ServerUnavailable: if trying again may help.
        """
        session = await self._open(LockSession.check)
        await session.close()
        return session.namesakes

    def warn_once(self, what: str, *details: object) -> None:
        """Log something about the server the first time it is seen."""
        if what not in self._warned:
            self._warned.add(what)
            logger.warning(what, *details)

    async def _open(
        self, prepare: Callable[[LockSession], Awaitable[None]]
    ) -> LockSession:
        timeout = self._connect_timeout()
        options = self._client_options(timeout)
        try:
            connection = await asyncio.wait_for(
                AsyncConnection.connect(
                    make_conninfo("", **self.conninfo.merged(**options)),
                    autocommit=True,
                    prepare_threshold=None,
                ),
                CONNECT_PATIENCE,
            )
        except asyncio.TimeoutError:
            raise ServerUnavailable("connecting timed out") from None
        except (psycopg.Error, OSError, ValueError) as error:
            raise self._classified(error) from None
        session = LockSession(connection, self)
        try:
            await prepare(session)
        except SessionLost as error:
            await session.close()
            raise ServerUnavailable(str(error)) from None
        except BaseException:
            await session.close()
            raise
        return session

    def _connect_timeout(self) -> int:
        ours = min(max(math.ceil(self.timings.lease_duration / 3), 2), 10)
        return stricter(ours, self.conninfo.get("connect_timeout"))

    def _client_options(self, connect_timeout: int) -> dict[str, Any]:
        lease = self.timings.lease_duration
        limits = {
            "keepalives_idle": max(1, int(lease / 3)),
            "keepalives_interval": max(1, int(lease / 9)),
            "keepalives_count": 3,
            "tcp_user_timeout": int(self.timings.trust_for * 1000),
        }
        options: dict[str, Any] = {
            name: stricter(value, self.conninfo.get(name))
            for name, value in limits.items()
        }
        options["keepalives"] = 1
        # With SQL_ASCII, a database's or PGCLIENTENCODING's, text would come
        # as bytes, and be equal to no name.
        options["client_encoding"] = "UTF8"
        options["connect_timeout"] = connect_timeout
        options["application_name"] = self.name
        options["target_session_attrs"] = self.conninfo.target_session_attrs
        return options

    def _classified(self, error: Exception) -> Exception:
        text = self.conninfo.redact(str(error))
        if "unsupported startup parameter: options" in text:
            text += f" ({IGNORE_OPTIONS})"
        sqlstate = getattr(error, "sqlstate", None)
        # Several hosts: one may refuse while another is only down for now.
        if sqlstate in REFUSALS or (
            _REFUSED.search(text) and self.conninfo.hosts == 1
        ):
            return ServerRefused(text)
        return ServerUnavailable(text)


class LockSession:
    """One server session, and with it one chance to hold the lock.

    Nothing else ever runs on it. A statement that failed, timed out or was
    cancelled leaves the outcome unknown, so the session is over with it:
    close it and open another. Never lock twice in one session: the lock
    counts, and one unlock would leave it held.
    """

    def __init__(
        self, connection: AsyncConnection[Any], lock: AdvisoryLock
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._key = lock.key
        # A descriptor of our own: it can be asked by another thread without
        # the risk that its number means another file by then.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        # Whatever socket.setdefaulttimeout() says, is_over() may not wait.
        self._socket.setblocking(False)
        self._news = select.poll()
        self._news.register(self._socket, select.POLLIN | _HUNG_UP)
        self._plain = not connection.pgconn.ssl_in_use
        self._busy = False
        self._reading = threading.Lock()
        self._backend = 0
        self._ended = False
        self._unanswered: asyncio.Future[Any] | None = None
        self._notices: list[str] = []
        connection.add_notice_handler(self._noticed)
        self.timings = lock.timings
        self.life: ServerLife | None = None
        """The server's present life, if it tells."""
        self.led_last = False
        """Whether the last claim of a term is this process's own."""
        self.wait_chunk = lock.timings.poll_interval
        self.namesakes: set[str] = set()
        """Names of sessions of other processes with this worker's id."""
        self._found: Found = {}

    # -- set-up ----------------------------------------------------------

    async def set_up(self, claims_terms: bool = False) -> None:
        """Check the server and turn the session into a lease.

        :param claims_terms: see :meth:`AdvisoryLock.open`.
        :raises ServerRefused: see :meth:`check`.
        :raises ServerUnavailable: see :meth:`check`.
        :raises SessionLost: if the session ends meanwhile.
        """
        await self.check()
        await self._limit_times()
        await self._look_at_life(claims_terms)

    async def check(self) -> None:
        """Find out whether a lock in this session can be relied on.

        :raises ServerRefused: if a transaction pooler is in between.
        :raises ServerUnavailable: if it is a standby (it may be promoted).
        :raises SessionLost: if the session ends meanwhile.
        """
        self._backend, in_recovery = await self._greet()
        pooled = self._backend != self._connection.info.backend_pid
        if pooled and not self._lock.session_pooler:
            raise ServerRefused(
                "the connection goes through a connection pooler, which may "
                "hand the lock's session to somebody else: connect to "
                "PostgreSQL itself, or give --ha-session-pooler if it pools "
                "whole sessions"
            )
        if in_recovery:
            raise ServerUnavailable("the server is a standby, not a primary")

    async def _greet(self) -> tuple[int, bool]:
        """See the session as it is: its process, and whether it is a standby.

        Its settings and others with this worker's name are noted.
        """
        prefix = self._lock.name_prefix
        names = names_to_read(
            lock_limits(self.timings),
            UNLIMITED,
            IN_LOCK,
            IN_ALL,
            self._lock.conninfo.settings,
        )
        values = {"names": names, "length": len(prefix), "prefix": prefix}
        (row,) = await self._statement(sql.HELLO, values)
        backend, in_recovery, local, self._found, others = row
        if local:
            self._found = {
                name: value
                for name, value in self._found.items()
                if not name.startswith(ON_TCP)
            }
        self.namesakes = set(others) - {self._lock.name}
        return backend, in_recovery

    async def _limit_times(self) -> None:
        asked = dropped(self._lock.conninfo.settings, self._found)
        wanted = self._wanted_settings()
        refusals = await self._write_settings({**asked, **wanted})
        backend, _ = await self._greet()
        if backend != self._backend:
            raise ServerRefused(
                "the connection pooler gives each transaction another "
                "session: the lock needs one that pools whole sessions"
            )
        if "idle_session_timeout" not in self._found:
            self._lock.warn_once(
                "PostgreSQL before 14 has no idle_session_timeout: a leader "
                "that is paused but not dead will not be replaced"
            )
        missed = not_in_effect(wanted, asked, self._found)
        if missed:
            self._lock.warn_once(warning(missed, self._found, refusals))
        # A limit below ours frees the lock earlier: trust it for less.
        for name in LEASE_LIMITS:
            limit = int(self._found.get(name, ("0",))[0]) / 1000
            if limit:
                self.timings = self.timings.shortened(limit)

    def _wanted_settings(self) -> dict[str, str]:
        present = {name: value for name, (value, _) in self._found.items()}
        limits = lock_limits(self.timings)
        # With log_lock_waits each wait of over a second writes a line, and
        # so does from then on each time that the waiter looks at its client.
        if present.get("log_lock_waits") == "on":
            self.wait_chunk = max(self.wait_chunk, CHUNK_WHEN_LOGGED)
            limits["client_connection_check_interval"] = 0
        wanted = {name: "0" for name in UNLIMITED if name in present}
        for name, value in limits.items():
            if name in present:
                wanted[name] = str(stricter(value, present[name]))
        for name in LEASE_LIMITS:
            if name in wanted:
                wanted[name] = str(max(int(wanted[name]), SHORTEST_MS))
        wanted["lock_timeout"] = str(max(int(self.wait_chunk * 1000), 1))
        wanted["client_min_messages"] = "notice"
        # A pooler may not have passed these on.
        wanted["client_encoding"] = "UTF8"
        wanted["application_name"] = self._lock.name
        return wanted

    async def _look_at_life(self, claims_terms: bool) -> None:
        began = await self._told(sql.LIFE, "when it was started")
        if began is None:
            return
        lineage = await self._told(sql.LINEAGE, "whether it was promoted")
        self.life = ServerLife(began, lineage or "")
        if lineage and claims_terms:
            self.led_last = await self._claimed_last(lineage)

    async def _claimed_last(self, lineage: str) -> bool:
        """Whether nobody has led since this process did.

        A standby that was promoted may lack the last claims, so it has to be
        the same data.
        """
        names = (self._lock.ha_uuid, self._lock.claimant, lineage)
        try:
            if not (await self._rows(sql.HAS_CLAIMS, ()))[0][0]:
                return False
            return bool((await self._rows(sql.CLAIMED_LAST, names))[0][0])
        except psycopg.Error as error:
            if self._connection.closed:
                raise SessionLost(self._words(error)) from None
            return False  # no right to look: then it stands back

    async def _told(self, question: str, what: str) -> str | None:
        """The answer, or None if the server does not let us ask that."""
        try:
            return str((await self._rows(question, ()))[0][0])
        except psycopg.Error as error:
            if self._connection.closed:
                raise SessionLost(self._words(error)) from None
            self._lock.warn_once(
                f"The server does not tell {what}: %s", one_line(str(error))
            )
        return None

    async def _write_settings(self, changes: dict[str, str]) -> dict[str, str]:
        """Set what can be set.

        :returns: for each that cannot be, the server's words.
        """
        refusals: dict[str, str] = {}
        if await self._refusal(
            sql.WRITE_SETTINGS, [list(changes), list(changes.values())]
        ):
            # Managed servers refuse some: find out which, keep the rest.
            for name, value in changes.items():
                refusal = await self._refusal(sql.WRITE_SETTING, [name, value])
                if refusal:
                    refusals[name] = refusal
        return refusals

    async def _refusal(self, statement: str, params: list[Any]) -> str:
        """The server's words if it does not do that, or nothing."""
        try:
            await self._rows(statement, params)
        except psycopg.Error as error:
            if self._connection.closed:
                raise SessionLost(self._words(error)) from None
            return one_line(str(error))
        return ""

    @property
    def backend_pid(self) -> int:
        """Process id of the session's server process."""
        return self._backend

    # -- the lock --------------------------------------------------------

    async def try_acquire(self) -> bool:
        """Take the lock if it is free. One round trip.

        :raises SessionLost: outcome unknown.
        """
        rows = await self._statement(sql.TRY_LOCK, (self._key,))
        return bool(rows[0][0])

    async def wait_acquire(self) -> bool:
        """Queue for the lock for up to ``wait_chunk`` seconds.

        :returns: whether it is ours; the caller must still prove it.
        :raises SessionLost: outcome unknown.
        """
        self._notices.clear()
        await self._statement(
            sql.WAIT_LOCK.format(key=self._key),
            timeout=self.wait_chunk + ANSWER_SLACK,
        )
        if sql.ACQUIRED in self._notices:
            return True
        if sql.NOT_ACQUIRED in self._notices:
            return False
        return await self.prove()  # something in between eats notices

    async def prove(self, timeout: float | None = None) -> bool:
        """Ask the server whether this very session holds the lock.

        It also counts as a sign of life: the server's timeout starts anew.

        :param timeout: seconds to wait for the answer.
        :returns: same backend, primary, lock granted to it.
        :raises SessionLost: if there is no answer.
        """
        high, low = self._halves()
        statement = sql.PROVE.format(high=high, low=low)
        try:
            answer = await self._in_time(self._ask(statement), timeout)
        except psycopg.Error as error:
            raise SessionLost(self._words(error)) from None
        return answer == [str(self._backend).encode(), b"f", b"t"]

    async def holder(self) -> str | None:
        """The worker id of who holds the lock now, cut to what fits."""
        rows = await self._statement(sql.HOLDER, self._halves())
        if not rows:
            return None
        name = str(rows[0][0] or "")
        parts = name.split(":")
        return parts[2] if parts[0] == APPLICATION and parts[2:] else name

    async def release(self) -> None:
        """Unlock. The session can contend again.

        :raises SessionLost: outcome unknown.
        """
        await self._statement(sql.UNLOCK, (self._key,), RELEASE_TIMEOUT)

    def _halves(self) -> tuple[int, int]:
        key = self._key % 2**64
        return key >> 32, key & 0xFFFFFFFF

    # -- the wire --------------------------------------------------------

    def is_over(self) -> bool:
        """Whether the server has ended the session, from any thread.

        Asks the socket without waiting. PostgreSQL sends its last error
        *before* it frees the locks of a session that it terminates, so a
        leader that asks here knows no later than the next one.
        """
        with self._reading:
            return self._ended or self._has_last_word()

    def _has_last_word(self) -> bool:
        # No news is the usual answer, and asked for several times an event:
        # poll() has it at a quarter of the cost of a recv() that raises.
        if self._socket.fileno() < 0:
            return True
        if not self._news.poll(0):
            return False
        try:
            first = self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        # Unasked for, or in answer to a proof, an ErrorResponse is the last
        # word. What TLS wraps cannot be told apart; then the end of the
        # stream has to do.
        if not first or (first == b"E" and self._plain and not self._busy):
            return True
        return self._hung_up()

    def _hung_up(self) -> bool:
        # A server that crashes sends a notice first, and TLS an alert.
        if not _HUNG_UP:
            return False
        try:
            poll = select.poll()
            poll.register(self._socket, _HUNG_UP)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            return True

    def fileno(self) -> int:
        """For ``loop.add_reader`` while no statement is under way."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Read what the server said unasked: a notice, or its last error.

        :raises SessionLost: if the session is over.
        """
        if self._busy:
            return
        self._notices.clear()
        with self._reading, suppress(psycopg.Error):
            # Once read, the last error is no longer there to be peeked at.
            self._ended = self._ended or self._has_last_word()
            self._connection.pgconn.consume_input()
            self._connection.pgconn.is_busy()  # parses what was read
        if self._ended:
            words = " ".join(self._notices) or "the connection was closed"
            raise SessionLost(self._lock.conninfo.redact(words))

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        self._notices.append(notice.message_primary or "")
        if notice.severity_nonlocalized in ("FATAL", "PANIC"):
            self._ended = True

    async def close(self) -> None:
        """End the session at once; a statement under way fails."""
        self.abort()
        if self._unanswered is not None:
            await asyncio.wait({self._unanswered})
            self._unanswered.exception()
        with suppress(psycopg.Error, OSError):
            await self._connection.close()

    async def cancel(self) -> None:
        """Ask the server to drop a wait, so that it leaves the queue."""
        with suppress(psycopg.Error, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(
                self._connection.cancel_safe(timeout=CANCEL_TIMEOUT),
                CANCEL_TIMEOUT * 2,
            )

    def abort(self) -> None:
        """Shut the socket down, so that whoever waits on it wakes up.

        Cancelling the coroutine instead would make psycopg wait for the
        server, which may not answer any more.
        """
        self._ended = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    async def _statement(
        self,
        statement: str,
        params: Params | None = None,
        timeout: float | None = None,
    ) -> list[tuple[Any, ...]]:
        try:
            return await self._rows(statement, params, timeout)
        except psycopg.Error as error:
            raise SessionLost(self._words(error)) from None

    async def _rows(
        self,
        statement: str,
        params: Params | None = None,
        timeout: float | None = None,
    ) -> list[tuple[Any, ...]]:
        self._busy = True
        try:
            return await self._in_time(
                self._execute(statement, params), timeout
            )
        finally:
            self._busy = False

    async def _in_time(self, work: Awaitable[T], timeout: float | None) -> T:
        if timeout is None:
            timeout = max(self.timings.trust_for, 1.0)
        return await self._bounded(work, timeout)

    async def _ask(self, statement: str) -> list[bytes | None]:
        """The one row that answers a statement, as text.

        A leader asks while another thread wants to know whether the session
        is over. What psycopg has read and not yet raised, that thread could
        not see; so here nobody looks at the socket between the two.
        """
        pgconn = self._connection.pgconn
        pgconn.send_query(statement.encode())
        while pgconn.flush():
            await self._ready(writing=True)
        row: list[bytes | None] = []
        while True:
            await self._ready()
            with self._reading:
                self._ended = self._ended or self._has_last_word()
                try:
                    if _take_row(pgconn, row):
                        return row
                except psycopg.Error:
                    self._ended = True
                    raise

    async def _ready(self, writing: bool = False) -> None:
        """Wait until the connection can be read from, or written to."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        add, remove = loop.add_reader, loop.remove_reader
        if writing:
            add, remove = loop.add_writer, loop.remove_writer
        # Its own descriptor, which abort() does not close.
        number = self._connection.fileno()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        add(number, tell)
        try:
            await ready
        finally:
            remove(number)

    async def _execute(
        self, statement: str, params: Params | None
    ) -> list[tuple[Any, ...]]:
        cursor = await self._connection.execute(statement, params)
        return await cursor.fetchall() if cursor.description else []

    async def _bounded(self, work: Awaitable[T], timeout: float) -> T:
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout)
        finally:
            if not task.done():
                # Only trust ends here. To close the session would free the
                # lock, and whoever held it may still have to be demoted.
                self._ended = True
                self._unanswered = task
        if not done:
            raise SessionLost(f"no answer within {timeout:.1f} s")
        return task.result()

    def _words(self, error: Exception) -> str:
        return self._lock.conninfo.redact(str(error))


def _take_row(pgconn: PGconn, row: list[bytes | None]) -> bool:
    """Read what has come; true when the answer is complete.

    :raises psycopg.Error: if it is an error, or the end.
    """
    pgconn.consume_input()
    while not pgconn.is_busy():
        result = pgconn.get_result()
        if result is None:
            return True
        if result.status != ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError(pgconn.get_error_message())
        row += [result.get_value(0, n) for n in range(result.nfields)]
    return False
