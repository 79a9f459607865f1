"""The engine's channel, with which upstream starts the JVM."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable

from ..engine.channel import read_messages
from ..worker import Worker
from .names import upstream


def install(worker: Worker) -> None:
    """Listen to signals again after Java, and read all that it sends."""
    engine = upstream("engine")
    engine.establish_async_channel = partial(
        establish_and_listen, worker, engine.establish_async_channel
    )
    engine.handle_async_messages = read_messages


async def establish_and_listen(
    worker: Worker, establish: Callable[[], Any]
) -> Any:
    """The JVM takes the signals; from here on they are ours again."""
    channel = await establish()
    worker.install_signal_handlers()
    return channel
