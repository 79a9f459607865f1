"""Emits one event, and then fails. Knows nothing of HA."""

from __future__ import annotations

import asyncio
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit ``{"i": 0}`` and raise."""
    await queue.put({"i": 0})
    await asyncio.sleep(args["after"])
    raise RuntimeError("the tape is torn")
