"""A session that hears what others say by NOTIFY, and asks questions."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any, Callable, Mapping, Sequence, Union

import psycopg
from psycopg import AsyncConnection

from ..conninfo import Conninfo
from . import sql
from .settings import IN_ALL

CONNECT_TIMEOUT = 5  # seconds
ANSWER_WITHIN = 30.0  # seconds; then the session is taken for lost

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
        connection = await AsyncConnection.connect(
            conninfo.to_connect(name, connect_timeout=CONNECT_TIMEOUT),
            autocommit=True,
            prepare_threshold=None,
        )
        made = cls(connection, heard)
        try:
            await made._set(conninfo.settings)
            await made.fetch(sql.LISTEN.format(channel=channel))
        except BaseException:
            made.close()
            raise
        return made

    async def fetch(self, query: str, params: Params = None) -> list[Any]:
        """The rows of an answer; what is heard meanwhile is told.

        :raises psycopg.Error: if there is none, or none in time.
        """
        loop = asyncio.get_running_loop()
        # One session may fall silent where the others do not: a firewall or a
        # pooler has forgotten it.
        alarm = loop.call_later(ANSWER_WITHIN, self.shut_down)
        asking = asyncio.ensure_future(self._ask(query, params))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            # psycopg would have the server cancel it, and wait for that.
            self.shut_down()
            await asyncio.wait({asking})
            if not asking.cancelled():
                asking.exception()
            raise
        finally:
            alarm.cancel()

    async def _ask(self, query: str, params: Params) -> list[Any]:
        cursor = await self._connection.execute(query, params)
        return [] if cursor.description is None else await cursor.fetchall()

    async def _set(self, asked: Mapping[str, str]) -> None:
        """Set what the connection string asks for.

        A connection pooler may have dropped it, such as the search_path.
        """
        for name, value in asked.items():
            if name in IN_ALL:
                continue  # ours
            try:
                await self.fetch(sql.WRITE_SETTING, (name, value))
            except psycopg.Error:
                if self._connection.closed:
                    raise  # else the server refuses it, as elsewhere

    async def listen(self, within: float | None = None) -> None:
        """Wait until the server says something, and tell it.

        :param within: seconds to wait, if not for ever.
        :raises psycopg.Error: if the session has ended.
        """
        await self._readable(within)
        pgconn = self._connection.pgconn
        pgconn.consume_input()
        pgconn.is_busy()  # parses what was read
        while True:
            found = pgconn.notifies()
            if found is None:
                return
            payload = found.extra.decode("utf-8", "replace")
            self._heard(psycopg.Notify("", payload, found.be_pid))

    async def _readable(self, within: float | None) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        number = self._connection.fileno()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        # Not wait_for(): up to Python 3.11 it may swallow a cancellation.
        alarm = None if within is None else loop.call_later(within, tell)
        loop.add_reader(number, tell)
        try:
            await ready
        finally:
            loop.remove_reader(number)
            if alarm is not None:
                alarm.cancel()

    def shut_down(self) -> None:
        """End every wait for the server. A cancelled one would last."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the session. Waits for nothing."""
        self._socket.close()
        self._connection.pgconn.finish()
