"""Emits what a test puts into a folder. Knows nothing of HA."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any


def waiting(folder: Path) -> list[Path]:
    """What is there, in the order of the names."""
    return sorted(folder.glob("*.json"))


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit what comes into the folder, for ever."""
    folder = Path(args["folder"])
    # Taken out: a plugin may change its arguments as it likes.
    every = args.pop("settings")["every"]
    while True:
        for path in waiting(folder):
            # Kept until then: the term may end meanwhile.
            await queue.put(json.loads(path.read_text("utf-8")))
            path.unlink()
        await asyncio.sleep(every)
