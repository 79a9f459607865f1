"""The life of a source that has an inbox."""

from __future__ import annotations

import asyncio
from typing import Any, AsyncContextManager, Callable, Mapping

from ..errors import SourceRefused
from ..inbox.inbox import Inbox
from .arguments import read_queue_arguments, read_webhook_arguments
from .server import WebhookServer

MakeInbox = Callable[..., Inbox]


async def run_webhook(
    queue: Any, args: Mapping[str, Any], make: MakeInbox | None, name: str
) -> None:
    """Accept events over HTTP, and feed them to the rules.

    Ends when the worker does.

    :param queue: upstream's.
    :param make: makes inboxes, as a worker has it.
    :param name: of the plugin.
    :raises HaError: if the source cannot work. One line.
    """
    arguments = read_webhook_arguments(args, name)
    inbox = _make(make, arguments.queue.inbox, arguments.queue.most, name)
    async with inbox as opened:
        server = WebhookServer(arguments, opened, name)
        async with server.listening():
            await _feed(opened, queue, args["shutdown_event"])


async def run_queue(
    queue: Any, args: Mapping[str, Any], make: MakeInbox | None, name: str
) -> None:
    """Feed what others have put into the inbox.

    The same parameters and errors as those of :func:`run_webhook`.
    """
    arguments = read_queue_arguments(args, name)
    async with _make(make, arguments.inbox, arguments.most, name) as opened:
        await _feed(opened, queue, args["shutdown_event"])


def _make(
    make: MakeInbox | None, inbox: str, most: int, name: str
) -> AsyncContextManager[Inbox]:
    if make is None:
        raise SourceRefused(
            f"{name} has no inbox in a run without the HA options: give "
            "--ha-postgres-dsn and --ha-uuid, or use another source"
        )
    return make(inbox, most)


async def _feed(inbox: Inbox, queue: Any, shutdown: asyncio.Event) -> None:
    """Until the worker ends. What is left is there for the next leader."""
    feeding = asyncio.ensure_future(inbox.feed(queue))
    ending = asyncio.ensure_future(shutdown.wait())
    try:
        await asyncio.wait(
            {feeding, ending}, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        feeding.cancel()
        ending.cancel()
        await asyncio.wait({feeding, ending})
    if not feeding.cancelled():
        feeding.result()
