"""Hears the signals that end a worker, even if its event loop is blocked."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from typing import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT)
MOST_BYTES = 4096  # read at once; a signal is one byte


class SignalListener:
    """Hears SIGTERM and SIGINT in a thread of its own.

    asyncio calls a signal's handler on its loop. So while a plugin blocks the
    loop, no signal is heard. But Python writes each signal's number into a
    pipe at once, whatever its main thread does (``signal.set_wakeup_fd``).
    This listener sets its own pipe there, and writes the numbers of other
    signals to asyncio's pipe.

    :param heard: called in the listener's thread with the signal's name.
    """

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        self._next = -1  # asyncio's end of its own pipe
        self._thread = threading.Thread(
            target=self._listen, name="ha-signals", daemon=True
        )

    def install(self) -> None:
        """Set the handlers and the pipe. Call it in the main thread.

        The JVM and ansible-runner set handlers of their own when they start,
        so this is called again after each of them.
        """
        for signum in SIGNALS:
            # If a plugin replaces our pipe, the loop still hears the signal.
            self._loop.add_signal_handler(
                signum, self._heard, signal.Signals(signum).name
            )
        replaced = signal.set_wakeup_fd(
            self._writes, warn_on_full_buffer=False
        )
        if replaced != self._writes:
            self._next = replaced
        if not self._thread.is_alive():
            self._thread.start()

    def _listen(self) -> None:
        while True:
            others = bytearray()
            for number in os.read(self._reads, MOST_BYTES):
                if number in SIGNALS:
                    self._heard(signal.Signals(number).name)
                else:
                    others.append(number)
            if others and self._next >= 0:
                # If the pipe is full, the loop wakes up anyway.
                with suppress(OSError):
                    os.write(self._next, others)
