"""Numbers that nobody sends again. Knows neither HA nor feedback."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit the number after the last one that was taken, and so on."""
    folder = Path(args["folder"])
    taken = folder / "taken"
    number = len(taken.read_text("utf-8").split())
    while True:
        await asyncio.sleep(args["every"])
        if (folder / "stop").exists():
            continue
        await queue.put({"tick": number})
        with taken.open("a", encoding="utf-8") as file:
            print(number, file=file)
        number += 1
