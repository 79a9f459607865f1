"""An event loop in a thread of its own, and a watch over it.

A source may block its loop, or never end. The test, which is in another
thread, goes on and can say so.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures.thread
import contextlib
import functools
import sys
import threading
from typing import Any, Callable, Coroutine, TypeVar

from . import stacks

T = TypeVar("T")

PREFIX = "ha_source"  # of the names of our own threads
BLOCKED_AFTER = 1.0  # seconds without an answer of the loop
LOOK_EVERY = 0.05  # seconds
GRACE = 5.0  # seconds that a call may take longer than it says
CLOSE_WITHIN = 2.0  # seconds

_stuck: list[threading.Thread] = []


def stuck_threads() -> list[str]:
    """Threads of sources that never end, and keep the process alive."""
    return [each.name for each in _stuck if each.is_alive()]


def remember_stuck(threads: set[threading.Thread]) -> None:
    """These threads outlived their source."""
    # Python joins the threads of executors at its end, daemons or not.
    pools = getattr(concurrent.futures.thread, "_threads_queues", ())
    _stuck.extend(each for each in threads if not each.daemon or each in pools)


class LoopBlocked(Exception):
    """The loop does not answer; the text says where it is."""


class Calls(concurrent.futures.ThreadPoolExecutor):
    """The loop's own executor, which knows what it has not finished."""

    def __init__(self) -> None:
        self._prefix = f"{PREFIX}-call-{id(self):x}"
        super().__init__(thread_name_prefix=self._prefix)
        self._running: dict[concurrent.futures.Future[Any], str] = {}

    def submit(  # type: ignore[override]
        self, fn: Callable[..., T], *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[T]:
        """As of any executor."""
        future = super().submit(fn, *args, **kwargs)
        self._running[future] = _name(fn)
        future.add_done_callback(lambda done: self._running.pop(done, None))
        if future.done():
            self._running.pop(future, None)
        return future

    def running(self) -> list[str]:
        """The functions that have been called and have not returned."""
        return list(self._running.values())

    def threads(self) -> set[threading.Thread]:
        """Its threads that are alive."""
        return {
            each
            for each in threading.enumerate()
            if each.name.startswith(self._prefix)
        }


def _name(fn: Any) -> str:
    if isinstance(fn, functools.partial):
        # asyncio.to_thread has a context run the function.
        is_run = getattr(fn.func, "__name__", "") == "run" and fn.args
        fn = fn.args[0] if is_run else fn.func
    return str(getattr(fn, "__qualname__", repr(fn)))


class LoopThread:
    """Runs coroutines for a test that has no loop, or one of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.calls = Calls()
        self.loop.set_default_executor(self.calls)
        self._blocks: list[str] = []
        self._is_blocked = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"{PREFIX}-loop", daemon=True
        )
        self._watch = threading.Thread(
            target=self._look, name=f"{PREFIX}-watch", daemon=True
        )
        self._thread.start()
        self._watch.start()

    def run(self, work: Coroutine[Any, Any, T], within: float = 0.0) -> T:
        """What the coroutine returns.

        :param within: seconds that it may take.
        :raises LoopBlocked: if the loop does not run it.
        """
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        concurrent.futures.wait({future}, within + GRACE)
        if not future.done():
            future.cancel()
            self._is_blocked = True
            raise LoopBlocked(self._stack() or "no stack")
        return future.result()

    def take_blocks(self) -> list[str]:
        """Stacks of what has blocked the loop since the last time."""
        taken, self._blocks = self._blocks, []
        return taken

    def close(self) -> bool:
        """Cancel what is left, and end the threads.

        :returns: whether all has ended.
        """
        if not self._is_blocked:
            with contextlib.suppress(LoopBlocked):
                self.run(self._cancel_all(), CLOSE_WITHIN)
        self._stopped.set()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLOSE_WITHIN)
        self._watch.join(CLOSE_WITHIN)
        self.calls.shutdown(wait=False)
        if self.calls.running():
            remember_stuck(self.calls.threads())
        if self._thread.is_alive():
            return False
        self.loop.close()
        return True

    async def _cancel_all(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CLOSE_WITHIN)
        await self.loop.shutdown_asyncgens()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _stack(self) -> str | None:
        """Where the loop is, or None if it waits for something to do."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        if frame is None or frame.f_code.co_filename.endswith("selectors.py"):
            return None
        return stacks.of_thread(frame)

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_EVERY):
            answered = threading.Event()
            self.loop.call_soon_threadsafe(answered.set)
            if answered.wait(BLOCKED_AFTER):
                continue
            stack = self._stack()
            if stack is not None:
                self._blocks.append(stack)
            while not answered.wait(LOOK_EVERY):
                if self._stopped.is_set():
                    return
