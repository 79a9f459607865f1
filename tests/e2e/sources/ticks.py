"""Counts like eda.builtin.range, for every version of upstream."""

from __future__ import annotations

import asyncio
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit 0, 1, 2 and so on, below ``limit`` if that is given."""
    number = 0
    while number != args.get("limit"):
        await queue.put({"i": number})
        number += 1
        await asyncio.sleep(args.get("delay", 0))
