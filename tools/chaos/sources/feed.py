"""Emits the events that the broker hands out. Knows nothing of HA.

With feedback, an event is acknowledged once the engine has it, and the next
one asked for only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from chaos import mood

IDLE = 0.2  # seconds until the broker is asked again that had nothing


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit events, for ever."""
    feedback = args.get("eda_feedback_queue")
    reader, writer = await asyncio.open_unix_connection(args["socket"])

    async def ask(**question: str) -> Any:
        writer.write(json.dumps(question).encode() + b"\n")
        await writer.drain()
        return json.loads(await reader.readline())

    try:
        while True:
            event = await ask(take=args["name"])
            if event is None:
                await asyncio.sleep(IDLE)
                continue
            await queue.put(event)
            while feedback is not None:
                told = (await feedback.get())["id"]
                await ask(ack=told)
                if told == event["id"]:
                    break
            await asyncio.sleep(float(args["every"]))
    finally:
        # Whatever ends it: a put may be turned away before a cancellation.
        while mood.is_stubborn:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(IDLE)
        writer.close()
