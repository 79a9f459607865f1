"""Emits the words of a list, for rulebooks that end. Knows nothing of HA."""

# Files are how a test talks to it.
# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit them, wait for the file ``until``, if that is given, and end.

    Or fail with the words of ``failure``.
    """
    for word in args["words"]:
        await queue.put({"do": word})
    while "until" in args and not Path(args["until"]).exists():
        await asyncio.sleep(0.02)
    if "failure" in args:
        raise RuntimeError(args["failure"])
    print("the plan is over", flush=True)
