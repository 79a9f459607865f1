"""Event sources: starts them and ends them as leadership comes and goes."""

from __future__ import annotations

import ast
import asyncio
import copy
import errno
import logging
from typing import Any, Awaitable, Callable
from weakref import WeakSet

from ..election.leadership import Leadership
from ..election.term import Term
from ..errors import LeadershipLost
from ..redaction import one_line
from .gate import EventGate, GatedQueue

logger = logging.getLogger(__name__)

Main = Callable[[Any, "dict[str, Any]"], Awaitable[None]]
MARKS = ("leader_event", "ha_inbox")
FEEDBACK = "eda_feedback_queue"
LOOK_EVERY = 0.005  # seconds
ASK_AGAIN_AFTER = 1.0  # seconds until a source is cancelled once more
ADDRESS_RETRY = 0.2  # seconds
ADDRESS_PATIENCE = 10.0  # seconds for another worker to close its port


def is_ha_aware(source_code: str) -> bool:
    """Whether a plugin's code, not only its documentation, knows of HA.

    A plugin is aware if the string ``leader_event`` or ``ha_inbox``, exactly
    that, is a value in its code: an index, an argument, a side of a
    comparison. An inbox knows itself whether this worker leads. Neither text
    that contains the word (``DOCUMENTATION``, comments) counts, nor a string
    that is a statement of its own.
    """
    tree = ast.parse(source_code)
    lone = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)
    }
    return any(
        isinstance(node, ast.Constant)
        and node.value in MARKS
        and id(node) not in lone
        for node in ast.walk(tree)
    )


def fresh(args: dict[str, Any]) -> dict[str, Any]:
    """A copy of a plugin's arguments that it may change as it likes.

    Only lists and mappings, as YAML has them, are copied deeply. Queues and
    events are shared.
    """
    return {
        key: copy.deepcopy(value) if isinstance(value, (dict, list)) else value
        for key, value in args.items()
    }


class Sources:
    """The mains of all sources of this worker.

    :param leadership: whether this worker may act.
    :param gate_of: finds the gate that a plugin's queue leads to.
    :param make_inbox: what plugins get as ``ha_inbox``; None: nothing.
    """

    def __init__(
        self,
        leadership: Leadership,
        gate_of: Callable[[Any], EventGate],
        make_inbox: Callable[..., Any] | None = None,
    ) -> None:
        self._leadership = leadership
        self._gate_of = gate_of
        self._make_inbox = make_inbox
        self._gates: WeakSet[EventGate] = WeakSet()
        self._running: dict[asyncio.Task[None], Term | None] = {}

    def wrap(self, main: Main, name: str, aware: bool) -> Main:
        """The same main, started and ended as leadership allows.

        :param aware: whether it runs on followers, too.
        """

        async def wrapped(queue: Any, args: dict[str, Any]) -> None:
            if aware:
                await self._run_always(main, name, queue, args)
            else:
                await self._run_in_terms(main, name, queue, args)

        return wrapped

    async def _run_always(
        self, main: Main, name: str, queue: Any, args: dict[str, Any]
    ) -> None:
        task = self._start(main, name, queue, args, None)
        try:
            await asyncio.wait({task})
        finally:
            await self._end([task])
        if self._leadership.shutdown_event.is_set():
            await _until_cancelled()
        task.result()

    async def _run_in_terms(
        self, main: Main, name: str, queue: Any, args: dict[str, Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        tried: Term | None = None
        patience = 0.0
        while True:
            term = await self._leadership.next_term()
            if term is not tried:
                tried, patience = term, loop.time() + ADDRESS_PATIENCE
            if self._leadership.shutdown_event.is_set():
                await _until_cancelled()
            task = self._start(main, name, queue, args, term)
            try:
                await asyncio.wait({task})
            finally:
                await self._end([task])
            if self._leadership.shutdown_event.is_set():
                self._log_late_error(task, name)
                await _until_cancelled()
            if _address_in_use(task) and loop.time() < patience:
                # The last leader, on this host, may still be closing it.
                await asyncio.sleep(ADDRESS_RETRY)
            elif self._leadership.is_open() and (
                self._leadership.term is term
            ):
                task.result()  # it ended by itself: so does the rulebook
                return
            else:
                self._log_late_error(task, name)

    def _start(
        self,
        main: Main,
        name: str,
        queue: Any,
        args: dict[str, Any],
        term: Term | None,
    ) -> asyncio.Task[None]:
        gated, gate = copy.copy(queue), self._gate_of(queue.queue)
        self._gates.add(gate)
        gated.queue = GatedQueue(gate, term)
        arguments = fresh(args)
        if term is not None:
            _drain(args.get(FEEDBACK))  # these acknowledge an earlier start
        arguments["leader_event"] = self._leadership.leader_event
        arguments["follower_event"] = self._leadership.follower_event
        arguments["shutdown_event"] = self._leadership.shutdown_event
        if self._make_inbox is not None:
            arguments["ha_inbox"] = self._make_inbox

        async def run() -> None:
            await main(gated, arguments)

        task = asyncio.ensure_future(run())
        task.set_name(f"source::{name}")
        self._running[task] = term
        task.add_done_callback(self._running.pop)
        logger.debug("Source %s started, term %s", name, term)
        return task

    def running(self) -> list[str]:
        """The names of sources that have not ended. For any thread."""
        return sorted({task.get_name() for task in list(self._running)})

    async def let_through(self) -> None:
        """Wait until every event is in that a source has begun to put.

        A source may have no other copy of it. No more of them begin, since
        the term is ending: see :meth:`EventGate.put`.
        """
        # It changes with every event: to signal that would cost more.
        while any(  # noqa: ASYNC110
            gate.has_puts_under_way for gate in self._gates
        ):
            await asyncio.sleep(LOOK_EVERY)

    async def end_term(self) -> None:
        """End the sources that were started for a term, and wait for them."""
        await self._end(
            [task for task, term in self._running.items() if term is not None]
        )

    async def end_all(self, grace: float = 0.0) -> None:
        """End all sources, and wait for them.

        :param grace: seconds for those that run on followers, too, to end by
            themselves when they see ``shutdown_event``.
        """
        await self.end_term()
        if self._running:
            await asyncio.wait(set(self._running), timeout=grace)
        await self._end(list(self._running))

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        pending = {task for task in tasks if not task.done()}
        tries = 0
        while pending:
            for task in pending:
                task.cancel()
            # A source may swallow a cancellation, so it is repeated.
            _, pending = await asyncio.wait(pending, timeout=ASK_AGAIN_AFTER)
            tries += 1
            if pending and tries & (tries - 1) == 0:  # each time twice as long
                logger.warning(
                    "Still waiting for %s to end (%d s)",
                    ", ".join(sorted(task.get_name() for task in pending)),
                    tries * ASK_AGAIN_AFTER,
                )

    @staticmethod
    def _log_late_error(task: asyncio.Task[None], name: str) -> None:
        if task.cancelled() or task.exception() is None:
            return
        refused = isinstance(task.exception(), LeadershipLost)
        logger.log(
            logging.DEBUG if refused else logging.WARNING,
            "Source %s failed as leadership ended: %s",
            name,
            one_line(task.exception()),
        )


def _address_in_use(task: asyncio.Task[None]) -> bool:
    error = None if task.cancelled() else task.exception()
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE


def _drain(queue: asyncio.Queue[Any] | None) -> None:
    while queue is not None and not queue.empty():
        queue.get_nowait()


async def _until_cancelled() -> None:
    # Returning would tell upstream that the source ended the rulebook.
    await asyncio.get_running_loop().create_future()
