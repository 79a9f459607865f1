"""Secrets that a source is given: as a value, in a file, in a variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from ..errors import HaError, SourceRefused


class SecretUnknown(HaError):
    """The file of a secret cannot be read, or is empty, at the moment.

    Nobody can be let in then. The sender is not at fault, and may try again.
    """


class Secret:
    """What a sender has to know; several values while one replaces another.

    :param name: the argument that it belongs to.
    :param values: the secret, if it does not come from a file.
    :param path: a file with one secret in each line. It is read again when
        it has changed, so a secret can be replaced while a worker runs.
    """

    def __init__(
        self, name: str, values: tuple[bytes, ...], path: Path | None = None
    ) -> None:
        self._name = name
        self._values = values
        self._path = path
        self._version: tuple[int, ...] = ()

    def values(self) -> tuple[bytes, ...]:
        """The secrets that are valid now, at least one.

        :raises SecretUnknown: if there is none.
        """
        if self._path is not None:
            self._read(self._path)
        if not self._values:
            raise SecretUnknown(f"{self._name}_file {self._path} is empty")
        return self._values

    def _read(self, path: Path) -> None:
        try:
            found = path.stat()
            version = (found.st_mtime_ns, found.st_size, found.st_ino)
            if version != self._version:
                lines = path.read_bytes().splitlines()
                self._values = tuple(filter(None, map(bytes.strip, lines)))
                self._version = version
        except OSError as error:
            self._version = ()
            raise SecretUnknown(
                f"{self._name}_file {path} cannot be read: {error.strerror}"
            ) from None


def read_secret(
    args: Mapping[str, Any], name: str, environ: Mapping[str, str]
) -> Secret | None:
    """The secret of ``name``, ``name_file`` or ``name_env``, if one is given.

    :raises SourceRefused: if it is given twice, or is empty.
    """
    given = [
        each for each in (name, f"{name}_file", f"{name}_env") if each in args
    ]
    if not given:
        return None
    if len(given) > 1:
        raise SourceRefused(f"{' and '.join(given)} are given: give one")
    (origin,) = given
    value = args[origin]
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise SourceRefused(f"{origin} has to be a text")
    if origin == f"{name}_file":
        secret = Secret(name, (), Path(str(value)))
        try:
            secret.values()
        except SecretUnknown as error:
            raise SourceRefused(str(error)) from None
        return secret
    if origin == f"{name}_env":
        value, origin = environ.get(str(value), ""), f"{origin} {value}"
    encoded = str(value).encode("utf-8", "surrogateescape")
    if not encoded.strip():
        raise SourceRefused(f"{origin} is empty")
    return Secret(name, (encoded,))
