"""Takes events over HTTP, on each worker, and stores them in the inbox.

A request is acknowledged when its event is durable, and not before: then it
does not matter which worker it went to, nor what happens to that one.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Protocol

from aiohttp import web

from ..connections import SWEEP_EVERY, Connection, Door, Limits
from ..errors import HaError, SourceRefused
from ..inbox.inbox import EventRefused, InboxFull
from .answers import Refused, answer, try_again
from .arguments import WebhookArguments
from .body import BodyRefused, clean, decode, parse_json, refuse_surrogates
from .guards import CONFIDENTIAL, Verdict, check_token
from .secret import Secret, SecretUnknown
from .tls import Certificates

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 500
# Bytes of a request beside its body: more than asyncio reads at once, so that
# one that is too large is answered before it is cut off.
MOST_BESIDE = 512 * 1024
READ_WITHIN = 30.0  # seconds for a request to come, and again for its answer
# Longer than what load balancers keep a connection for, or they would send a
# request to one that is just being closed.
KEEP_ALIVE = 75.0  # seconds without a request
LINGER = 5.0  # seconds in which the rest of a refused request is read
ADDRESS_RETRY = 0.2  # seconds
ADDRESS_PATIENCE = 10.0  # seconds for an earlier run to close its port
FINISH_WITHIN = 4.0  # seconds for requests under way, when the source ends
RETRY_AFTER = 2.0  # seconds until a sender may try again
# Bytes of bodies that have come and are not whole yet, of all clients. What is
# more has to come again: else clients without a token could fill the memory.
# Those that were only announced do not count: they would keep others out.
MOST_BYTES_AT_ONCE = 64 * 1024 * 1024
SAY_EVERY = 60.0  # seconds between two lines about refused requests

HEALTH_METHODS = ("GET", "HEAD")


class Durable(Protocol):
    """Where events are put."""

    async def put(self, event: dict[str, Any], key: str | None = None) -> bool:
        """Store an event; see :meth:`.Inbox.put`."""


class WebhookServer:
    """Answers requests.

    :param arguments: what the rulebook says.
    :param inbox: where events go.
    :param name: of the plugin, for log lines.
    """

    def __init__(
        self, arguments: WebhookArguments, inbox: Durable, name: str
    ) -> None:
        self._arguments = arguments
        self._inbox = inbox
        self._name = name
        self._is_ending = False
        self._bytes_at_once = 0
        self._cannot_store_until = 0.0
        # By status: how many requests, and why the last of them.
        self._refused: dict[int, tuple[int, str]] = {}
        self._say_at = 0.0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Listen within, and end in good order. Yields the port.

        :raises SourceRefused: if that is not possible. One line.
        """
        door = Door(self._answer, _limits(self._arguments.max_body))
        tls = self._arguments.tls
        certificates = Certificates(tls) if tls is not None else None
        port = await self._open(door, certificates)
        self._say_that_it_listens(port, certificates is not None)
        sweeping = asyncio.ensure_future(self._sweep(door, certificates))
        try:
            yield port
        finally:
            self._is_ending = True
            try:
                await door.close(FINISH_WITHIN)
            finally:
                sweeping.cancel()
                self._say_at = 0.0
                self._say_what_was_refused()

    async def _open(
        self, door: Door, certificates: Certificates | None
    ) -> int:
        loop = asyncio.get_running_loop()
        until = loop.time() + ADDRESS_PATIENCE
        host, port = self._arguments.host, self._arguments.port
        while True:
            try:
                return await door.listen(host, port, certificates)
            except OSError as error:
                # After a hot reload the port may not be free yet.
                if error.errno == errno.EADDRINUSE and loop.time() < until:
                    await asyncio.sleep(ADDRESS_RETRY)
                    continue
                raise SourceRefused(
                    f"{self._name} cannot listen at {host}:{port}: "
                    f"{_reason(error)}"
                ) from None

    def _say_that_it_listens(self, port: int, with_tls: bool) -> None:
        scheme = "https" if with_tls else "http"
        host = self._arguments.host
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        logger.info("%s listens at %s://%s", self._name, scheme, place)
        if self._arguments.is_open_to_all:
            logger.warning(
                "%s accepts events of anybody: give it token, hmac_secret, "
                "or certfile and cafile",
                self._name,
            )

    async def _sweep(
        self, door: Door, certificates: Certificates | None
    ) -> None:
        while True:
            door.sweep()
            if certificates is not None:
                certificates.renew()
            self._say_what_was_refused()
            await asyncio.sleep(SWEEP_EVERY)

    # -- a request -------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.begin()
        try:
            response = await self._respond(request, connection)
        except Refused as refused:
            count, _ = self._refused.get(refused.status, (0, ""))
            self._refused[refused.status] = count + 1, refused.cause
            response = answer(
                refused.status,
                {"status": "refused", "error": str(refused)},
                refused.headers,
            )
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            logger.warning("%s: no answer", self._name, exc_info=True)
            response = answer(
                500, {"status": "refused", "error": "an error of ours"}
            )
        finally:
            connection.end()
        if self._is_ending or not request.content.is_eof():
            response.force_close()
        if not request.content.is_eof():
            connection.discard()
        return response

    async def _respond(
        self, request: web.BaseRequest, connection: Connection
    ) -> web.StreamResponse:
        path = request.path
        is_health = path == self._arguments.health_path
        if is_health and request.method in HEALTH_METHODS:
            return self._health()
        if request.method != "POST":
            allowed = ("POST", *HEALTH_METHODS) if is_health else ("POST",)
            raise Refused(405, "post events", {"Allow": ", ".join(allowed)})
        self._check_token(request)
        body = await self._read(request)
        connection.begin()
        self._check_signature(request, body)
        endpoint = clean(path[1:])
        payload = self._payload(body, request)
        event = {
            "payload": payload,
            "meta": {"endpoint": endpoint, "headers": _headers(request)},
        }
        key = self._arguments.idempotency.key(
            request.headers, endpoint, payload, time.time()
        )
        is_new = await self._put(event, key)
        return answer(202, {"status": "accepted" if is_new else "duplicate"})

    def _health(self) -> web.Response:
        """Whether a request would probably be accepted here."""
        now = asyncio.get_running_loop().time()
        if self._is_ending or now < self._cannot_store_until:
            return answer(503, {"status": "cannot accept events"})
        return answer(200, {"status": "accepts events"})

    def _check_token(self, request: web.BaseRequest) -> None:
        if self._arguments.token is None:
            return
        verdict = check_token(request.headers, _known(self._arguments.token))
        if verdict is not Verdict.FITS:
            raise Refused(
                401,
                f"the token {verdict.value}",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _read(self, request: web.BaseRequest) -> bytes:
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(415, "the body has to come without an encoding")
        most = self._arguments.max_body
        length = request.content_length
        if length is not None and length > most:
            raise Refused(413, f"the body has more than {most} bytes")
        body = bytearray()
        try:
            if request.headers.get("Expect", "").lower() == "100-continue":
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0  # nothing of the answer yet
            async for chunk in request.content.iter_any():
                body += chunk
                self._bytes_at_once += len(chunk)
                if len(body) > most:
                    raise Refused(413, f"the body has more than {most} bytes")
                if self._bytes_at_once > max(MOST_BYTES_AT_ONCE, most):
                    raise try_again("too many requests at once", RETRY_AFTER)
            return bytes(body)
        except web.RequestPayloadError:
            raise Refused(400, "the body is broken") from None
        finally:
            self._bytes_at_once -= len(body)

    def _check_signature(self, request: web.BaseRequest, body: bytes) -> None:
        secret = self._arguments.hmac_secret
        if secret is None:
            return
        verdict = self._arguments.signature.check(
            request.headers, body, _known(secret), time.time()
        )
        if verdict is not Verdict.FITS:
            status = 401 if verdict is Verdict.MISSING else 403
            raise Refused(status, f"the signature {verdict.value}")

    def _payload(self, body: bytes, request: web.BaseRequest) -> Any:
        try:
            text = decode(body, request.charset)
            if self._arguments.is_json:
                return parse_json(text)
            refuse_surrogates(text)
            return text
        except BodyRefused as error:
            raise Refused(400, str(error)) from None

    async def _put(self, event: dict[str, Any], key: str | None) -> bool:
        try:
            is_new = await self._inbox.put(event, key)
        except EventRefused as error:
            raise Refused(413, str(error)) from None
        except InboxFull as error:
            raise try_again(
                "too many events wait", error.retry_after
            ) from None
        except HaError as error:
            loop = asyncio.get_running_loop()
            self._cannot_store_until = loop.time() + RETRY_AFTER
            raise try_again(
                "the event cannot be stored at the moment", RETRY_AFTER, error
            ) from None
        self._cannot_store_until = 0.0
        return is_new

    def _say_what_was_refused(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._refused or now < self._say_at:
            return
        self._say_at = now + SAY_EVERY
        for status, (count, cause) in sorted(self._refused.items()):
            logger.warning(
                "%s refused %d requests with %d, the last one since: %s",
                self._name,
                count,
                status,
                cause,
            )
        self._refused.clear()


def _limits(max_body: int) -> Limits:
    return Limits(
        connections=MOST_CONNECTIONS,
        # In chunks a body can take more bytes than it has.
        request_bytes=2 * max_body + MOST_BESIDE,
        within=READ_WITHIN,
        keep_alive=KEEP_ALIVE,
        linger=LINGER,
    )


def _known(secret: Secret) -> tuple[bytes, ...]:
    try:
        return secret.values()
    except SecretUnknown as error:
        raise try_again(
            "the secret is not known", RETRY_AFTER, error
        ) from None


def _headers(request: web.BaseRequest) -> dict[str, str]:
    return {
        clean(name): clean(value)
        for name, value in request.headers.items()
        if name.lower() not in CONFIDENTIAL
    }


def _reason(error: OSError) -> str:
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)  # an address that is not known
