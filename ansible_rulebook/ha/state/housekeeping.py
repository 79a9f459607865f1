"""Deletes rows that nobody needs any more.

The leader does it while it leads, in small portions, with a session that it
opens for that. (The journal itself deletes the events of old transactions.)
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any
from uuid import UUID

from psycopg import Connection

from ..election.names import lock_key
from ..errors import HaError
from . import sql
from .history import TERMS
from .session import StateSession

logger = logging.getLogger(__name__)

FIRST_AFTER = 60.0  # seconds of leading
EVERY = 3600.0  # seconds
ABANDONED_AFTER = 30  # days without a leader
PORTION = 1000  # rows at a time
PAUSE = 0.1  # seconds between two portions


class Housekeeping:
    """Tidies up, now and then, while this worker leads.

    :param session: another session of this kind is opened each time.
    :param ha_uuid: the cluster.
    """

    def __init__(self, session: StateSession, ha_uuid: str) -> None:
        self._session = session.another()
        self._ha_uuid = ha_uuid
        self._task: asyncio.Task[None] | None = None
        self._over = threading.Event()

    def begin(self, term: int) -> None:
        """Tidy up from now on: a term has begun."""
        self.end()
        self._over = threading.Event()
        self._task = asyncio.ensure_future(self._go_on(term, self._over))

    def end(self) -> None:
        """Tidy up no more: the term is over."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._over.set()
            self._session.abort()  # it may wait for a silent server

    async def _go_on(self, term: int, over: threading.Event) -> None:
        pause = FIRST_AFTER
        while True:
            await asyncio.sleep(pause)
            pause = EVERY
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(None, self._tidy_all, term, over)
            except HaError as error:
                logger.debug("Tidying up failed, later again: %s", error)

    def _tidy_all(self, term: int, over: threading.Event) -> None:
        try:
            while self.tidy(term) and not over.wait(PAUSE):
                pass
        finally:
            self._session.close()

    def tidy(self, term: int) -> bool:
        """Delete one portion; true if there may be more. Blocks.

        :raises HaError: if it cannot be done now.
        """
        names = {
            "ha_uuid": self._ha_uuid,
            "term": term,
            "terms": TERMS,
            "days": ABANDONED_AFTER,
        }
        with self._session.transaction() as connection:
            connection.execute(sql.AT_ROW, names)
            connection.execute(sql.STILL_LEADS, names)
            connection.execute(sql.FORGET_HISTORY, names)
            row = connection.execute(sql.ABANDONED, names).fetchone()
            if row is None:
                return False
            if is_led(connection, row[0]):  # its leader could not write it
                connection.execute(sql.LEADS_AS_WELL, {"ha_uuid": row[0]})
            else:
                forget_some(connection, str(row[0]), PORTION)
            return True


def is_led(connection: Connection[Any], ha_uuid: UUID) -> bool:
    """Whether a worker of a cluster holds its lock."""
    key = lock_key(ha_uuid) % 2**64
    halves = {"high": key >> 32, "low": key & 0xFFFFFFFF}
    row = connection.execute(sql.WHO_HOLDS, halves).fetchone()
    return bool(row and row[0])


def forget_some(connection: Connection[Any], ha_uuid: str, most: int) -> int:
    """Delete a portion of what a cluster has stored.

    The row with its term stays: that is a fencing token, and must never fall.

    :returns: how many rows were deleted; 0 if none are left.
    """
    left = most
    for table in sql.CONTENT:
        statement = sql.FORGET_SOME.format(table=table)
        names = {"ha_uuid": ha_uuid, "most": left}
        left -= connection.execute(statement, names).rowcount
        if left <= 0:
            break
    return most - left
