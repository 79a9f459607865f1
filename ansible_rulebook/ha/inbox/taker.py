"""Takes events out of an inbox, in the order in which they arrived."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from typing import Any, Callable, Deque
from uuid import UUID

import psycopg

from ..conninfo import Conninfo
from ..election.listener import Listener
from ..state.sql import INBOX
from . import sql
from .delivery import Delivery, Lead, Row

logger = logging.getLogger(__name__)

PORTION = 50  # events at a time
PORTION_BYTES = 4_000_000  # at a time, unless one event has more
MOST_IN_HAND = 500  # taken, and not known to be gone
# A look at the whole inbox that takes longer has deleted rows to skip, which
# somebody's long transaction keeps. Then one in so much time has to do.
SLOW_LOOK = 0.2  # seconds
SLOW_LOOKS_SHARE = 0.05  # of the time
LOOK_AGAIN = 30.0  # seconds; a notification comes before
LOOK_SOON = 0.05  # seconds, while as many as allowed are in hand
RETRY = 0.5  # seconds between two tries to connect
TIDY_EVERY = 600.0  # seconds
TIDY_PORTION = 1000  # keys at a time, and then events have their turn


class Taker:
    """Takes events while one term lasts, or as long as it is wanted.

    What it has taken and what is still in the table decides what it takes
    next. So nobody has to tell it what has been processed.

    :param conninfo: where the server is.
    :param name: the session's ``application_name``.
    :param ha_uuid: the cluster.
    :param inbox: the inbox's name.
    :param term: that it takes for; None outside of a worker.
    :param delete: deletes a row, where no journal does.
    """

    def __init__(
        self,
        conninfo: Conninfo,
        name: str,
        ha_uuid: UUID,
        inbox: str,
        term: Lead | None,
        delete: Callable[[Row], None],
    ) -> None:
        self._conninfo = conninfo
        self._name = name
        self._inbox = inbox
        self._params = {"ha_uuid": ha_uuid, "inbox": inbox}
        self._channel = f"{INBOX}_{ha_uuid.hex}"
        self._term = term
        self._delete = delete
        self._loop = asyncio.get_running_loop()
        self._listener: Listener | None = None
        self._in_hand: set[int] = set()
        self._ready: Deque[Delivery] = deque()
        self._has_news = True
        self._is_over = False
        self._tidied_at = self._loop.time()
        self._first = 0  # none before it was there at the last whole look
        self._next = 0  # after all that were taken
        self._look_whole_at = 0.0

    @property
    def in_hand(self) -> int:
        """How many events are taken and not known to be gone."""
        return len(self._in_hand)

    async def take(self) -> Delivery:
        """The next event. Waits for one, and for the server.

        :raises asyncio.CancelledError: after :meth:`end`.
        """
        while not self._ready:
            self._check()
            try:
                await self._look()
            except (psycopg.Error, OSError) as error:
                logger.debug("Nothing is taken from an inbox: %s", error)
                self._disconnect()
                await asyncio.sleep(RETRY)
        self._check()
        return self._ready.popleft()

    def _check(self) -> None:
        # A cancellation may be lost on its way through somebody's code.
        if self._is_over:
            raise asyncio.CancelledError

    def end(self) -> None:
        """Take no more. Ends every wait, and waits for nothing."""
        self._is_over = True
        if self._listener is not None:
            self._listener.shut_down()

    def close(self) -> None:
        """End the session. Nothing may wait for it."""
        self._disconnect()

    def _disconnect(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self._has_news = True  # what was said meanwhile was not heard

    async def _look(self) -> None:
        if self._listener is None:
            self._listener = await Listener.open(
                self._conninfo, self._name, self._channel, self._heard
            )
            await self._listener.fetch(sql.IN_ORDER)
        room = min(MOST_IN_HAND - len(self._in_hand), PORTION)
        if room > 0 and not self._has_news:
            await self._listener.listen(LOOK_AGAIN)
        elif room <= 0:
            await asyncio.sleep(LOOK_SOON)
        self._has_news = False
        if await self._take(self._listener, max(room, 0)):
            self._has_news = True  # there may be more
        await self._tidy(self._listener)

    def _heard(self, notify: psycopg.Notify) -> None:
        if notify.payload in ("", self._inbox):
            self._has_news = True

    async def _take(self, listener: Listener, most: int) -> bool:
        """Take up to ``most`` events; true if there were some."""
        asked_at = self._loop.time()
        is_whole = asked_at >= self._look_whole_at
        params = {
            **self._params,
            "first": 0 if is_whole else self._first,
            "in_hand": list(self._in_hand),
            "most": most,
            "bytes": PORTION_BYTES,
        }
        rows = await listener.fetch(sql.TAKE, params)
        if is_whole and most:
            answered_at = self._loop.time()
            took = answered_at - asked_at
            pause = took / SLOW_LOOKS_SHARE if took > SLOW_LOOK else 0.0
            self._look_whole_at = answered_at + min(pause, LOOK_AGAIN)
            self._first = min((row[0] for row in rows), default=self._next)
        # Those that are not in the table any more have been processed.
        self._in_hand = {row[0] for row in rows}
        taken = sorted(row for row in rows if row[1] is not None)
        self._next = max([self._next, *(row[0] + 1 for row in taken)])
        for number, body, arrived, parts in taken:
            row = Row(self._inbox, number)
            event = _decoded(body)
            if event is None:
                logger.error("Inbox %s: event %s is no JSON object", *row)
                self._delete(row)
                continue
            self._ready.append(
                Delivery(row, event, arrived, self._term, self._delete, parts)
            )
        return bool(taken)

    async def _tidy(self, listener: Listener) -> None:
        before, now = self._tidied_at, self._loop.time()
        if now < before + TIDY_EVERY:
            return
        self._tidied_at = now  # if it fails, too
        params = {"most": TIDY_PORTION}
        ((forgotten,),) = await listener.fetch(sql.FORGET_KEYS, params)
        if forgotten == TIDY_PORTION:
            self._tidied_at = before  # there may be more
            self._has_news = True


def _decoded(body: str) -> dict[str, Any] | None:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    if isinstance(event.get("meta"), dict):
        # Where it comes from is for the worker to say. Another source would
        # be told that an event of its own had been processed.
        event["meta"].pop("source", None)
    return event
