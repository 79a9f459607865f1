"""A command in the foreground, on behalf of another."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Callable, List, Mapping, Optional, Sequence

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Foreground:
    """Run one command in the foreground and be invisible about it.

    The command gets a process group of its own and the terminal, as from a
    shell. So it gets a Ctrl-C from the terminal, once, and a signal that is
    sent to us from us, once. If we are killed it gets SIGTERM.
    """

    def __init__(self) -> None:
        self._child: Optional[subprocess.Popen[bytes]] = None
        self._early: List[int] = []
        for signum in FORWARDED:
            # nohup is respected
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._forward)

    @property
    def interrupted(self) -> Optional[int]:
        """The first signal that came before there was a command."""
        return self._early[0] if self._early else None

    def _forward(self, signum: int, _frame: Optional[FrameType]) -> None:
        if self._child is None:
            self._early.append(signum)
        else:
            self._child.send_signal(signum)

    def run(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> int:
        """Run the command; return its exit code, 128 + n for signal n.

        Raises:
            OSError: it cannot be started.
        """
        if self.interrupted is not None:
            return 128 + self.interrupted
        group = os.getpgrp()
        terminal = self._terminal(group)
        child = self._child = subprocess.Popen(
            list(command),
            env=dict(env),
            pass_fds=tuple(pass_fds),
            preexec_fn=self._in_child(),
        )
        for signum in self._early:  # came while it was being started
            child.send_signal(signum)
        if terminal is None:
            code = child.wait()
        else:
            # Setting the terminal's group from the background stops us else.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, child.pid)
            code = self._wait_on_terminal(child, terminal, group)
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, group)
        return 128 - code if code < 0 else code

    @staticmethod
    def _terminal(group: int) -> Optional[int]:
        try:
            return 0 if os.tcgetpgrp(0) == group else None
        except OSError:
            return None

    @staticmethod
    def _in_child() -> Callable[[], None]:
        prctl: Optional[Callable[[int, int], int]] = None
        if sys.platform.startswith("linux"):
            prctl = getattr(ctypes.CDLL(None), "prctl", None)

        def prepare() -> None:
            os.setpgid(0, 0)
            if prctl is not None:
                prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

        return prepare

    def _wait_on_terminal(
        self, child: "subprocess.Popen[bytes]", terminal: int, group: int
    ) -> int:
        """Wait, and pass Ctrl-Z and fg on between shell and command."""
        while True:
            _pid, status = os.waitpid(child.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                self._child = None
                if os.WIFSIGNALED(status):
                    child.returncode = -os.WTERMSIG(status)
                else:
                    child.returncode = os.WEXITSTATUS(status)
                return child.returncode
            if os.WSTOPSIG(status) == signal.SIGSTOP:
                continue  # sent to the command, not typed; it gets SIGCONT
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, group)
            os.kill(os.getpid(), signal.SIGSTOP)
            # The shell woke us: to the front (fg) or not (bg).
            with contextlib.suppress(OSError):
                if os.tcgetpgrp(terminal) == group:
                    os.tcsetpgrp(terminal, child.pid)
            os.killpg(child.pid, signal.SIGCONT)
