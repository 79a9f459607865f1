"""The pod that a worker runs in, and the label that its leader's pod has."""

from __future__ import annotations

import os
import re
from typing import Mapping, NamedTuple

from ..errors import OptionError
from ..redaction import mask_password

HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
NAME, HOSTNAME = "EDA_HA_POD_NAME", "HOSTNAME"
FOLDER = "EDA_HA_SERVICE_ACCOUNT"
DEFAULT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN, AUTHORITY, NAMESPACE = "token", "ca.crt", "namespace"

LONGEST_NAME = 63  # characters, of a label's name and its value
LONGEST_PREFIX = 253  # characters, as of any name in DNS
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_DNS = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
_PORT = re.compile(r"[0-9]{1,5}")


class Pod(NamedTuple):
    """This worker's pod, and what it needs to label it."""

    key: str
    """Of the label."""
    value: str
    host: str
    """Of the cluster's API server."""
    port: int
    folder: str
    """Where token and certificates are. They are replaced from time to time,
    so they are read anew for each call."""
    namespace: str
    name: str

    @property
    def server(self) -> str:
        """The API server's address, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


def parse_label(text: str, origin: str) -> tuple[str, str]:
    """Key and value of ``KEY=VALUE``, as Kubernetes takes them.

    :param origin: how the error names the option.
    :raises OptionError: if it would not.
    """
    key, equals, value = text.partition("=")
    prefix, slash, name = key.rpartition("/")
    if not equals:
        reason = "give KEY=VALUE"
    elif slash and not _is(_DNS, prefix, LONGEST_PREFIX):
        reason = (
            "what stands before the / has to be a name of DNS in small "
            f"letters, of at most {LONGEST_PREFIX} characters"
        )
    elif not _is(_WORD, name) or (value and not _is(_WORD, value)):
        reason = (
            f"key and value have at most {LONGEST_NAME} letters, digits, "
            "'-', '_' and '.', and begin and end with a letter or a digit"
        )
    else:
        return key, value
    raise OptionError(
        f"{origin}: {mask_password(text)!r} cannot be used, {reason}"
    )


def find_pod(text: str, environ: Mapping[str, str], origin: str) -> Pod:
    """The pod that this process runs in, and its label.

    :param text: ``KEY=VALUE``.
    :param origin: how the error names the option.
    :raises OptionError: if the label cannot be used, or this is no pod with a
        service account. One line.
    """
    key, value = parse_label(text, origin)
    host, port = environ.get(HOST, ""), environ.get(PORT, "")
    if not host or not _is(_PORT, port):
        raise OptionError(
            f"{origin}: this is no pod of Kubernetes, since {HOST} or {PORT} "
            "is not set; leave the option out"
        )
    name = environ.get(NAME) or environ.get(HOSTNAME) or ""
    if not _is(_DNS, name, LONGEST_PREFIX):
        raise OptionError(
            f"{origin}: {mask_password(name)!r} is no name of a pod; set "
            f"{NAME} from metadata.name, by the downward API"
        )
    folder = environ.get(FOLDER) or DEFAULT_FOLDER
    try:
        read_token(folder)
        _read(folder, AUTHORITY)
        namespace = _read(folder, NAMESPACE)
        if not _is(_DNS, namespace):
            raise ValueError(f"no namespace in the file {NAMESPACE}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            f"{origin}: the service account in {mask_password(folder)!r} "
            f"cannot be used, {reason}; give the pod one "
            f"(automountServiceAccountToken), or name its folder in {FOLDER}"
        ) from None
    return Pod(key, value, host, int(port), folder, namespace, name)


def read_token(folder: str) -> str:
    """The service account's token, as it is now.

    :raises OSError: if it cannot be read.
    :raises ValueError: if it is no token.
    """
    token = _read(folder, TOKEN)
    if not token or not token.isascii() or not token.isprintable():
        raise ValueError(f"no token in the file {TOKEN}")
    return token


def _read(folder: str, name: str) -> str:
    path = os.path.join(folder, name)
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def _is(kind: re.Pattern[str], text: str, longest: int = LONGEST_NAME) -> bool:
    return len(text) <= longest and kind.fullmatch(text) is not None
