"""Connections of clients, each bounded in time and bytes."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Callable

from aiohttp import web

MOST_CONNECTIONS = 500
# Bytes of a request beside its body: more than asyncio reads at once, so that
# one that is too large is answered before it is cut off.
MOST_BESIDE = 512 * 1024
READ_WITHIN = 30.0  # seconds for a request to come, and again for its answer
# Longer than what load balancers keep a connection for, or they would send a
# request to one that is just being closed.
KEEP_ALIVE = 75.0  # seconds without a request
LINGER = 5.0  # seconds in which the rest of a refused request is read
HANDSHAKE_WITHIN = 10.0  # seconds
QUEUED = 128  # connections that wait to be accepted
SWEEP_EVERY = 0.5  # seconds
LOOK_EVERY = 0.01  # seconds

_SILENT = logging.Logger("ha-webhook", logging.CRITICAL + 1)
"""For what aiohttp says of clients: they could fill a disk with it."""


class Connection(web.RequestHandler):
    """One client's.

    :param most_bytes: that one request may have, all in all.
    :param made: called when there is one more.
    """

    def __init__(
        self, server: web.Server, most_bytes: int, made: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=LINGER,
            access_log=None,  # type: ignore[arg-type]
            logger=_SILENT,
            auto_decompress=False,  # a signature is one of what was sent
        )
        self.is_busy = False
        """A request is being answered."""
        self.until = loop.time() + READ_WITHIN
        """When it is ended for being late."""
        self._most_bytes = most_bytes
        self._made = made
        self._received = 0
        self._limited = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""
        super().connection_made(transport)
        self._made()

    def begin(self) -> None:
        """A request has come, or the whole of it."""
        self.is_busy = True
        self.until = self._loop.time() + READ_WITHIN

    def discard(self) -> None:
        """The rest of the request will be read and forgotten."""
        self._limited = False

    def end(self) -> None:
        """The answer is known, and is about to be written."""
        self.is_busy = False
        self.until = self._loop.time() + KEEP_ALIVE
        self._received = 0

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if not self._received and not self.is_busy:
            self.until = self._loop.time() + READ_WITHIN
        self._received += len(data)
        if self._received > self._most_bytes and self._limited:
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
    :param max_body: bytes that one may have.
    """

    def __init__(
        self,
        answer: Callable[[web.BaseRequest], object],
        max_body: int,
    ) -> None:
        self._server = web.Server(answer)  # type: ignore[arg-type]
        # In chunks a body can take more bytes than it has.
        self._most_bytes = 2 * max_body + MOST_BESIDE
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None

    async def listen(
        self, host: str, port: int, context: ssl.SSLContext | None
    ) -> int:
        """Take connections from now on. Returns the port.

        :raises OSError: if that is not possible.
        """
        self._listener = await self._loop.create_server(
            lambda: Connection(
                self._server, self._most_bytes, self._make_room
            ),
            host,
            port,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_WITHIN if context else None,
            backlog=QUEUED,
        )
        return int(self._listener.sockets[0].getsockname()[1])

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
        if self._listener is not None:
            self._listener.close()
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

    def _make_room(self) -> None:
        """If there are too many, those that have been silent for longest
        have to go, rather than one whose request is being answered."""
        connections = sorted(
            self._connections(), key=lambda each: (each.is_busy, each.until)
        )
        for each in connections[: max(0, len(connections) - MOST_CONNECTIONS)]:
            each.abort()

    def _connections(self) -> list[Connection]:
        return [
            each
            for each in self._server.connections
            if isinstance(each, Connection) and each.transport is not None
        ]
