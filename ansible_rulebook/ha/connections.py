"""Connections of clients over HTTP, each bounded in time and bytes."""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from socket import socket
from typing import Callable

from aiohttp import web

HANDSHAKE_WITHIN = 10.0  # seconds
QUEUED = 128  # connections that wait to be accepted
SWEEP_EVERY = 0.5  # seconds
LOOK_EVERY = 0.01  # seconds

_SILENT = logging.Logger("ha-http", logging.CRITICAL + 1)
"""For what aiohttp says of clients: they could fill a disk with it."""


@dataclass(frozen=True)
class Limits:
    """What clients may take.

    :param connections: how many there may be at a time.
    :param request_bytes: of one request, all in all.
    :param within: seconds for a request to come, and again for its answer.
    :param keep_alive: seconds that a connection may have no request.
    :param linger: seconds in which the rest of a refused request is read.
    """

    connections: int
    request_bytes: int
    within: float
    keep_alive: float
    linger: float = 0.0


class Connection(web.RequestHandler):
    """One client's.

    :param made: called when there is one more.
    """

    def __init__(
        self, server: web.Server, limits: Limits, made: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.keep_alive,
            lingering_time=limits.linger,
            access_log=None,  # type: ignore[arg-type]
            logger=_SILENT,
            auto_decompress=False,  # a signature is one of what was sent
        )
        self.is_busy = False
        """A request is being answered."""
        self.until = loop.time() + limits.within
        """When it is ended for being late."""
        self._limits = limits
        self._made = made
        self._received = 0
        self._limited = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""
        super().connection_made(transport)
        self._made()

    def begin(self) -> None:
        """A request has come, or the whole of it, or a part of an answer is
        about to be written."""
        self.is_busy = True
        self.until = self._loop.time() + self._limits.within

    def discard(self) -> None:
        """The rest of the request will be read and forgotten."""
        self._limited = False

    def end(self) -> None:
        """The answer is known, and is about to be written."""
        self.is_busy = False
        self.until = self._loop.time() + self._limits.keep_alive
        self._received = 0

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if not self._received and not self.is_busy:
            self.until = self._loop.time() + self._limits.within
        self._received += len(data)
        if self._limited and self._received > self._limits.request_bytes:
            self.abort()
            return
        try:
            super().data_received(data)
        except Exception as error:  # of a parser that expects no such bytes
            _SILENT.debug("A client was cut off: %r", error)
            self.abort()

    def abort(self) -> None:
        """Close it whatever is under way."""
        transport = self.transport
        self.force_close()
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class Door:
    """Lets connections in, and those out that take too long.

    :param answer: what answers a request.
    """

    def __init__(
        self, answer: Callable[[web.BaseRequest], object], limits: Limits
    ) -> None:
        self._server = web.Server(answer)  # type: ignore[arg-type]
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._listeners: list[asyncio.Server] = []

    async def listen(
        self, host: str, port: int, context: ssl.SSLContext | None
    ) -> int:
        """Take connections from now on. Returns the port.

        :raises OSError: if that is not possible.
        """
        listener = await self._loop.create_server(
            self._open,
            host,
            port,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_WITHIN if context else None,
            backlog=QUEUED,
        )
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def listen_at(self, bound: socket) -> None:
        """Take connections from now on at a socket that has its address.

        :raises OSError: if that is not possible.
        """
        self._listeners.append(
            await self._loop.create_server(self._open, sock=bound)
        )

    def sweep(self) -> None:
        """Close those that are late."""
        now = self._loop.time()
        for each in self._connections():
            if each.until < now:
                each.abort()

    async def close(self, within: float) -> None:
        """Take no more connections, and have requests under way end.

        :param within: seconds, after which they are cut off. They have had
            no answer then.
        """
        for listener in self._listeners:
            listener.close()
        until = self._loop.time() + within
        try:
            while any(each.is_busy for each in self._connections()):
                if self._loop.time() > until:
                    break
                await asyncio.sleep(LOOK_EVERY)
        finally:
            for each in self._connections():
                if each.is_busy:
                    each.abort()
                else:
                    each.force_close()  # once the last answer is written

    def _open(self) -> Connection:
        return Connection(self._server, self._limits, self._make_room)

    def _make_room(self) -> None:
        """If there are too many, those that have been silent for longest
        have to go, rather than one whose request is being answered."""
        connections = sorted(
            self._connections(), key=lambda each: (each.is_busy, each.until)
        )
        too_many = max(0, len(connections) - self._limits.connections)
        for each in connections[:too_many]:
            each.abort()

    def _connections(self) -> list[Connection]:
        return [
            each
            for each in self._server.connections
            if isinstance(each, Connection) and each.transport is not None
        ]
