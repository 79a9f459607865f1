"""What the server's PID file tells."""

import os
import re
from pathlib import Path
from typing import Optional


def _number(data_dir: Path, line: int) -> Optional[int]:
    """Return the number in a line of the PID file, if it is one."""
    # The account may have put anything in its place: no link is followed,
    # a pipe is not waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with open(os.open(data_dir / "postmaster.pid", flags), "rb") as file:
            lines = (file.read(4096) or b"").splitlines()
    except OSError:
        return None
    text = lines[line].strip() if len(lines) > line else b""
    return int(text) if re.fullmatch(rb"[0-9]{1,9}", text) else None


def running_pid(data_dir: Path) -> Optional[int]:
    """Return the process id of the server, None if it does not run."""
    pid = _number(data_dir, 0)
    if pid is None:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        # No /proc on this platform, or the process ended just now.
        return pid if not Path("/proc/self").exists() else None
    except OSError:
        return pid
    # After a crash its number may have gone to another process; a dead
    # server that nobody has reaped yet has an empty command line.
    return pid if os.fsencode(data_dir) in command else None


def forget_zombie(data_dir: Path) -> None:
    """Remove the PID file of a killed server that nobody has reaped yet.

    PostgreSQL takes a zombie for a running server, and the first process of
    a container may never reap. Children of the dead server that still run
    are not overlooked: PostgreSQL finds them by their shared memory.
    """
    pid = _number(data_dir, 0)
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return
    if status.rpartition(")")[2].split()[:1] == ["Z"]:
        (data_dir / "postmaster.pid").unlink()


def port_of(data_dir: Path) -> Optional[int]:
    """Return the TCP port of a server that runs."""
    return _number(data_dir, 3)
