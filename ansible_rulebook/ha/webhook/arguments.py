"""The arguments of a source, read and checked before anything begins."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from dataclasses import dataclass
from typing import Any, Callable, Collection, Mapping, TypeVar

from ..errors import SourceRefused
from .guards import ENCODERS, Signature
from .idempotency import KNOWN, Idempotency
from .secret import Secret, read_secret
from .tls import Tls

T = TypeVar("T")

MOST = 10_000  # events that wait
MOST_BODY = 1024 * 1024  # bytes
LARGEST_BODY = 16_000_000  # bytes: what an inbox can hold
LAST_PORT = 65535
SECRETS = ("token", "hmac_secret", "password")
OF_THE_QUEUE = ("inbox", "most")
OF_THE_WEBHOOK = (
    *OF_THE_QUEUE,
    *("host", "port"),
    *(
        f"{name}{suffix}"
        for name in SECRETS
        for suffix in ("", "_file", "_env")
    ),
    *("certfile", "keyfile", "cafile", "capath"),
    *("hmac_algo", "hmac_header", "hmac_format"),
    *("body", "max_body", "health_path"),
    *("idempotency_header", "repeat_interval"),
)


@dataclass(frozen=True)
class QueueArguments:
    """Those of a source that takes events from an inbox.

    :param inbox: its name.
    :param most: events that may wait in it.
    """

    inbox: str
    most: int


@dataclass(frozen=True)
class WebhookArguments:
    """Those of a source that has events posted to it."""

    queue: QueueArguments
    host: str
    port: int
    token: Secret | None
    hmac_secret: Secret | None
    signature: Signature
    tls: Tls | None
    is_json: bool
    max_body: int
    health_path: str
    idempotency: Idempotency

    @property
    def is_open_to_all(self) -> bool:
        """Whether anybody who reaches the port may post."""
        if self.token or self.hmac_secret:
            return False
        if self.tls and self.tls.asks_for_certificates:
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def read_queue_arguments(
    args: Mapping[str, Any],
    plugin: str,
    known: Collection[str] = OF_THE_QUEUE,
) -> QueueArguments:
    """What the rulebook says of the inbox.

    :param plugin: its name; that of the inbox, if none is given.
    :param known: what the plugin can be given. Anything else is refused: a
        guard with a slip in its name would be no guard.
    :raises SourceRefused: naming the argument.
    """
    with_us = ("ha_", "eda_")
    unknown = [
        name
        for name in args
        if name not in known
        and not name.startswith(with_us)
        and not name.endswith("_event")
    ]
    if unknown:
        raise SourceRefused(
            f"{plugin} has no argument {', '.join(sorted(unknown))}"
        )
    return QueueArguments(
        _text(args, "inbox", plugin),
        _number(args, "most", int, MOST, 1, 2**31 - 1),
    )


def read_webhook_arguments(
    args: Mapping[str, Any],
    plugin: str,
    environ: Mapping[str, str] = os.environ,
) -> WebhookArguments:
    """What the rulebook says of a webhook.

    :raises SourceRefused: naming the argument. One line.
    """
    queue = read_queue_arguments(args, plugin, OF_THE_WEBHOOK)
    if args.get("port") in (None, ""):
        raise SourceRefused(f"{plugin} needs the argument port")
    health_path = _text(args, "health_path", "/")
    if not health_path.startswith("/"):
        raise SourceRefused("health_path has to begin with /")
    token, hmac_secret, password = (
        read_secret(args, name, environ) for name in SECRETS
    )
    return WebhookArguments(
        queue=queue,
        host=_text(args, "host", "0.0.0.0"),
        port=_number(args, "port", int, 0, 0, LAST_PORT),
        token=token,
        hmac_secret=hmac_secret,
        signature=_signature(args),
        tls=_tls(args, password),
        is_json=_choice(args, "body", ("json", "raw")) == "json",
        max_body=_number(args, "max_body", int, MOST_BODY, 1, LARGEST_BODY),
        health_path=health_path,
        idempotency=_idempotency(args),
    )


def _signature(args: Mapping[str, Any]) -> Signature:
    algorithm = _text(args, "hmac_algo", "sha256").lower()
    try:
        if algorithm not in hashlib.algorithms_available:
            raise ValueError
        hmac.new(b"key", b"", algorithm).digest()
    except (ValueError, TypeError):  # a hash without a length of its own
        raise SourceRefused(
            f"hmac_algo: {algorithm!r} cannot be used"
        ) from None
    return Signature(
        _text(args, "hmac_header", "") or None,
        algorithm,
        _choice(args, "hmac_format", tuple(ENCODERS)),
    )


def _tls(args: Mapping[str, Any], password: Secret | None) -> Tls | None:
    certfile = _text(args, "certfile", "")
    if not certfile:
        for name in ("keyfile", "cafile", "capath"):
            if args.get(name):  # no client would be asked for anything
                raise SourceRefused(f"{name} is given without certfile")
        return None
    return Tls(
        certfile,
        _text(args, "keyfile", "") or None,
        password,
        _text(args, "cafile", "") or None,
        _text(args, "capath", "") or None,
    )


def _idempotency(args: Mapping[str, Any]) -> Idempotency:
    given = args.get("idempotency_header")
    headers: tuple[str, ...]
    if given is None:
        headers = KNOWN
    elif given is False or given == "":
        headers = ()
    else:
        headers = (_text(args, "idempotency_header", ""),)
    repeat = _number(args, "repeat_interval", float, 60.0, 0, 86400)
    return Idempotency(headers, 0.0 if headers == () else repeat)


def _text(args: Mapping[str, Any], name: str, default: str) -> str:
    value = args.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise SourceRefused(f"{name} has to be a text")
    return value or default


def _choice(
    args: Mapping[str, Any], name: str, choices: tuple[str, ...]
) -> str:
    value = _text(args, name, choices[0])
    if value not in choices:
        raise SourceRefused(
            f"{name}: {value!r} is none of {', '.join(choices)}"
        )
    return value


def _number(
    args: Mapping[str, Any],
    name: str,
    kind: Callable[[Any], T],
    default: T,
    least: float,
    most: float,
) -> T:
    value = args.get(name)
    if value is None or value == "":
        return default
    try:
        if isinstance(value, (bool, float)) and kind is int:
            raise ValueError
        number = kind(value)
        if not least <= number <= most:  # type: ignore[operator]
            raise ValueError
    except (TypeError, ValueError):
        raise SourceRefused(
            f"{name}: {value!r} is no number from {least} to {most}"
        ) from None
    return number
