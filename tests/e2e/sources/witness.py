"""Tells what a source plugin can see of its process."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit one event about what HA would bring along, and end."""
    await queue.put(
        {
            "arguments": sorted(args),
            "modules": sorted(
                name
                for name in sys.modules
                if name.split(".")[0] in ("psycopg", "setproctitle")
            ),
            "threads": sorted(
                thread.name
                for thread in threading.enumerate()
                if thread.name.startswith("ha-")
            ),
        }
    )
