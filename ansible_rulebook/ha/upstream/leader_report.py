"""Tells a controller with activation groups who leads."""

from __future__ import annotations

import argparse
import asyncio
from datetime import datetime, timezone
from functools import partial
from typing import Any, Callable

from ..options import WORKER_NAME
from ..worker import Worker
from .names import upstream


def install(worker: Worker, parsed_args: argparse.Namespace) -> None:
    """Report to the controller while rulesets run, if it is to be told.

    A controller with activation groups names its workers. Others break off
    the connection at a message that they do not know, so they get none.
    """
    if not parsed_args.worker or not getattr(
        parsed_args, WORKER_NAME.dest, None
    ):
        return
    app = upstream("app")
    app.run_rulesets = partial(
        run_reporting, worker, parsed_args.heartbeat, app.run_rulesets
    )


async def run_reporting(
    worker: Worker,
    heartbeat: float,
    run_rulesets: Callable[..., Any],
    event_log: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """``app.run_rulesets``, and reports into its queue to the websocket.

    :param heartbeat: seconds from one report to the next in a term; with 0
        there is one for each term.
    """
    task = asyncio.ensure_future(report(worker, event_log, heartbeat))
    try:
        return await run_rulesets(event_log, *args, **kwargs)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def report(worker: Worker, event_log: Any, heartbeat: float) -> None:
    """Tell each promotion, and with a heartbeat tell it again.

    A report that waited in an earlier leader's queue may arrive after that
    of the next one; the next heartbeat mends that.
    """
    leadership = worker.leadership
    while True:
        await leadership.leader_event.wait()
        term = leadership.acting_term()
        over = asyncio.ensure_future(leadership.follower_event.wait())
        try:
            if term is not None:
                await _put(event_log, _message(worker, term.number), over)
            await asyncio.wait({over}, timeout=heartbeat or None)
        finally:
            over.cancel()


async def _put(
    event_log: Any, message: dict[str, Any], over: asyncio.Future[Any]
) -> None:
    """Wait for room in the queue, which 1.3 bounds, within the term."""
    putting = asyncio.ensure_future(event_log.put(message))
    try:
        await asyncio.wait(
            {putting, over}, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        putting.cancel()


def _message(worker: Worker, term: int) -> dict[str, Any]:
    identifier = upstream("conf").settings.identifier
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    return {
        "type": "HighAvailabilityStats",
        "activation_id": identifier,
        "activation_instance_id": identifier,
        "stats": {
            "ha_uuid": str(worker.options.ha_uuid),
            "current_leader": worker.worker_id,
            "term": term,
        },
        "reported_at": f"{now.isoformat()}Z",
    }
