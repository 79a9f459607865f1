"""Two events with long ids and characters that few encodings have."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit the event whose number is in the file."""
    file = Path(args["folder"], "events")
    emitted: set[str] = set()
    while True:
        await asyncio.sleep(0.05)
        number = _read(file)
        if not number or number in emitted:
            continue
        emitted.add(number)
        event = {"number": number, "meta": {"uuid": number + 400 * "\u4e2d"}}
        key = "word" if number == "1" else "more"
        await queue.put({**event, key: "\u4e2d\U0001f600"})


def _read(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""
