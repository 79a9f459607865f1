"""Emits what is in a folder, and removes what has been taken from it.

What its queue did not take is there for the next leader. Knows nothing of HA.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def letters(folder: Path) -> Iterator[dict[str, Any]]:
    """What is there. Whoever wants the next one has taken the last."""
    for path in sorted(folder.glob("*.json")):
        yield json.loads(path.read_text("utf-8"))
        path.unlink()


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit what comes into the folder, for ever."""
    while True:
        for letter in letters(Path(args["folder"])):
            await queue.put(letter)
        await asyncio.sleep(args["every"])
