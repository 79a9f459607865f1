"""Whether a worker can keep the state: rights, tables and their version."""

from __future__ import annotations

from ..errors import StateRefused
from ..log import WorkerLog
from . import schema
from .session import StateSession


class Readiness:
    """Checks what has to be in order before a term can be recovered.

    All calls block. Each raises :class:`StateRefused` if trying again does
    not help, and :class:`ServerUnavailable` if the server cannot be asked.

    :param session: to ask the server with.
    :param log: for what operators have to see.
    """

    def __init__(self, session: StateSession, log: WorkerLog) -> None:
        self._session = session
        self._log = log
        self._is_known = False
        self._is_outdated = False

    def survey(self) -> None:
        """Look for everything that the state needs, and try it.

        Missing tables are made. Those of an earlier version are left as they
        are, since a leader may be using them now.
        """
        found = schema.survey(self._session)
        obstacle = found.obstacle()
        if obstacle is not None:
            raise StateRefused(obstacle)
        if not found.is_complete:
            self._log.info("Creating the tables for the state")
            schema.create(self._session)
        self._is_outdated = found.is_complete and found.is_outdated
        if not self._is_outdated:
            schema.rehearse(self._session)
        self._is_known = True

    def forget(self) -> None:
        """The server refuses what it took before: survey it again."""
        self._is_known = False

    def ensure(self) -> None:
        """A term begins on this worker: the tables may be changed now."""
        if not self._is_known:
            self.survey()
        if self._is_outdated:
            schema.create(self._session)
            schema.rehearse(self._session)
            self._is_outdated = False
