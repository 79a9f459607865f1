"""A source that stops its worker's event loop after its first event."""

# To do what one must not do is what it is for.
# ruff: noqa: ASYNC110, ASYNC240, ASYNC251

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit one event; once the file ``block`` is there, block the loop."""
    await queue.put({"word": "alive"})
    while not Path(args["block"]).exists():
        await asyncio.sleep(0.05)
    print("blocking", flush=True)
    while Path(args["block"]).exists():
        time.sleep(0.05)
    await asyncio.sleep(3600)
