"""Counts, and goes on only when it got feedback. Knows nothing of HA.

As a broker's client does: what is not acknowledged is sent again by whoever
comes next, as the same event.
"""

# Files are how a test talks to it.
# ruff: noqa: ASYNC110

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
KINDS = ("single", "first", "second", "steps")


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit the number in the file ``next``, and so on, until told to stop."""
    feedback: asyncio.Queue[Any] = args["eda_feedback_queue"]
    place = Path(args["folder"]) / "next"
    draft = place.with_name(f"next.{os.getpid()}")
    number = int(place.read_text("utf-8"))
    while True:
        while place.with_name("stop").exists():
            await asyncio.sleep(0.05)
        await queue.put(
            {
                "number": number,
                "kind": KINDS[number % len(KINDS)],
                "group": number // len(KINDS),
                "meta": {"uuid": str(uuid.uuid5(NAMESPACE, str(number)))},
            }
        )
        answer = (await feedback.get())["number"]
        if answer != number:
            raise RuntimeError(f"feedback for {answer} instead of {number}")
        number += 1
        draft.write_text(str(number), "utf-8")
        draft.rename(place)
        await asyncio.sleep(args["every"])
