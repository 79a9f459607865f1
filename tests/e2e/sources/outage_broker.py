"""Numbers, each sent again until there was feedback. Knows nothing of HA.

The folder stands for a broker: it remembers what was acknowledged.
"""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit the number after the last one that is acknowledged, and so on."""
    feedback: asyncio.Queue[Any] = args["eda_feedback_queue"]
    folder = Path(args["folder"])
    acknowledged = folder / "acknowledged"
    number = len(acknowledged.read_text("utf-8").split())
    while True:
        await asyncio.sleep(args["every"])
        if (folder / "stop").exists():
            continue
        await queue.put(
            {
                "broker": number,
                "meta": {"uuid": str(uuid.uuid5(NAMESPACE, str(number)))},
            }
        )
        answer = (await feedback.get())["broker"]
        if answer != number:
            raise RuntimeError(f"feedback for {answer} instead of {number}")
        with acknowledged.open("a", encoding="utf-8") as file:
            print(number, file=file)
        number += 1
