"""Emits nothing, and takes its time to end when it is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Wait; once cancelled, for so many seconds more."""
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(args["seconds"])
