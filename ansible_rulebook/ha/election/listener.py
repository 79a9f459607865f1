"""A session that hears what others say by NOTIFY, and asks questions."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any, Callable, Mapping, Sequence, Union

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from ..conninfo import Conninfo
from . import sql

CONNECT_TIMEOUT = 5  # seconds

Params = Union[Sequence[Any], Mapping[str, Any], None]


class Listener:
    """Lives on the event loop that opens it.

    :param connection: in autocommit mode.
    :param heard: called with each notification; not in a turn of its own.
    """

    def __init__(
        self,
        connection: AsyncConnection[Any],
        heard: Callable[[psycopg.Notify], None],
    ) -> None:
        self._connection = connection
        self._heard = heard
        # A descriptor of our own, that shuts down whatever goes on.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        connection.add_notify_handler(heard)

    @classmethod
    async def open(
        cls,
        conninfo: Conninfo,
        name: str,
        channel: str,
        heard: Callable[[psycopg.Notify], None],
    ) -> Listener:
        """Connect, and listen.

        :param name: the ``application_name``.
        :raises psycopg.Error: if that cannot be.
        """
        options = {
            "application_name": name,
            "client_encoding": "UTF8",
            "connect_timeout": CONNECT_TIMEOUT,
            "target_session_attrs": conninfo.target_session_attrs,
        }
        connection = await AsyncConnection.connect(
            make_conninfo("", **conninfo.merged(**options)),
            autocommit=True,
            prepare_threshold=None,
        )
        made = cls(connection, heard)
        try:
            await connection.execute(sql.LISTEN.format(channel=channel))
        except BaseException:
            made.close()
            raise
        return made

    async def fetch(self, query: str, params: Params = None) -> list[Any]:
        """The rows of an answer; what is heard meanwhile is told.

        :raises psycopg.Error: if there is none.
        """
        cursor = await self._connection.execute(query, params)
        return [] if cursor.description is None else await cursor.fetchall()

    async def listen(self) -> None:
        """Wait until the server says something, and tell it.

        :raises psycopg.Error: if the session has ended.
        """
        await self._readable()
        pgconn = self._connection.pgconn
        pgconn.consume_input()
        pgconn.is_busy()  # parses what was read
        while True:
            found = pgconn.notifies()
            if found is None:
                return
            payload = found.extra.decode("utf-8", "replace")
            self._heard(psycopg.Notify("", payload, found.be_pid))

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        number = self._connection.fileno()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(number, tell)
        try:
            await ready
        finally:
            loop.remove_reader(number)

    def shut_down(self) -> None:
        """End every wait for the server. A cancelled one would last."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the session. Waits for nothing."""
        self._socket.close()
        self._connection.pgconn.finish()
