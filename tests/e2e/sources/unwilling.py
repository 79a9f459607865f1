"""A source that does not end, in one of the ways that are met."""

# To do what one must not do is what it is for.

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit one event, then wait as ``how`` says."""
    await queue.put({"word": "alive"})
    if args["how"] == "blocks":
        # As ansible.eda.file_watch does: its thread is waited for.
        with ThreadPoolExecutor() as pool:
            watch = pool.submit(threading.Event().wait)
            await asyncio.wrap_future(watch)
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
