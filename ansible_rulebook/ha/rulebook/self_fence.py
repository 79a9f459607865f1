"""How a worker ends itself when it cannot end what it runs."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from typing import Callable

from ..log import WorkerLog

EXIT_FENCED = 75  # EX_TEMPFAIL of sysexits.h: start it again
LAST_WORDS = 2.0  # seconds for log and stack traces


class SelfFence:
    """Ends the process, which surely ends all that the worker does.

    Its connection ends with it, and so the server frees the lock.

    :param kill_actions: kills what the worker has started; any thread.
    :param running: names what has not ended, for the log; any thread.
    :param log: for the last words.
    """

    def __init__(
        self,
        kill_actions: Callable[[], object],
        running: Callable[[], list[str]],
        log: WorkerLog,
    ) -> None:
        self._kill_actions = kill_actions
        self._running = running
        self._log = log
        self.is_called = False
        """Whether the process is about to end."""

    def __call__(self, why: str) -> None:
        """Kill the actions, say why, exit with code 75. For any thread."""
        self.is_called = True
        # A dead loop may hold a lock that logging needs.
        last_resort = threading.Timer(LAST_WORDS, os._exit, (EXIT_FENCED,))
        last_resort.daemon = True
        last_resort.start()
        self._kill_actions()
        running = self._running()
        if running:
            why = f"{why}; still running: {', '.join(running)}"
        self._log.critical(
            f"Ending this worker with exit code {EXIT_FENCED}", why
        )
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        os._exit(EXIT_FENCED)
