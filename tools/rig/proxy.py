"""A TCP proxy whose faults are real ones: silence, refusal, loss, delay.

The proxy runs on an event loop in a thread of its own, so that synchronous
and asyncio tests use it alike, and so that a test which blocks its own loop
does not silence the proxy by accident. A fault is in force when the call
that asked for it returns.

What it cannot imitate: the proxy's kernel acknowledges what it receives. TCP
keepalives and ``TCP_USER_TIMEOUT`` of both ends therefore stay content while
the proxy is deaf, as they do when the peer process is stopped. Only a dropped
packet would show otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar, Union

from psycopg.conninfo import conninfo_to_dict, make_conninfo

T = TypeVar("T")
P = TypeVar("P", bound="Proxy")

CALL_TIMEOUT = 10.0  # seconds until a call into the proxy's thread gives up
CHUNK_SIZE = 1 << 16  # bytes read at a time
Address = Union[str, tuple[str, int]]  # a Unix socket's path, or a port


def server_address(dsn: str) -> Address:
    """Where libpq would connect to for this DSN of one host."""
    params = conninfo_to_dict(dsn)
    host = str(
        params.get("hostaddr")
        or params.get("host")
        or os.environ.get("PGHOST")
        or "127.0.0.1"
    )
    port = str(params.get("port") or os.environ.get("PGPORT") or 5432)
    if "," in host or "," in port:
        raise ValueError("a proxy stands before one server, not several")
    if host.startswith("/"):
        return f"{host}/.s.PGSQL.{port}"
    return host, int(port)


def shut(sock: socket.socket, *, reset: bool = False) -> None:
    if reset:
        # Linger on, zero seconds: close() sends RST instead of FIN.
        with contextlib.suppress(OSError):
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
    sock.close()


class Proxy:
    """Forwards ``host``:``port`` to a server until told otherwise.

    Counters: ``accepted`` (connections in all), ``open`` (now),
    ``bytes_to_server`` and ``bytes_to_client`` (forwarded).
    """

    def __init__(
        self,
        target: Address,
        *,
        dsn: str | None = None,
        listen_host: str = "127.0.0.1",
        listen_port: int = 0,
    ) -> None:
        self.target = target
        self.host = listen_host
        self.port = listen_port  # 0 until start() has got one
        self.accepted = 0
        self.bytes_to_server = 0
        self.bytes_to_client = 0
        self._server_dsn = dsn
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._links: set[_Link] = set()
        self._delay = 0.0  # seconds

    @classmethod
    def for_dsn(cls: type[P], dsn: str, **options: Any) -> P:
        return cls(server_address(dsn), dsn=dsn, **options)

    @property
    def dsn(self) -> str:
        """The DSN given to for_dsn(), led through the proxy."""
        if self._server_dsn is None:
            raise ValueError("this proxy was not made from a DSN")
        return self.reroute(self._server_dsn)

    def reroute(self, dsn: str) -> str:
        """Another DSN of the same server, led through the proxy."""
        params: dict[str, Any] = dict(conninfo_to_dict(dsn))
        params.pop("hostaddr", None)
        params.update(host=self.host, port=self.port)
        return make_conninfo(**params)

    @property
    def open(self) -> int:
        return len(self._links)

    # Life

    def start(self: P) -> P:
        ready = threading.Event()
        loop = self._new_loop()

        def serve() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(ready.set)
            loop.run_forever()
            loop.close()

        self._loop = loop
        self._thread = threading.Thread(
            target=serve, name="rig-proxy", daemon=True
        )
        self._thread.start()
        ready.wait(CALL_TIMEOUT)
        try:
            self._call(self._start())
        except BaseException:
            self._end_thread()
            raise
        return self

    def close(self) -> None:
        """Close every socket and end the thread; may be called again."""
        if self._loop is None:
            return
        try:
            self._call(self._close())
        finally:
            self._end_thread()

    def __enter__(self: P) -> P:
        return self if self._loop is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<Proxy {self.host}:{self.port} -> {self.target}"
            f" open={self.open} accepted={self.accepted}>"
        )

    # Faults

    def deaf(self) -> None:
        """Forward nothing, either way; every socket stays open.

        What is sent meanwhile, an end of file included, waits in the proxy
        and is delivered by hear(). New connections are accepted and meet
        silence.
        """
        self._call(self._set_gates(to_server=False, to_client=False))

    def hold_from_server(self) -> None:
        """Requests arrive, answers do not."""
        self._call(self._set_gates(to_server=True, to_client=False))

    def hold_to_server(self) -> None:
        """Answers and notices arrive, requests do not."""
        self._call(self._set_gates(to_server=False, to_client=True))

    def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        self._call(self._unlisten())

    def hear(self) -> None:
        """End deaf(), the holds and refuse(); deliver what waited."""
        self._call(self._hear())

    def delay(self, seconds: float) -> None:
        """Hand on each piece at least this much later; 0 ends it."""
        if seconds < 0:
            raise ValueError("a delay cannot be negative")
        self._delay = seconds

    def cut(self, *, reset: bool = False) -> None:
        """Close both sides of every connection, with RST if `reset`.

        New connections are welcome unless refuse() was called as well.
        """
        self._call(self._cut(reset))

    # In the proxy's thread

    @staticmethod
    def _new_loop() -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    async def _start(self) -> None:
        # Made here: on Python 3.9 an Event binds to the loop that runs.
        self._to_server = asyncio.Event()
        self._to_client = asyncio.Event()
        self._to_server.set()
        self._to_client.set()
        self._listen()

    def _listen(self) -> None:
        if self._listener is not None:
            return
        listener = socket.create_server((self.host, self.port), backlog=128)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = asyncio.ensure_future(self._accept(listener))

    async def _unlisten(self) -> None:
        if self._listener is None or self._accepting is None:
            return
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        self._listener = self._accepting = None

    async def _set_gates(self, *, to_server: bool, to_client: bool) -> None:
        for gate, is_open in (
            (self._to_server, to_server),
            (self._to_client, to_client),
        ):
            if is_open:
                gate.set()
            else:
                gate.clear()

    async def _hear(self) -> None:
        await self._set_gates(to_server=True, to_client=True)
        self._listen()

    async def _cut(self, reset: bool) -> None:
        tasks = [link.task for link in self._links]
        for link in tuple(self._links):
            link.reset = reset
            link.task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that was cancelled before its first step ran no clean-up.
        for link in tuple(self._links):
            self._links.discard(link)
            link.close()

    async def _close(self) -> None:
        await self._unlisten()
        await self._cut(False)
        # getaddrinfo() has a thread there.
        await asyncio.get_running_loop().shutdown_default_executor()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            client.setblocking(False)
            self.accepted += 1
            link = _Link(client)
            self._links.add(link)
            link.task = asyncio.ensure_future(self._serve(link))

    async def _serve(self, link: _Link) -> None:
        pumps: list[asyncio.Task[None]] = []
        try:
            # A deaf network does not show the server the newcomer either.
            await self._to_server.wait()
            server = link.server = await self._connect()
            pumps = [
                asyncio.ensure_future(
                    self._pump(link.client, server, to_server=True)
                ),
                asyncio.ensure_future(
                    self._pump(server, link.client, to_server=False)
                ),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            # The server is away: the client sees its connection reset.
            link.reset = True
        finally:
            for pump in pumps:
                pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*pumps, return_exceptions=True)
            # In this order: who sees its end no longer finds it counted.
            self._links.discard(link)
            link.close()

    async def _connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        target: Any = self.target
        if isinstance(target, str):
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            found = await loop.getaddrinfo(*target, type=socket.SOCK_STREAM)
            family, _, _, _, target = found[0]
            server = socket.socket(family, socket.SOCK_STREAM)
        server.setblocking(False)
        try:
            await loop.sock_connect(server, target)
        except BaseException:
            server.close()
            raise
        if server.family != socket.AF_UNIX:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server

    async def _pump(
        self, source: socket.socket, sink: socket.socket, *, to_server: bool
    ) -> None:
        """Forward one direction; ends when either socket is at its end."""
        loop = asyncio.get_running_loop()
        gate = self._to_server if to_server else self._to_client
        while True:
            try:
                data = await loop.sock_recv(source, CHUNK_SIZE)
            except OSError:
                data = b""
            if self._delay:
                await asyncio.sleep(self._delay)
            # An end of file waits too: nobody learns of it meanwhile.
            await gate.wait()
            if not data:
                return
            try:
                await loop.sock_sendall(sink, data)
            except OSError:
                # The sink's own pump ends this link, through its gate.
                await loop.create_future()
            if to_server:
                self.bytes_to_server += len(data)
            else:
                self.bytes_to_client += len(data)

    # Between the threads

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None or self._loop.is_closed():
            work.close()
            raise RuntimeError("the proxy is not running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(
            CALL_TIMEOUT
        )

    def _end_thread(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(CALL_TIMEOUT)


class DistantProxy(Proxy):
    """As if the server were far away: each way takes so much longer.

    Pieces travel side by side, so what this costs is time and not
    throughput; with delay() one waits for the other. It costs a little more
    than was asked for, since the proxy is a program. The handshakes of TCP
    are with the proxy, and take no longer.

    :param one_way: seconds, half of a round trip.
    """

    def __init__(
        self, target: Address, *, one_way: float, **options: Any
    ) -> None:
        super().__init__(target, **options)
        self._one_way = one_way

    @staticmethod
    def _new_loop() -> asyncio.AbstractEventLoop:
        # The others sleep for whole milliseconds.
        return asyncio.SelectorEventLoop(selectors.SelectSelector())

    async def _pump(
        self, source: socket.socket, sink: socket.socket, *, to_server: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        if sink.family != socket.AF_UNIX:
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.ensure_future(
            self._arrive(under_way, sink, to_server=to_server)
        )
        try:
            data = b"?"
            while data:
                try:
                    data = await loop.sock_recv(source, CHUNK_SIZE)
                except OSError:
                    data = b""
                under_way.put_nowait((loop.time() + self._one_way, data))
            await arriving
        finally:
            arriving.cancel()

    async def _arrive(
        self,
        under_way: asyncio.Queue[tuple[float, bytes]],
        sink: socket.socket,
        *,
        to_server: bool,
    ) -> None:
        """Hand on what has travelled long enough; ends at the end."""
        loop = asyncio.get_running_loop()
        gate = self._to_server if to_server else self._to_client
        while True:
            due, data = await under_way.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await gate.wait()
            if not data:
                return
            try:
                await loop.sock_sendall(sink, data)
            except OSError:
                # As in _pump() above.
                await loop.create_future()
            if to_server:
                self.bytes_to_server += len(data)
            else:
                self.bytes_to_client += len(data)


class _Link:
    """One client's connection, and the one to the server behind it."""

    task: asyncio.Task[None]

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.reset = False

    def close(self) -> None:
        shut(self.client, reset=self.reset)
        if self.server is not None:
            shut(self.server, reset=self.reset)
