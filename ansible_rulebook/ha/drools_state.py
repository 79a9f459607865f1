"""Drools' side of the state: what it stores, and when.

drools_jpy 0.4 keeps sessions, matches and the progress of actions in
PostgreSQL. What it lacks for several workers is done here with its own means:
it always runs DDL when it connects, which would lock the tables that the
leader is writing to, and waits 30 seconds for a connection in the middle of
the rulebook's event loop.
"""

from __future__ import annotations

import json
import logging
import os
import re
from typing import Any, Mapping

from .errors import (
    HaError,
    ServerUnavailable,
    StateFenced,
    StateRefused,
    StateTampered,
)
from .java import elements, field, peek
from .redaction import one_line
from .session_clock import CONTAINER, show_present

logger = logging.getLogger(__name__)

ENGINE = "org.drools.ansible.rulebook.integration.core.jpy.AstRulesEngine"
HA_UTILS = "org.drools.ansible.rulebook.integration.ha.api.HAUtils"
POOL = "com.zaxxer.hikari.HikariDataSource"
POOL_LOG = ("org.slf4j.simpleLogger.log.com.zaxxer.hikari", "warn")
POOLED = 1  # connections that wait in the pool; two more when needed

# Java collects its garbage when it has to; that upstream has it stop for a
# whole collection every 1,000 events takes 6 % of what a leader can do.
COLLECT_AFTER = 10_000  # events, unless the operator has set it
COLLECT_VARIABLE = "DROOLS_JPY_GC_AFTER"

# All that Drools says when a statement has failed. jpy passes a Java
# exception on as a RuntimeError with nothing but its text.
FAILED = "Failed to "
DATABASE = "PostgreSQL"
TAMPERED = "integrity check failed"
UNSTORED = (
    "Connection is not available",  # HikariCP's words
    "PSQLException: ERROR: ",
    "PSQLException: FATAL: ",  # in place of the answer
)
CAUSE = "caused by "
_CLASSES = re.compile(r"^(?:[\w.$]+(?:Exception|Error): )+")


def is_failed_write(error: Exception) -> bool:
    """Whether Drools failed to store something, so its state is spoilt."""
    first = (str(error).splitlines() or [""])[0]
    return FAILED in first and DATABASE in first


def is_surely_unstored(error: Exception) -> bool:
    """Whether a write that failed can have left nothing in the database.

    It cannot if there was no connection to begin with, or if the server
    answered with an error: then it has rolled back. Else the last answer
    may have been lost on its way.
    """
    text = str(error)
    return any(sure in text for sure in UNSTORED)


class DroolsState:
    """The state of one engine of drools_jpy.

    Its methods block; :meth:`enable_leader` reads and replays everything
    that is stored.

    :param engine: the Java object.
    """

    def __init__(self, engine: Any) -> None:
        _quieten_pool()
        _tell_causes()
        _collect_less()
        self._engine = engine
        self._dedup_window: int | None = None
        self.is_initialised = False

    @staticmethod
    def create_tables(ha_uuid: str, params: Mapping[str, str]) -> None:
        """Create Drools' tables, or bring them up to date.

        :param params: as Drools wants them, see :mod:`.jdbc`.
        :raises HaError: with Drools' reason.
        """
        import jpy

        _quieten_pool()
        _tell_causes()
        engine = jpy.get_type(ENGINE)()
        try:
            _initialise(engine, ha_uuid, "init-db", params, {})
        finally:
            engine.shutdown()

    def initialise(
        self,
        ha_uuid: str,
        worker: str,
        params: Mapping[str, str],
        config: Mapping[str, Any],
        patience: float,
    ) -> None:
        """Connect. Reads and writes nothing that the leader owns.

        The parameters have to put ``pg_temp`` first on the search path:
        then the DDL that Drools runs each time makes temporary tables, which
        are dropped here with the connections that made them.

        :param patience: seconds to wait for a connection from now on.
        :raises HaError: with Drools' reason.
        """
        _initialise(self._engine, ha_uuid, worker, params, config)
        pool = self._pool()
        pool.setMinimumIdle(POOLED)
        pool.setConnectionTimeout(max(int(patience * 1000), 250))
        pool.getHikariPoolMXBean().softEvictConnections()
        window = config.get("dedup_buffer_size")
        self._dedup_window = None if window is None else int(window)
        self.is_initialised = True

    def enable_leader(self) -> None:
        """Recover what is stored, and write from here on.

        Matches whose actions had not run come through the async channel
        before this returns.

        :raises StateFenced: if the database knows another leader.
        :raises StateTampered: if the stored state fits no checksum.
        :raises ServerUnavailable: if the server did not answer.
        :raises StateRefused: if the engine is another one than expected.
        """
        show_present(self._engine)
        try:
            self._engine.enableLeader()
        except RuntimeError as error:
            raise _classified(error) from None
        if self._dedup_window is not None:
            # Recovery sets it back to Drools' default of 5.
            for executor in self._executors():
                executor.getHaSessionContext().setMaxProcessedIds(
                    self._dedup_window
                )

    def disable_leader(self) -> None:
        """Write no more; touches no connection."""
        self._engine.disableLeader()

    def leave_ha_mode(self) -> None:
        """Have the engine keep no state of the sessions that come."""
        field(self._engine, "haMode").setBoolean(self._engine, False)
        self.is_initialised = False

    def checksum(self, ruleset: str) -> str | None:
        """The checksum that the stored state of a ruleset ought to have."""
        import jpy

        stored = self._manager().getPersistedSessionState(ruleset)
        if stored is None:
            return None
        return str(jpy.get_type(HA_UTILS).calculateStateSHA(stored))

    # -- Java's private parts --------------------------------------------

    def _manager(self) -> Any:
        return peek(self._engine, "haStateManager")

    def _pool(self) -> Any:
        import jpy

        return jpy.cast(peek(self._manager(), "dataSource"), POOL)

    def _executors(self) -> list[Any]:
        return elements(peek(self._engine, CONTAINER).getAllExecutors())


def reset(ruleset: Any) -> None:
    """Begin an empty session in place of the present one."""
    try:
        ruleset.end_session()
    except RuntimeError as error:
        # Its clock was amid a tick. The engine has forgotten it by then.
        logger.debug("A session did not end well: %s", error)
    ruleset._session_id = None
    ruleset.start_session()


def reason(error: Exception) -> str:
    """The innermost sentence of a Java exception, on one line."""
    lines = str(error).splitlines() or [""]
    causes = [each for each in lines if each.startswith(CAUSE)]
    text = causes[-1][len(CAUSE) :] if causes else lines[0]
    return one_line(_CLASSES.sub("", text))


def _tell_causes() -> None:
    """Have jpy tell the causes of a Java exception, too."""
    import jpy

    jpy.VerboseExceptions.enabled = True


def _quieten_pool() -> None:
    """No lines about each pool that starts, but for who debugs."""
    import jpy

    if not logger.isEnabledFor(logging.DEBUG):
        jpy.get_type("java.lang.System").setProperty(*POOL_LOG)


def _collect_less() -> None:
    from drools import ruleset

    if COLLECT_VARIABLE not in os.environ:
        ruleset.DROOLS_JPY_GC_AFTER = COLLECT_AFTER


def _classified(error: Exception) -> HaError:
    text = str(error)
    if TAMPERED in text:
        return StateTampered(reason(error))
    if "belongs to term" in text:
        return StateFenced(reason(error))
    return ServerUnavailable(reason(error))


def _initialise(
    engine: Any,
    ha_uuid: str,
    worker: str,
    params: Mapping[str, str],
    config: Mapping[str, Any],
) -> None:
    try:
        engine.initializeHA(
            ha_uuid, worker, json.dumps(dict(params)), json.dumps(dict(config))
        )
    except RuntimeError as error:
        text = reason(error)
        if "permission denied" in text or "must be owner" in text:
            raise StateRefused(text) from None
        raise ServerUnavailable(text) from None
