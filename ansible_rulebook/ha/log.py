"""Log lines that name the worker and the cluster."""

from __future__ import annotations

import json
import logging
import sys
import uuid
from datetime import datetime, timezone
from typing import Any, Mapping, TextIO

from .errors import OptionError
from .redaction import LONGEST_LINE, clean, one_line

FORMAT = "EDA_HA_LOG_FORMAT"
OURS = __name__.rpartition(".")[0]  # the logger above all of ours
TOLD = "ha_told"  # the attribute of a record that has its parts


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: nothing in it can end the line.

    ``time``, ``level``, ``logger`` and ``message`` are always there;
    ``worker``, ``ha_uuid``, ``reason`` and ``fields`` where they are known,
    ``exception`` with a traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        told: Mapping[str, Any] = getattr(record, TOLD, {})
        line.update({key: value for key, value in told.items() if value})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def choose_format(
    environ: Mapping[str, str], stream: TextIO | None = None
) -> None:
    """Write our lines as the variable asks for: ``text`` or ``json``.

    As JSON they go to ``stream`` (standard error if it is None), and not to
    the handlers of ansible-rulebook, which would put words before them. Its
    own lines stay as they are.

    :raises OptionError: if the variable says something else.
    """
    asked = (environ.get(FORMAT) or "text").lower()
    if asked not in ("text", "json"):
        raise OptionError(f"{FORMAT}: give text or json")
    logger = logging.getLogger(OURS)
    for handler in logger.handlers[:]:
        if isinstance(handler.formatter, JsonFormatter):
            logger.removeHandler(handler)
    logger.propagate = asked == "text"
    if asked == "json":
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)


class WorkerLog:
    """Writes ``Worker <id>: <what> (<why>, ha_uuid=<uuid>, key=value)``.

    Operators search for these lines, so all of them have that form. What
    others wrote may stand in ``why`` and in the fields: it is cleaned.
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
        details = [one_line(why)] if why else []
        details.append(f"ha_uuid={self._ha_uuid}")
        details += [
            f"{name}={clean(value, LONGEST_LINE)}"
            for name, value in fields.items()
        ]
        self._logger.log(
            level,
            "Worker %s: %s (%s)",
            clean(self._worker_id),
            what,
            ", ".join(details),
            exc_info=exc_info,
            extra={
                TOLD: {
                    "message": what,
                    "reason": why,
                    "worker": self._worker_id,
                    "ha_uuid": str(self._ha_uuid),
                    "fields": dict(fields),
                }
            },
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
