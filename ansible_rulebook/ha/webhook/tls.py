"""Certificates: ours, and those that clients have to show."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SourceRefused
from .secret import Secret, SecretUnknown

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tls:
    """The files of a TLS server.

    :param password: of the key, if it has one.
    :param cafile: certificates that vouch for those of clients. With this or
        with ``capath`` a client has to have one.
    """

    certfile: str
    keyfile: str | None = None
    password: Secret | None = None
    cafile: str | None = None
    capath: str | None = None

    @property
    def asks_for_certificates(self) -> bool:
        """Whether clients need one."""
        return bool(self.cafile or self.capath)

    def context(self) -> ssl.SSLContext:
        """What connections are made with.

        :raises SourceRefused: if a file cannot be used. One line.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load_own(context)
        if self.asks_for_certificates:
            try:
                context.load_verify_locations(self.cafile, self.capath)
            except (OSError, ssl.SSLError) as error:
                raise SourceRefused(
                    f"the CA certificates of {self.cafile or self.capath} "
                    f"cannot be used: {_reason(error)}"
                ) from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _load_own(self, context: ssl.SSLContext) -> None:
        try:
            password = self.password.values()[0] if self.password else b""
            # Given none, OpenSSL would ask for it at the terminal.
            context.load_cert_chain(
                self.certfile, self.keyfile, lambda: password
            )
        except (OSError, ssl.SSLError, SecretUnknown) as error:
            raise SourceRefused(
                f"the certificate {self.certfile} or its key cannot be used: "
                f"{_reason(error)}"
            ) from None

    def versions(self) -> list[tuple[int, int]]:
        """What differs when the files of the certificate have changed."""
        found = []
        for name in (self.certfile, self.keyfile, self.cafile):
            if name is not None:
                try:
                    status = Path(name).stat()
                except OSError:
                    continue  # it is being replaced
                found.append((status.st_mtime_ns, status.st_ino))
        return found


class Certificates(ssl.SSLContext):
    """A context that goes on with new files when they have changed.

    asyncio asks it for each connection; it hands on to the newest one.
    """

    def __new__(cls, tls: Tls) -> Certificates:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._versions = tls.versions()
        self._newest = tls.context()

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection."""
        return self._newest.wrap_bio(*args, **kwargs)

    def renew(self) -> None:
        """Read the files again if they have changed.

        What cannot be used yet, since only one of two is there, say, is
        tried again: the old certificate is used meanwhile.
        """
        versions = self._tls.versions()
        if versions == self._versions:
            return
        self._versions = versions
        try:
            self._newest = self._tls.context()
        except SourceRefused as error:
            logger.warning("The old certificate is still used: %s", error)
        else:
            logger.info("A new certificate is used: %s", self._tls.certfile)


def _reason(error: Exception) -> str:
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(text.split())
