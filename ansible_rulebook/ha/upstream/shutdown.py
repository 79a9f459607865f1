"""Upstream's ``Shutdown``, the message that ends a ruleset."""

from __future__ import annotations

import asyncio
from typing import Any

from ..election.leadership import Leadership
from ..rulebook.gate import EventGate
from .names import upstream

_telling: set[asyncio.Future[None]] = set()  # full queues


def install() -> None:
    """Have every ruleset be told of a shutdown."""
    upstream("engine").broadcast = broadcast


async def broadcast(shutdown: Any) -> None:
    """Tell every ruleset to end.

    Upstream lists a queue once for each of its sources, and a ruleset reads
    one message: a third one would wait for ever, and keep the other rulesets
    from being told, and so the lock from being free.

    Nobody waits for a ruleset whose queue is full: the end of another one
    would cut off the action that has asked for the shutdown, before all are
    told of it, and with state the next leader would run it again.
    """
    queues = {id(each): each for each in upstream("engine").all_source_queues}
    for queue in queues.values():
        if queue.full():
            telling = asyncio.ensure_future(queue.put(shutdown))
            _telling.add(telling)
            telling.add_done_callback(_telling.discard)
        else:
            queue.put_nowait(shutdown)


async def shut_down(message: str, delay: float) -> None:
    """Ask every ruleset to end.

    :param message: says why.
    :param delay: seconds that running actions get.
    """
    shutdown = upstream("messages").Shutdown(message=message, delay=delay)
    await broadcast(shutdown)


def make_gate(queue: Any, leadership: Leadership) -> EventGate:
    """The gate of a ruleset's queue, which lets these messages pass."""
    shutdown = upstream("messages").Shutdown

    def is_control(item: Any) -> bool:
        return isinstance(item, shutdown)

    def is_urgent(item: Any) -> bool:
        return is_control(item) and item.kind == "now"

    return EventGate(queue, leadership, is_control, is_urgent)
