"""The advisory lock: finds the server, and opens sessions that contend."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
import uuid
from typing import Any, Awaitable, Callable

import psycopg
from psycopg import AsyncConnection

from ..conninfo import Conninfo
from ..errors import ServerRefused, ServerUnavailable, SessionLost
from ..redaction import one_line
from . import sql
from .election_log import ElectionLog
from .lease import Timings
from .lock_delay import ServerLife
from .names import APPLICATION, PROCESS_DIGITS, application_name, lock_key
from .session import LockSession
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

IGNORE_OPTIONS = (
    "PgBouncer needs ignore_startup_parameters = options; what the connection "
    "string's options ask for is set all the same"
)
CHUNK_WHEN_LOGGED = 60.0  # seconds, longest wait with log_lock_waits = on
# psycopg limits each try; a name may have many addresses.
CONNECT_PATIENCE = 120.0  # seconds

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
    :param kind: what its sessions are, in ``application_name``.
    """

    def __init__(
        self,
        conninfo: Conninfo,
        ha_uuid: uuid.UUID,
        worker_id: str,
        timings: Timings,
        session_pooler: bool = False,
        claimant: str | None = None,
        kind: str = APPLICATION,
    ) -> None:
        self.conninfo = conninfo
        self.ha_uuid = ha_uuid
        self.worker_id = worker_id
        self.claimant = claimant or secrets.token_hex(PROCESS_DIGITS // 2)
        self.key = lock_key(ha_uuid)
        self.name = application_name(self.key, worker_id, self.claimant, kind)
        self.name_prefix = application_name(self.key, worker_id, kind=kind)
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

        async def set_up(session: LockSession) -> None:
            found = await self._check(session)
            await self._limit_times(session, found)
            await self._learn_life(session, claims_terms)

        return await self._open(set_up)

    async def check(self) -> None:
        """Open a session, look whether it would do, and close it.

        :raises ServerRefused: if an operator has to act.
        :raises ServerUnavailable: if trying again may help.
        """
        session = await self._open(self._check)
        await session.close()

    async def namesakes(self) -> set[str]:
        """The sessions of other processes with the same worker id.

        :raises ServerRefused: if an operator has to act.
        :raises ServerUnavailable: if trying again may help.
        """
        session = await self._open(self._check)
        await session.close()
        return session.namesakes

    def _warn_once(self, what: str, *details: object) -> None:
        """Log something about the server the first time it is seen."""
        if what not in self._warned:
            self._warned.add(what)
            logger.warning(what, *details)

    # -- finding the server ----------------------------------------------

    async def _open(
        self, prepare: Callable[[LockSession], Awaitable[object]]
    ) -> LockSession:
        options = self._client_options()
        try:
            connection = await asyncio.wait_for(
                AsyncConnection.connect(
                    self.conninfo.to_connect(self.name, **options),
                    autocommit=True,
                    prepare_threshold=None,
                ),
                CONNECT_PATIENCE,
            )
        except asyncio.TimeoutError:
            raise ServerUnavailable("connecting timed out") from None
        except (psycopg.Error, OSError, ValueError) as error:
            raise self._classified(error) from None
        session = LockSession(
            connection, self.conninfo, self.key, self.timings
        )
        try:
            await prepare(session)
        except SessionLost as error:
            await session.close()
            raise ServerUnavailable(str(error)) from None
        except BaseException:
            await session.close()
            raise
        return session

    def _client_options(self) -> dict[str, Any]:
        lease = self.timings.lease_duration
        limits = {
            "connect_timeout": min(max(math.ceil(lease / 3), 2), 10),
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

    # -- setting the session up ------------------------------------------

    async def _check(self, session: LockSession) -> Found:
        """Find out whether a lock in this session can be relied on.

        :returns: the session's settings.
        :raises ServerRefused: if a transaction pooler is in between.
        :raises ServerUnavailable: if it is a standby (it may be promoted).
        :raises SessionLost: if the session ends meanwhile.
        """
        session.backend_pid, in_recovery, found = await self._greet(session)
        pooled = session.backend_pid != session.connected_pid
        if pooled and not self.session_pooler:
            raise ServerRefused(
                "the connection goes through a connection pooler, which may "
                "hand the lock's session to another client: connect to "
                "PostgreSQL itself, or give --ha-session-pooler if it pools "
                "whole sessions"
            )
        if in_recovery:
            raise ServerUnavailable("the server is a standby, not a primary")
        return found

    async def _greet(self, session: LockSession) -> tuple[int, bool, Found]:
        """The session as it is; notes the others with this worker's id.

        :returns: its process, whether that is a standby's, its settings.
        """
        prefix = self.name_prefix
        names = names_to_read(
            lock_limits(self.timings),
            UNLIMITED,
            IN_LOCK,
            IN_ALL,
            self.conninfo.settings,
        )
        values = {"names": names, "length": len(prefix), "prefix": prefix}
        (row,) = await session.fetch(sql.HELLO, values)
        backend, in_recovery, local, found, others = row
        if local:
            found = {
                name: value
                for name, value in found.items()
                if not name.startswith(ON_TCP)
            }
        session.namesakes = set(others) - {self.name}
        return backend, in_recovery, found

    async def _limit_times(self, session: LockSession, found: Found) -> None:
        """Turn the session into a lease."""
        asked = dropped(self.conninfo.settings, found)
        wanted = self._wanted_settings(session, found)
        refusals = await _write_settings(session, {**asked, **wanted})
        backend, _, found = await self._greet(session)
        if backend != session.backend_pid:
            raise ServerRefused(
                "the connection pooler gives each transaction another "
                "session: the lock needs one that pools whole sessions"
            )
        if "idle_session_timeout" not in found:
            self._warn_once(
                "PostgreSQL before 14 has no idle_session_timeout: a leader "
                "that is paused but not dead will not be replaced"
            )
        missed = not_in_effect(wanted, asked, found)
        if missed:
            self._warn_once(warning(missed, found, refusals))
        # A limit below ours frees the lock earlier: trust it for less.
        for name in LEASE_LIMITS:
            limit = int(found.get(name, ("0",))[0]) / 1000
            if limit:
                session.timings = session.timings.shortened(limit)

    def _wanted_settings(
        self, session: LockSession, found: Found
    ) -> dict[str, str]:
        present = {name: value for name, (value, _) in found.items()}
        limits = lock_limits(self.timings)
        # With log_lock_waits each wait of over a second writes a line, and
        # so does from then on each time that the waiter looks at its client.
        if present.get("log_lock_waits") == "on":
            session.wait_chunk = max(session.wait_chunk, CHUNK_WHEN_LOGGED)
            limits["client_connection_check_interval"] = 0
        wanted = {name: "0" for name in UNLIMITED if name in present}
        for name, value in limits.items():
            if name in present:
                wanted[name] = str(stricter(value, present[name]))
        for name in LEASE_LIMITS:
            if name in wanted:
                wanted[name] = str(max(int(wanted[name]), SHORTEST_MS))
        wanted["lock_timeout"] = str(max(int(session.wait_chunk * 1000), 1))
        wanted["client_min_messages"] = "notice"
        # A pooler may not have passed these on.
        wanted["client_encoding"] = "UTF8"
        wanted["application_name"] = self.name
        return wanted

    async def _learn_life(
        self, session: LockSession, claims_terms: bool
    ) -> None:
        began = await self._told(session, sql.LIFE, "when it was started")
        if began is None:
            return
        promoted = "whether it was promoted"
        lineage = await self._told(session, sql.LINEAGE, promoted)
        session.life = ServerLife(began, lineage or "")
        if lineage and claims_terms:
            session.led_last = await self._claimed_last(session, lineage)

    async def _claimed_last(self, session: LockSession, lineage: str) -> bool:
        """Whether nobody has led since this process did.

        A standby that was promoted may lack the last claims, so it has to be
        the same data.
        """
        names = (self.ha_uuid, self.claimant, lineage)
        try:
            if not (await session.attempt(sql.HAS_CLAIMS))[0][0]:
                return False
            return bool((await session.attempt(sql.CLAIMED_LAST, names))[0][0])
        except psycopg.Error:
            return False  # no right to look: then the lock delay applies

    async def _told(
        self, session: LockSession, question: str, what: str
    ) -> str | None:
        """The answer, or None if the server does not let us ask that."""
        try:
            return str((await session.attempt(question))[0][0])
        except psycopg.Error as error:
            self._warn_once(
                f"The server does not tell {what}: %s", one_line(error)
            )
        return None


async def check_server(lock: AdvisoryLock, log: ElectionLog) -> bool:
    """Connect once, to find out early what no retry can mend.

    A server that cannot be reached is not an error.

    :returns: whether it was reached; if not, that has been logged.
    :raises ServerRefused: wrong password, unknown database or role,
        transaction pooler.
    """
    try:
        await lock.check()
    except ServerUnavailable as error:
        log.outage(error)
        return False
    return True


async def _write_settings(
    session: LockSession, changes: dict[str, str]
) -> dict[str, str]:
    """Set what can be set.

    :returns: for each that cannot be, the server's words.
    """
    refusals: dict[str, str] = {}
    all_of_them = [list(changes), list(changes.values())]
    if await _refusal(session, sql.WRITE_SETTINGS, all_of_them):
        # Managed servers refuse some: find out which, keep the rest.
        for name, value in changes.items():
            refusal = await _refusal(session, sql.WRITE_SETTING, [name, value])
            if refusal:
                refusals[name] = refusal
    return refusals


async def _refusal(
    session: LockSession, statement: str, params: list[Any]
) -> str:
    """The server's words if it does not do that, or nothing."""
    try:
        await session.attempt(statement, params)
    except psycopg.Error as error:
        return one_line(error)
    return ""
