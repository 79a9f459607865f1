"""Sends news to the pages that are open. It is rendered once for all."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from ..shared_answer import SharedAnswer
from ..snapshot import TakeSnapshot
from ..view import ClusterView
from .render import Moment, Rate, document, sections

DATABASE_WITHIN = 0.4  # seconds that a tick waits for the database
PAGE_WITHIN = 1.0  # seconds that a page that is opened waits for it
SAMPLES = 240  # of two minutes, at two a second


class News:
    """What one page has not been told yet."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._next: dict[str, str] = {}
        self._there = asyncio.Event()

    def tell(self, rendered: dict[str, str]) -> None:
        """Give it the page's sections. A slow client skips older ones."""
        self._next = rendered
        self._there.set()

    async def next(self) -> str:
        """What differs from what was told before, as an event's text."""
        await self._there.wait()
        self._there.clear()
        changed = {
            name: text
            for name, text in self._next.items()
            if self._known.get(name) != text
        }
        self._known.update(changed)
        # JSON has no line ends of its own, so it is one line of data.
        return f"event: sections\ndata: {json.dumps(changed)}\n\n"


class Feed:
    """Looks at the worker and the cluster, renders, and tells the pages.

    It does so twice a second, while a page is open.

    :param take_snapshot: of this worker.
    :param cluster: as the database knows it.
    :param totals: events and actions so far.
    """

    def __init__(
        self,
        take_snapshot: TakeSnapshot,
        cluster: SharedAnswer[ClusterView],
        totals: Callable[[], tuple[float, float]],
    ) -> None:
        self._take_snapshot = take_snapshot
        self._cluster = cluster
        self._totals = totals
        self._counts: deque[tuple[float, float, float]] = deque(maxlen=SAMPLES)
        self._view = ClusterView()
        self._seen_at: float | None = None
        self._pages: set[News] = set()

    @contextmanager
    def subscribed(self) -> Iterator[News]:
        """The news for one page."""
        news = News()
        self._pages.add(news)
        try:
            yield news
        finally:
            self._pages.discard(news)

    async def tick(self) -> None:
        """Twice a second: take samples, and tell the pages."""
        self._counts.append((time.monotonic(), *self._totals()))
        if not self._pages:
            return
        rendered = sections(await self._look(DATABASE_WITHIN))
        for news in self._pages:
            news.tell(rendered)

    async def document(self) -> bytes:
        """The whole page as of now."""
        return document(await self._look(PAGE_WITHIN)).encode()

    async def _look(self, within: float) -> Moment:
        try:
            self._view = await self._cluster.get(within)
            self._seen_at = time.time()
            answers = True
        except Exception:
            answers = False
        return Moment(
            worker=self._take_snapshot(),
            cluster=self._view,
            seen_at=self._seen_at,
            database_answers=answers,
            at=time.time(),
            events=self._rate(1),
            actions=self._rate(2),
        )

    def _rate(self, column: int) -> Rate:
        counts = list(self._counts)
        return Rate(
            tuple(
                max(0.0, new[column] - old[column]) / (new[0] - old[0])
                for old, new in zip(counts, counts[2:])
            )
        )
