"""Emits nothing; writes down for how long the event loop stood still."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, TextIO

EVERY = 0.005  # seconds


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Run on followers, too; the words that say so: args["leader_event"]."""
    assert args["leader_event"] is not None
    with _open(args["folder"]) as file:
        while not args["shutdown_event"].is_set():
            before = time.monotonic()
            await asyncio.sleep(EVERY)
            now = time.monotonic()
            print(f"{now:.3f} {now - before - EVERY:.4f}", file=file)
            file.flush()


def _open(folder: str) -> TextIO:
    return Path(folder, "lag").open("a", encoding="utf-8")
