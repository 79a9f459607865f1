"""Ports of this machine that nobody listens at."""

from __future__ import annotations

import socket
from contextlib import ExitStack

HOST = "127.0.0.1"


def free_port() -> int:
    """One of them. Another program may take it meanwhile."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """As many, no two of them the same."""
    with ExitStack() as stack:
        probes = [
            stack.enter_context(socket.create_server((HOST, 0)))
            for _ in range(count)
        ]
        return [int(probe.getsockname()[1]) for probe in probes]
