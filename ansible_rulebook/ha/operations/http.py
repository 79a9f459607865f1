"""What a worker tells over HTTP. Nothing can be changed through it.

The server has a thread and an event loop of its own. So a load balancer gets
an answer while the rulebook's loop stands still, and no client can hold up
the rulebook or the election. There are limits: how many connections there
may be, how long a request may take, and how many bytes it may have.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import suppress
from socket import socket
from typing import Any, Awaitable, Callable

from aiohttp import web

from ..connections import SWEEP_EVERY, Connection, Door, Limits
from ..redaction import clean
from .listen import Listen
from .loop_lag import LoopLag
from .metrics import Metrics
from .page.feed import Feed
from .page.files import FILES, PageFile
from .shared_answer import SharedAnswer
from .snapshot import FORMAT, Snapshot, TakeSnapshot
from .view import ClusterView, LookAtCluster

logger = logging.getLogger(__name__)

MOST_STREAMS = 20  # pages that are open
LIMITS = Limits(
    connections=100,
    request_bytes=64 * 1024,
    within=10.0,  # seconds
    keep_alive=10.0,  # seconds
)
ANSWER_WITHIN = 5.0  # seconds, for the database and for plugins' metrics
VIEW_FRESH_FOR = 0.4  # seconds
STOP_WITHIN = 2.0  # seconds

METHODS = ("GET", "HEAD", "OPTIONS")
CHECKS: dict[str, Callable[[Snapshot], bool]] = {
    "/leader": lambda now: now.serves,
    "/follower": lambda now: now.can_take_over,
    "/livez": lambda now: now.is_alive,
    "/readyz": lambda now: now.rulesets_up and now.in_session,
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class HttpServer:
    """Serves what a worker knows of itself and of its cluster.

    :param sockets: see :func:`.listen.bind`; closed at the end.
    :param take_snapshot: called in the server's thread; must not wait.
    :param metrics: where the page's rates come from, and what is told how
        late the loop is.
    :param look_at_cluster: asks the database; None if it cannot be asked.
        A coroutine function is awaited in the server's loop, any other one
        is called in a thread. Called only while somebody looks.
    :param loop: the rulebook's, to see how late it is.
    """

    def __init__(
        self,
        sockets: list[socket],
        take_snapshot: TakeSnapshot,
        metrics: Metrics,
        look_at_cluster: LookAtCluster | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._sockets = sockets
        self._take_snapshot = take_snapshot
        self._metrics = metrics
        self._lag = LoopLag(loop) if loop is not None else None
        self._cluster = SharedAnswer(
            look_at_cluster or ClusterView, VIEW_FRESH_FOR
        )
        self._scrape = SharedAnswer(_scrape)
        self._feed = Feed(take_snapshot, self._cluster, metrics.totals)
        self._loop = asyncio.new_event_loop()
        self._serving: asyncio.Task[None] | None = None
        self._streams = 0
        self._documents: dict[str, Callable[[], Awaitable[web.Response]]] = {
            "/": self._page,
            "/events": self._announce_stream,
            "/history": self._history,
            "/metrics": self._tell_metrics,
            "/status": self._status,
        }
        self._thread = threading.Thread(
            target=self._run, name="ha-http", daemon=True
        )

    @property
    def address(self) -> str:
        """Where it listens, as ``host:port``."""
        return str(Listen(*self._sockets[0].getsockname()[:2]))

    def start(self) -> None:
        """Answer from now on."""
        self._serving = self._loop.create_task(self._serve())
        self._thread.start()

    def stop(self) -> None:
        """Answer no longer. Returns within a bounded time."""
        if self._serving is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._serving.cancel)
            self._thread.join(STOP_WITHIN + 1.0)
        for each in self._sockets:
            each.close()

    # -- in the thread ---------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        assert self._serving is not None
        try:
            self._loop.run_until_complete(self._serving)
        except asyncio.CancelledError:
            pass
        except Exception:
            logger.exception("HTTP is not served any more")
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        door = Door(self._answer, LIMITS)
        try:
            for each in self._sockets:
                await door.listen_at(each)
            while True:
                door.sweep()
                if self._lag is not None:
                    self._metrics.loop_lag(self._lag.seconds())
                try:
                    await self._feed.tick()
                except Exception:
                    logger.debug("No news for the page", exc_info=True)
                await asyncio.sleep(SWEEP_EVERY)
        finally:
            self._cluster.cancel()
            self._scrape.cancel()
            await door.close(0.0)
            await _end_all_tasks()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.begin()
        try:
            response = await self._respond(request, connection)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            path = clean(request.path)
            logger.warning("No answer to %s", path, exc_info=True)
            response = _json(503, {"error": "not known at the moment"})
        connection.end()
        return response

    async def _respond(
        self, request: web.BaseRequest, connection: Connection
    ) -> web.StreamResponse:
        if request.method not in METHODS:
            return _json(405, {"error": "only GET, HEAD and OPTIONS"})
        path = request.path
        if path in CHECKS:
            now = self._take_snapshot()
            return _json(200 if CHECKS[path](now) else 503, now.brief())
        if path in FILES:
            return _file(FILES[path])
        if path == "/events" and request.method == "GET":
            return await self._stream(request, connection)
        make = self._documents.get(path)
        if make is None:
            return _json(404, {"error": "no such path"})
        return await make()

    async def _status(self) -> web.Response:
        return _json(200, self._take_snapshot().as_json())

    async def _history(self) -> web.Response:
        try:
            cluster = await self._cluster.get(ANSWER_WITHIN)
        except Exception as error:
            logger.debug("No history: %s", error)
            return _json(503, {"error": "the database does not answer"})
        return _json(200, cluster.as_json())

    async def _tell_metrics(self) -> web.Response:
        try:
            text = await self._scrape.get(ANSWER_WITHIN)
        except asyncio.TimeoutError:
            return _json(503, {"error": "a plugin's metrics take too long"})
        return _response(200, text, "text/plain; version=0.0.4")

    async def _page(self) -> web.Response:
        return _response(200, await self._feed.document(), "text/html")

    async def _announce_stream(self) -> web.Response:
        return _response(200, b"", "text/event-stream")

    async def _stream(
        self, request: web.BaseRequest, connection: Connection
    ) -> web.StreamResponse:
        if self._streams >= MOST_STREAMS:
            return _json(503, {"error": "too many pages are open"})
        response = web.StreamResponse(headers=HEADERS)
        response.content_type = "text/event-stream"
        response.force_close()
        self._streams += 1
        try:
            with self._feed.subscribed() as news:
                await response.prepare(request)
                while connection.transport is not None:
                    text = await news.next()
                    connection.begin()
                    # Ended by the sweep if the client does not read.
                    await response.write(text.encode())
        finally:
            self._streams -= 1
        return response


def _scrape() -> bytes:
    from .prometheus import render

    return render()


def _json(status: int, content: dict[str, Any]) -> web.Response:
    text = json.dumps({"version": FORMAT, **content})
    return _response(status, text.encode(), "application/json")


def _file(file: PageFile) -> web.Response:
    return _response(200, file.content, file.content_type)


def _response(status: int, body: bytes, content_type: str) -> web.Response:
    headers = {**HEADERS, "Content-Type": f"{content_type}; charset=utf-8"}
    if status == 405:
        headers["Allow"] = ", ".join(METHODS)
    return web.Response(status=status, body=body, headers=headers)


async def _end_all_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_WITHIN)
