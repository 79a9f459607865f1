"""What systemd is told, as sd_notify(3) says it, without its library."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

from ..redaction import clean

logger = logging.getLogger(__name__)

SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"
MICROSECONDS = 1_000_000  # a second


class Systemd:
    """Tells the service manager of this process. For any thread.

    No call waits or raises. If the manager does not listen, the message is
    lost. Without a manager, all calls do nothing.

    :param environ: systemd's variables are taken out of it: a program that a
        playbook starts must not speak to systemd for the worker.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = _address(environ.pop(SOCKET, ""))
        self._socket: socket.socket | None = None
        self.watchdog_every = _interval(environ)
        """Seconds between two calls of :meth:`watchdog`, half of what the
        manager allows; None if it does not wait for any."""
        if self._address is None:
            self.watchdog_every = None
            return
        try:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
            )
            self._socket.setblocking(False)
        except OSError as error:
            logger.debug("systemd cannot be told: %s", error)

    def ready(self) -> None:
        """The worker follows or leads."""
        self._tell("READY=1")

    def status(self, role: str, term: int = 0) -> None:
        """What ``systemctl status`` shows."""
        words = f"{role}, term {term}" if term else role
        self._tell(f"STATUS={clean(words)}")

    def watchdog(self) -> None:
        """Tell that the worker is alive."""
        if self.watchdog_every is not None:
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The worker has begun to end."""
        self._tell("STOPPING=1")

    def extend(self, seconds: float) -> None:
        """The worker needs up to ``seconds`` from now, to start or to end.

        Has an effect only if it is longer than the unit's own limit.
        """
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * MICROSECONDS)}")

    def _tell(self, message: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            logger.debug("systemd was not told: %s", error)


def _address(name: str) -> str | None:
    """A path, or a name in the abstract namespace; None for anything else."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _interval(environ: MutableMapping[str, str]) -> float | None:
    limit, pid = environ.pop(WATCHDOG, ""), environ.pop(WATCHDOG_PID, "")
    with suppress(ValueError):
        if (not pid or int(pid) == os.getpid()) and int(limit) > 0:
            return int(limit) / MICROSECONDS / 2
    return None
