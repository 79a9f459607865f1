"""Counts, and knows of HA: it runs on every worker.

It does not look whether it leads before it puts, so that a test sees what
``put`` does on a follower.
"""

from __future__ import annotations

import asyncio
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit 0, 1, 2 and so on, and end by itself at shutdown."""
    leads = args["leader_event"]
    follows = args["follower_event"]
    shutdown = args["shutdown_event"]
    print(f"aware: leads={leads.is_set()} follows={follows.is_set()}")
    number = 0
    while not shutdown.is_set():
        print(f"aware: putting {number}")
        put = asyncio.ensure_future(queue.put({"number": number}))
        end = asyncio.ensure_future(shutdown.wait())
        await asyncio.wait({put, end}, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if put.done():
            put.result()
            print(f"aware: put {number}")
            number += 1
            await asyncio.sleep(args["every"])
        else:
            put.cancel()
    print(f"aware: shutdown after {number}")
