"""Emits nothing: writes down what its worker does. See chaos.recording."""

from __future__ import annotations

import asyncio
from typing import Any

from chaos.recording import record


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Record until the end; runs on every worker, for it knows of HA."""
    await record(
        queue,
        args["socket"],
        args["leader_event"],
        args["follower_event"],
        args["shutdown_event"],
    )
