"""Changes how an event is given to the engine; emits none.

The process stands still in that moment, once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from drools import ruleset

give = ruleset.post  # what gives an event to the engine


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Stop the process that gives the event to its engine, in that moment."""
    slept = Path(args["folder"]) / "slept"

    def sleep_and_give(name: str, event: Any) -> Any:
        if event.get("word") == "asleep" and not slept.exists():
            slept.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        return give(name, event)

    ruleset.post = sleep_and_give
    await asyncio.Event().wait()
