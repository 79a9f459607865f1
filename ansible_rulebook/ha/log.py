"""Log lines that name the worker and the cluster."""

from __future__ import annotations

import logging
import uuid
from typing import Mapping


class WorkerLog:
    """Writes ``Worker <id>: <what> (<why>, ha_uuid=<uuid>, key=value)``.

    Operators search for these lines, so all of them have that form.
    """

    def __init__(
        self, logger: logging.Logger, worker_id: str, ha_uuid: uuid.UUID
    ) -> None:
        self._logger = logger
        self._worker_id = worker_id
        self._ha_uuid = ha_uuid

    def write(
        self,
        level: int,
        what: str,
        why: str = "",
        exc_info: bool = False,
        fields: Mapping[str, object] = {},
    ) -> None:
        """One line at ``level``; ``fields`` are shown as ``key=value``."""
        if not self._logger.isEnabledFor(level):
            return
        details = [why] if why else []
        details.append(f"ha_uuid={self._ha_uuid}")
        details += [f"{name}={value}" for name, value in fields.items()]
        self._logger.log(
            level,
            "Worker %s: %s (%s)",
            self._worker_id,
            what,
            ", ".join(details),
            exc_info=exc_info,
        )

    def debug(self, what: str, why: str = "", **fields: object) -> None:
        """For debugging the extension."""
        self.write(logging.DEBUG, what, why, fields=fields)

    def info(self, what: str, why: str = "", **fields: object) -> None:
        """A transition."""
        self.write(logging.INFO, what, why, fields=fields)

    def warning(self, what: str, why: str = "", **fields: object) -> None:
        """Something an operator may have to look at."""
        self.write(logging.WARNING, what, why, fields=fields)

    def error(self, what: str, why: str = "", **fields: object) -> None:
        """Something an operator has to look at."""
        self.write(logging.ERROR, what, why, fields=fields)

    def exception(self, what: str, why: str = "") -> None:
        """An error, with the traceback of the current exception."""
        self.write(logging.ERROR, what, why, exc_info=True)

    def critical(
        self, what: str, why: str = "", exc_info: bool = False
    ) -> None:
        """The worker cannot go on."""
        self.write(logging.CRITICAL, what, why, exc_info=exc_info)
