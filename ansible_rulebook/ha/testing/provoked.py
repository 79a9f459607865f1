"""What a test does to bring a source to emit an event."""

from __future__ import annotations

import threading
import time
from typing import Callable

from .loop_thread import PREFIX

RETRY = 0.05  # seconds
TRIED_FOR = 5.0  # seconds


class Provoked:
    """Calls a function of the test in a thread.

    It is called again on a ``ConnectionError``: a source that has just been
    started may not listen yet.

    :param provoke: None for a source that emits by itself.
    """

    def __init__(self, provoke: Callable[[], object] | None) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run,
            args=(provoke,),
            name=f"{PREFIX}-provoke",
            daemon=True,
        )
        self._thread.start()

    def _run(self, provoke: Callable[[], object] | None) -> None:
        deadline = time.monotonic() + TRIED_FOR
        while provoke is not None:
            try:
                provoke()
                return
            except ConnectionError as error:
                if time.monotonic() > deadline:
                    self._error = error
                    return
                time.sleep(RETRY)  # it may not listen yet
            except Exception as error:
                self._error = error
                return

    def has_ended(self) -> bool:
        """Wait for its end, but not for long.

        :raises Exception: what it failed with.
        """
        self._thread.join(RETRY)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()
