"""Asks something once for all that want to know it at the same time."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from contextlib import suppress
from typing import Any, Awaitable, Callable, Generic, TypeVar, Union, cast

T = TypeVar("T")


class SharedAnswer(Generic[T]):
    """Asks something slow, and gives the same answer to all that wait.

    A coroutine function is awaited. Any other function is called in a thread,
    so it may block. The end of the process does not wait for it.

    :param ask: the question.
    :param fresh_for: seconds for which an answer is given again.
    """

    def __init__(
        self,
        ask: Callable[[], Union[T, Awaitable[T]]],
        fresh_for: float = 0.0,
    ) -> None:
        self._ask = ask
        self._fresh_for = fresh_for
        self._asking: asyncio.Future[T] | None = None
        self._answered_at = float("-inf")

    async def get(self, within: float) -> T:
        """The answer.

        :param within: seconds to wait for it.
        :raises asyncio.TimeoutError: if there is none by then. The question
            goes on, and a later call may get its answer.
        :raises Exception: what the question raised.
        """
        asking = self._asking
        age = time.monotonic() - self._answered_at
        if asking is None or (asking.done() and age >= self._fresh_for):
            asking = self._asking = self._begin()
            asking.add_done_callback(self._answered)
        await asyncio.wait({asking}, timeout=within)
        if not asking.done():
            raise asyncio.TimeoutError
        return asking.result()

    def cancel(self) -> None:
        """Wait no longer for an answer."""
        if self._asking is not None:
            self._asking.cancel()

    def _begin(self) -> asyncio.Future[T]:
        if inspect.iscoroutinefunction(self._ask):
            asking = cast("Callable[[], Awaitable[T]]", self._ask)()
            return asyncio.ensure_future(asking)
        return _in_thread(cast("Callable[[], T]", self._ask))

    def _answered(self, asking: asyncio.Future[T]) -> None:
        self._answered_at = time.monotonic()
        if not asking.cancelled():
            asking.exception()  # else asyncio complains if nobody waited


def _in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Call it in a thread that does not keep the process from its end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(method: Callable[[Any], None], value: object) -> None:
        if not future.done():
            method(value)

    def run() -> None:
        try:
            outcome: tuple[Any, object] = (future.set_result, call())
        except Exception as error:
            outcome = (future.set_exception, error)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="ha-http-ask", daemon=True).start()
    return future
