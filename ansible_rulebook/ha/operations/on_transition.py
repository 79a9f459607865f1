"""The operator's command, run at each change of role."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from ..errors import OptionError
from ..log import WorkerLog
from ..redaction import clean

WITHIN = 30.0  # seconds for one run
MOST_WAITING = 100  # transitions, if they come faster than runs end
END_WITHIN = 5.0  # seconds, for a command that was killed


class Transition(NamedTuple):
    """What the command is told, by variables of its environment."""

    role: str
    """``EDA_HA_ROLE``: ``leader``, ``follower`` or ``stopped``."""
    term: int
    """``EDA_HA_TERM``: the one that begins or ends."""
    reason: str = ""
    """``EDA_HA_REASON``: one of the :mod:`.reasons`."""
    gap: float | None = None
    """``EDA_HA_GAP``: seconds without a leader before the term; empty if
    not known."""

    def environment(self) -> dict[str, str]:
        """The variables, each on one line of printable text."""
        gap = "" if self.gap is None else f"{self.gap:.3f}"
        return {
            "EDA_HA_ROLE": clean(self.role),
            "EDA_HA_TERM": str(self.term),
            "EDA_HA_REASON": clean(self.reason),
            "EDA_HA_GAP": gap,
        }


def parse_command(text: str, origin: str) -> list[str]:
    """The words of a command line, as a shell would split it.

    :param origin: how the error names the option.
    :raises OptionError: if there are none, or a quote is not closed.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OptionError(
            f"{origin}: the command cannot be read: {str(error).lower()}"
        ) from None
    if not words or "\0" in text:
        raise OptionError(f"{origin}: give a command and its arguments")
    return words


class TransitionHook:
    """Runs the command once for each transition, one run after the other.

    It does so in a thread of its own, and without a shell. What the command
    prints goes where the worker's output goes. A run that takes longer than
    :data:`WITHIN` is killed, and so are the processes that it has started,
    but for those in a session of their own. A failure is logged as a warning.

    :param words: see :func:`parse_command`.
    """

    def __init__(
        self, words: list[str], worker_id: str, ha_uuid: str, log: WorkerLog
    ) -> None:
        self._words = words
        self._worker = {
            "EDA_HA_WORKER_ID": worker_id,
            "EDA_HA_UUID": ha_uuid,
        }
        self._log = log
        self._waiting: queue.Queue[Transition | None] = queue.Queue(
            MOST_WAITING
        )
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run_all, name="ha-on-transition", daemon=True
        )
        self._thread.start()

    def tell(self, transition: Transition) -> None:
        """Run the command for this one, after the earlier ones. Any thread;
        does not wait."""
        try:
            self._waiting.put_nowait(transition)
        except queue.Full:
            self._warn(f"{MOST_WAITING} runs wait: one was left out")

    def close(self, within: float) -> None:
        """Wait for the runs that were asked for, then accept no more.

        :param within: seconds; what runs after that is killed.
        """
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(within)
        self._closed.set()
        self._thread.join(END_WITHIN)

    def _run_all(self) -> None:
        while not self._closed.is_set():
            transition = self._waiting.get()
            if transition is None:
                return
            try:
                self._run(transition)
            except Exception as error:
                self._warn(str(error))

    def _run(self, transition: Transition) -> None:
        process = subprocess.Popen(
            self._words,
            env={**os.environ, **self._worker, **transition.environment()},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # and with it a group to be killed
        )
        ends_at = time.monotonic() + WITHIN
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(0.1)
                break
            if self._closed.is_set() or time.monotonic() > ends_at:
                # Not reaped yet, so the number is still that of the group.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(END_WITHIN)
                self._warn("it took too long and was killed")
                return
        if code:
            self._warn(f"it ended with {code}")

    def _warn(self, why: str) -> None:
        self._log.warning(
            "The command for transitions failed", why, command=self._words[0]
        )
