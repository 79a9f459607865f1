"""What is open in this process, and what was not before."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import stat
import sys
import threading
from dataclasses import dataclass
from typing import Iterator, Tuple

from . import stacks
from .loop_thread import PREFIX, LoopThread

DESCRIPTORS = "/dev/fd"

Descriptor = Tuple[int, int, int]  # number, device, inode


@dataclass(frozen=True)
class Open:
    """Tasks of a loop, and what the process has open."""

    tasks: frozenset[asyncio.Task[object]]
    descriptors: frozenset[Descriptor]
    threads: frozenset[threading.Thread]


def look(loop: LoopThread) -> Open:
    """What is open now; for any thread but the loop's."""
    return Open(
        frozenset(loop.run(_tasks())),
        frozenset(_descriptors()),
        frozenset(
            each
            for each in threading.enumerate()
            if not each.name.startswith(PREFIX)
        ),
    )


def since(
    before: Open, loop: LoopThread, ignored: set[Descriptor]
) -> list[str]:
    """What has been opened and not closed, one sentence each.

    For any thread but the loop's.
    """
    gc.collect()
    now = look(loop)
    leaks = [
        "Task {} goes on, {}.".format(*stacks.of_task(task))
        for task in now.tasks - before.tasks
    ]
    leaks += [
        f"{_describe(number)} is open."
        for number, _, _ in sorted(
            now.descriptors - before.descriptors - ignored
        )
    ]
    leaks += [
        f"Thread {thread.name!r} goes on, {_whereabouts(thread)}."
        for thread in now.threads - before.threads
    ]
    leaks += [
        f"A call in the loop's executor goes on: {name}."
        for name in loop.calls.running()
    ]
    return leaks


async def _tasks() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def _descriptors() -> Iterator[Descriptor]:
    try:
        names = os.listdir(DESCRIPTORS)
    except OSError:
        return  # a system without it: no files and sockets are seen
    for name in names:
        # That of the list itself is closed by now.
        with contextlib.suppress(OSError):
            yield descriptor(int(name))


def descriptor(number: int) -> Descriptor:
    """What a number stands for now; it may be another file's later.

    :raises OSError: if it is not open.
    """
    found = os.fstat(number)
    return number, found.st_dev, found.st_ino


def _describe(number: int) -> str:
    try:
        if stat.S_ISSOCK(os.fstat(number).st_mode):
            with socket.socket(fileno=os.dup(number)) as found:
                return _describe_socket(found)
        return f"File {os.readlink(f'/proc/self/fd/{number}')}"
    except OSError:  # closed meanwhile, or a system without it
        return f"File number {number}"


def _describe_socket(found: socket.socket) -> str:
    address = found.getsockname()
    if found.family in (socket.AF_INET, socket.AF_INET6):
        address = f"{address[0]}:{address[1]}"
    if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return f"A socket that listens on {address}"
    return f"A socket, local address {address},"


def _whereabouts(thread: threading.Thread) -> str:
    return stacks.place(sys._current_frames().get(thread.ident or 0))
