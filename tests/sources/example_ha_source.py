"""An event source that knows about leadership; take it as a pattern."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from typing import Any, Coroutine

DOCUMENTATION = r"""
---
short_description: Numbered events, from the leading worker only.
description:
  - An ansible-rulebook event source plugin that emits an event every few
    seconds, as long as its worker leads.
  - It is written for ansible-rulebook-ha, whose workers pass the events
    leader_event, follower_event and shutdown_event to a source. Without
    them, in a plain ansible-rulebook, it emits all the time.
  - Each event has a number that counts the events of this process from 1,
    an id that no other event has, and the host and the pid of its worker.
    The first event of a term has first set to true.
options:
  delay:
    description:
      - Seconds from one event to the next.
    type: float
    default: 1.0
  limit:
    description:
      - How many events this process emits in all. Its rulebook ends after
        the last one, and the next worker leads. Endless if not given.
    type: int
  prefix:
    description:
      - Stands before the number in the message of an event.
    type: str
    default: event
"""

EXAMPLES = r"""
- example_ha_source:

- example_ha_source:
    delay: 0.5
    limit: 100
    prefix: order
"""


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Emit numbered events while this worker leads."""
    delay, limit, prefix = options(args)
    leader, follower, shutdown = roles(args)
    number = 0
    first = True
    while number != limit and not shutdown.is_set():
        if not leader.is_set():
            first = True
            # Not a bare `await leader.wait()`: a follower that is told to
            # stop would never come back from it.
            await race(leader.wait(), shutdown)
            continue
        event = {
            "message": f"{prefix} {number + 1}",
            "number": number + 1,
            "first": first,
            "id": str(uuid.uuid4()),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        emitted = await race(emit(queue, event, leader), follower, shutdown)
        number += bool(emitted)
        rested = emitted and await race(
            asyncio.sleep(delay, True), follower, shutdown
        )
        # Where either was cut short, the next event is another term's.
        first = not rested


async def emit(
    queue: asyncio.Queue[Any], event: dict[str, Any], leader: asyncio.Event
) -> bool:
    """Put the event into the queue if this worker (still) leads."""
    if not leader.is_set():
        return False
    await queue.put(event)
    return True


async def race(work: Coroutine[Any, Any, Any], *ends: asyncio.Event) -> Any:
    """Do some work, but cancel it as soon as one of the events is set.

    Returns what the work returns, or None if it was cancelled.
    """
    task = asyncio.ensure_future(work)
    waits = [asyncio.ensure_future(end.wait()) for end in ends]
    try:
        await asyncio.wait({task, *waits}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (task, *waits):
            each.cancel()
        await asyncio.wait({task, *waits})
    return None if task.cancelled() else task.result()


def roles(
    args: dict[str, Any],
) -> tuple[asyncio.Event, asyncio.Event, asyncio.Event]:
    """The three events; without HA, those of one that leads for ever."""
    if "leader_event" in args:
        return (
            args["leader_event"],
            args["follower_event"],
            args["shutdown_event"],
        )
    leader = asyncio.Event()
    leader.set()
    return leader, asyncio.Event(), asyncio.Event()


def options(args: dict[str, Any]) -> tuple[float, int | None, str]:
    """Delay, limit and prefix, checked."""
    delay = float(args.get("delay", 1.0))
    if not 0 <= delay < float("inf"):
        raise ValueError(f"delay must not be {delay}")
    limit = args.get("limit")
    if limit is not None:
        limit = int(limit)
        if limit < 0:
            raise ValueError(f"limit must not be {limit}")
    return delay, limit, str(args.get("prefix", "event"))


if __name__ == "__main__":
    # Run by hand, it prints its events.

    class MockQueue(asyncio.Queue[Any]):
        """A fake queue."""

        async def put(self: MockQueue, event: dict[str, Any]) -> None:
            """Print the event."""
            print(event)

    asyncio.run(main(MockQueue(), {"delay": 0.2, "limit": 5}))
