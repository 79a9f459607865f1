"""A webhook source of one worker, without rules, on a real inbox."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from ansible_rulebook.ha import Inbox
from ansible_rulebook.ha.webhook.arguments import read_webhook_arguments
from ansible_rulebook.ha.webhook.server import WebhookServer

HOST = "127.0.0.1"
LIMIT = 60.0  # seconds for anything, on a busy machine


class Hook:
    """One that listens.

    :param port: where.
    :param inbox: where it puts events.
    """

    def __init__(self, port: int, inbox: Inbox) -> None:
        self.port = port
        self.inbox = inbox
        self.url = f"http://{HOST}:{port}/"

    async def taken(self) -> dict[str, Any]:
        """The next event, which is processed then."""
        delivery = await asyncio.wait_for(self.inbox.take(), LIMIT)
        self.inbox.done(delivery)
        return delivery.event


@contextlib.asynccontextmanager
async def hook(dsn: str, ha_uuid: str, **args: Any) -> AsyncIterator[Hook]:
    """One that listens within."""
    given = {"host": HOST, "port": 0, **args}
    arguments = read_webhook_arguments(given, "ha_webhook", {})
    queue = arguments.queue
    async with Inbox(dsn, ha_uuid, queue.inbox, queue.most) as inbox:
        server = WebhookServer(arguments, inbox, "ha_webhook")
        async with server.listening() as port:
            yield Hook(port, inbox)


class Raw:
    """A client that sends what it likes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, and body of the next answer."""
        head = await asyncio.wait_for(
            self.reader.readuntil(b"\r\n\r\n"), LIMIT
        )
        first, *lines = head.decode().strip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        size = int(headers.get("content-length", "0"))
        body = await asyncio.wait_for(self.reader.readexactly(size), LIMIT)
        return int(first.split()[1]), headers, body

    async def post(self, content: Any) -> None:
        """Send a whole request."""
        body = json.dumps(content).encode()
        self.writer.write(head(len(body)) + body)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """What comes until the server has closed it."""
        found = b""
        with contextlib.suppress(ConnectionError):
            while True:
                more = await asyncio.wait_for(self.reader.read(9999), LIMIT)
                if not more:
                    break
                found += more
        return found

    async def is_ended(self) -> bool:
        """Wait until the server has closed it."""
        await self.rest()
        return True


def head(length: int, *lines: str) -> bytes:
    """The head of a POST."""
    all_lines = (
        "POST /raw HTTP/1.1",
        "Host: eda",
        f"Content-Length: {length}",
        *lines,
    )
    return "\r\n".join(all_lines).encode() + b"\r\n\r\n"


@contextlib.asynccontextmanager
async def raw(port: int) -> AsyncIterator[Raw]:
    """A connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
