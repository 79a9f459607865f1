"""Where the HTTP server listens."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import suppress
from typing import NamedTuple

from ..errors import OptionError
from ..redaction import mask_password, one_line

LOOPBACK = "127.0.0.1"
LAST_PORT = 65535
QUEUED = 128  # connections that wait to be accepted
LONGEST_HOST = 253  # characters
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Listen(NamedTuple):
    """An address to listen at; port 0 stands for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_listen(text: str, origin: str) -> Listen:
    """``HOST:PORT``, ``[IPV6]:PORT``, or a port alone: loopback.

    :param origin: how the error names the option.
    :raises OptionError: if it is none of these.
    """
    host, _, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host, is_valid = host[1:-1], _is_ipv6(host[1:-1])
    else:  # an address with colons needs its brackets
        is_valid = not set(host) & set(":[]/@ ")
    is_valid &= port.isascii() and port.isdigit() and len(port) <= 5
    is_valid &= host.isprintable() and len(host) <= LONGEST_HOST
    if not is_valid or int(port) > LAST_PORT:
        raise OptionError(
            f"{origin}: {mask_password(text)!r} cannot be used, give "
            "HOST:PORT, [IPV6]:PORT, or a port alone for this machine only"
        )
    return Listen(host or LOOPBACK, int(port))


def bind(listen: Listen, origin: str) -> list[socket.socket]:
    """Sockets that listen, one for each address of the host.

    :raises OptionError: if the host is not known or not this machine, or the
        port is taken or not allowed. One line.
    """
    try:
        found = socket.getaddrinfo(
            listen.host,
            listen.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except (OSError, UnicodeError) as error:
        raise _failed(listen, origin, error) from None
    addresses = list(dict.fromkeys((each[0], each[4]) for each in found))
    bound: list[socket.socket] = []
    refused = OSError("no address")
    for family, address in addresses:
        if bound and not listen.port:  # one free port for all of them
            port = bound[0].getsockname()[1]
            address = (address[0], port, *address[2:])
        try:
            bound.append(_listener(family, address, len(addresses) > 1))
        except OSError as error:
            refused = error
            if error.errno in ABSENT:  # this machine has no IPv6, say
                continue
            for each in bound:
                each.close()
            raise _failed(listen, origin, error) from None
    if not bound:
        raise _failed(listen, origin, refused)
    return bound


def _listener(
    family: int, address: tuple[object, ...], one_of_many: bool
) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with suppress(OSError):
                made.setsockopt(
                    socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, one_of_many
                )
        made.bind(address)
        made.listen(QUEUED)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _failed(
    listen: Listen, origin: str, error: OSError | UnicodeError
) -> OptionError:
    reason = str(error)
    if isinstance(error, socket.gaierror):
        reason = error.strerror or reason
    elif isinstance(error, OSError) and error.errno:
        reason = os.strerror(error.errno)
    return OptionError(
        one_line(f"{origin}: cannot listen at {listen}: {reason}")
    )
