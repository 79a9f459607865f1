"""What other processes of this machine can read about this one."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from .options import DSN

if TYPE_CHECKING:
    from .conninfo import Conninfo


def hide(conninfo: Conninfo) -> None:
    """Take the DSN out of the command line and the environment.

    Also out of the environment as ``/proc`` shows it: that is the memory
    which the kernel filled when the program began, and a variable that is
    deleted stays there.
    """
    os.environ.pop(DSN.variable, None)
    _overwrite(DSN.variable)  # first: a longer title would cover its name
    _change_title(conninfo)


def _overwrite(variable: str) -> None:
    """Put stars in place of the variable's value, where there is Linux.

    Through a file, because an address that is wrong is an error there, and
    the end of the process everywhere else.
    """
    sought = re.compile(rb"(?:^|(?<=\0))%b=([^\0]+)" % variable.encode())
    try:
        with open("/proc/self/stat", "rb") as stat:
            # The name in parentheses may hold anything; see proc(5).
            fields = stat.read().rpartition(b")")[2].split()
        begin, end = int(fields[47]), int(fields[48])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(begin)
            for found in sought.finditer(memory.read(end - begin)):
                memory.seek(begin + found.start(1))
                memory.write(b"*" * len(found[1]))
    except (OSError, ValueError, IndexError, OverflowError):
        pass  # not Linux, or not allowed here; the docs say what remains


def _change_title(conninfo: Conninfo) -> None:
    dsn, shown = conninfo.dsn, repr(conninfo)
    words = list(getattr(sys, "orig_argv", [sys.executable, *sys.argv]))
    if not any(dsn in word for word in words):
        return
    from setproctitle import setproctitle

    setproctitle(" ".join(word.replace(dsn, shown) for word in words))
