"""Emits what a test puts into a folder. Knows nothing of HA."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def take(folder: Path) -> Iterator[dict[str, Any]]:
    """The events that are there, in the order of their names, each once."""
    for path in sorted(folder.glob("*.json")):
        event: dict[str, Any] = json.loads(path.read_text("utf-8"))
        path.unlink()
        yield event


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit what comes into the folder, for ever."""
    folder = Path(args["folder"])
    # Taken out: a plugin may change its arguments as it likes.
    every = args.pop("settings")["every"]
    while True:
        for event in take(folder):
            await queue.put(event)
        await asyncio.sleep(every)
