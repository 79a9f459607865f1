"""Where code is at the moment, for people."""

from __future__ import annotations

import asyncio
import os
import traceback
from types import FrameType
from typing import Any

_ASYNCIO = os.path.dirname(asyncio.__file__)


def place(frame: FrameType | None) -> str:
    """As ``webhook.py:12 in main``."""
    if frame is None:
        return "an unknown place"
    file = os.path.relpath(frame.f_code.co_filename)
    if file.startswith(os.pardir):
        file = frame.f_code.co_filename
    return f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"


def of_task(task: asyncio.Task[Any]) -> tuple[str, str]:
    """A task's name, and where it waits."""
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", repr(coroutine))
    return f"{task.get_name()!r} ({name})", place(innermost(coroutine))


def innermost(coroutine: Any) -> FrameType | None:
    """The frame that a coroutine waits in, the last one before asyncio's."""
    frame = None
    while coroutine is not None:
        inner = getattr(coroutine, "cr_frame", None)
        if inner is None or (
            frame is not None and inner.f_code.co_filename.startswith(_ASYNCIO)
        ):
            break
        frame = inner
        coroutine = getattr(coroutine, "cr_await", None)
    return frame


def of_thread(frame: FrameType) -> str:
    """What a thread does, without what asyncio does to call it."""
    stack = traceback.StackSummary.extract(traceback.walk_stack(frame))
    stack.reverse()
    calls = [
        number
        for number, entry in enumerate(stack)
        if entry.filename.startswith(_ASYNCIO)
    ]
    # What the loop has called is below the last call of its own.
    ours = stack[calls[-1] + 1 if calls else 0 :]
    return "".join(traceback.format_list(ours or stack))
