"""Upstream's run, which becomes a worker's life."""

from __future__ import annotations

import argparse
import asyncio
import logging
from functools import partial
from typing import Any, Callable

from ..engine.rulesets import deliver
from ..errors import OptionError, RulesetDied
from ..options import HaOptions, WithoutDsn
from ..rulebook.rulesets import Rulesets
from ..worker import Worker
from . import (
    actions,
    channel,
    leader_report,
    plugins,
    ruleset_runner,
    shutdown,
    state,
)
from .cli import EXIT_USAGE, exit_with
from .names import check, lacks_state, upstream
from .variables import find_conninfo, read_variables


def install(options: HaOptions | WithoutDsn) -> None:
    """Have upstream's next run be that of a cluster's worker.

    :raises UpstreamChanged: naming the seam and upstream's version.
    """
    check()
    app = upstream("app")
    app.run = WorkerRun(options, app.run).run


class WorkerRun:
    """``app.run`` inside the worker's life.

    :param options: what the operator asked for.
    :param run: upstream's.
    """

    def __init__(
        self, options: HaOptions | WithoutDsn, run: Callable[..., Any]
    ) -> None:
        self._options = options
        self._run = run
        self._worker: Worker | None = None

    async def run(self, parsed_args: argparse.Namespace) -> None:
        """Run a rulebook. Upstream calls this in itself on hot reload."""
        if self._worker is not None:
            # The old queues have no reader: a message would stay there.
            upstream("engine").all_source_queues.clear()
            self._worker.reload()
            await self._run(parsed_args)
            return
        _speak_up()
        options = await _complete(self._options, parsed_args)
        lacking = lacks_state()
        self._worker = worker = Worker(
            options,
            parsed_args.shutdown_delay,
            shutdown.make_gate,
            shutdown.shut_down,
            deliver,
            lacking,
        )
        _extend(worker)
        leader_report.install(worker, parsed_args)
        if lacking is None:
            state.install(worker)
        await worker.run(lambda: self._start(worker, parsed_args))

    def _start(self, worker: Worker, parsed_args: argparse.Namespace) -> Any:
        state.set_id(worker, parsed_args)
        return self._run(parsed_args)


async def _complete(
    options: HaOptions | WithoutDsn, parsed_args: argparse.Namespace
) -> HaOptions:
    if isinstance(options, HaOptions):
        return options
    try:
        return options.complete(
            find_conninfo(await read_variables(parsed_args))
        )
    except OptionError as error:
        exit_with(EXIT_USAGE, str(error))


def _speak_up() -> None:
    """Show transitions without -v, too: they are why somebody reads logs."""
    ours = logging.getLogger("ansible_rulebook.ha")
    if ours.getEffectiveLevel() > logging.INFO:
        ours.setLevel(logging.INFO)


def _extend(worker: Worker) -> None:
    """Put what is ours in place of upstream's names."""
    app, engine = upstream("app"), upstream("engine")
    app.run_rulesets = partial(run_watched, worker, app.run_rulesets)
    engine.monitor_rulebook = partial(
        monitor_while_running, worker.rulesets, engine.monitor_rulebook
    )
    plugins.install(worker)
    ruleset_runner.install(worker)
    channel.install(worker)
    shutdown.install()
    actions.install(worker)


async def run_watched(
    worker: Worker, run_rulesets: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """``app.run_rulesets``: an engine that died is an error.

    :raises RulesetDied: if one has.
    """
    try:
        reload = await run_rulesets(*args, **kwargs)
    except asyncio.InvalidStateError:
        # With hot reload upstream asks for the monitor's outcome even when
        # it is a ruleset that has died.
        reload = False
    died = [ruleset.name for ruleset in worker.rulesets.ended_unasked()]
    if died and not reload and not worker.is_leaving:
        raise RulesetDied(f"the engine of {', '.join(died)} ended unasked")
    return reload


async def monitor_while_running(
    rulesets: Rulesets, monitor: Callable[..., Any], rulebook_file: str
) -> None:
    """``engine.monitor_rulebook`` that ends with the last ruleset.

    Upstream waits for both together, so with hot reload a rulebook that has
    ended would keep its worker, and with it the lock, for ever.
    """
    watching = asyncio.ensure_future(monitor(rulebook_file))
    over = asyncio.ensure_future(rulesets.over.wait())
    try:
        await asyncio.wait(
            {watching, over}, return_when=asyncio.FIRST_COMPLETED
        )
        if not over.done():
            watching.result()
    finally:
        over.cancel()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
