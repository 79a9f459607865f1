"""Knows of HA, and looks for the end only between two waits to lead."""

from __future__ import annotations

import asyncio
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Wait to lead, and emit one event each time."""
    while not args["shutdown_event"].is_set():
        print("patient: waiting", flush=True)
        await args["leader_event"].wait()
        await queue.put({"word": "led"})
        await args["follower_event"].wait()
