"""A small file system of its own, which can be full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SIZE = 256 * 2**20  # bytes
SMALLEST = 4096  # bytes; less does not make a page
FILLING = "filling"


class Volume:
    """A file system in memory, mounted at a folder of its own.

    :raises OSError: if this process may not mount one.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="eda-volume-"))
        options = f"size={SIZE},mode=0755"
        try:
            _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path)
        except OSError:
            self.path.rmdir()
            raise

    def close(self) -> None:
        """Give it back, with all that is in it."""
        # What still has a file open in it keeps the rest of it alive only.
        _run("umount", "--lazy", self.path)
        self.path.rmdir()

    def fill(self) -> None:
        """Leave no room for anybody."""
        file = os.open(self.path / FILLING, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            size, piece = os.fstat(file).st_size, SIZE
            while piece >= SMALLEST:
                try:
                    os.posix_fallocate(file, size, piece)
                    size += piece
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece //= 2
        finally:
            os.close(file)

    def free(self) -> None:
        """Give the room back."""
        (self.path / FILLING).unlink(missing_ok=True)


def can_mount() -> bool:
    """Whether this process may mount file systems."""
    if shutil.which("mount") is None:
        return False
    try:
        Volume().close()
    except OSError:
        return False
    return True


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise OSError(done.stderr.strip())
