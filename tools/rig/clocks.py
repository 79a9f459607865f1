"""Wall clocks of single workers, which can be set.

A small library stands between a process and its wall clock: the worker, its
Java, and whatever it starts. Nothing happens to the clocks that only ever go
forward, with which the election and the records of a run measure.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
LIBRARY = "clock.so"
VARIABLE = "RIG_CLOCK"
OFFSET = struct.Struct("=q")  # seconds


def can_compile() -> bool:
    """Whether there is what the library is made with."""
    return shutil.which("cc") is not None


class Clocks:
    """The clocks of the workers of one cluster.

    :param folder: for the library, and for one file each.
    :raises subprocess.CalledProcessError: if it cannot be compiled.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = folder / LIBRARY
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", SOURCE, "-o", self._library],
            check=True,
        )

    def variables(self, worker: str) -> dict[str, str]:
        """What its environment has to have."""
        path = self._path(worker)
        path.write_bytes(OFFSET.pack(0))
        return {"LD_PRELOAD": str(self._library), VARIABLE: str(path)}

    def set(self, worker: str, offset: int) -> None:
        """Have the clock be off by so many seconds, from now on."""
        with (
            self._path(worker).open("r+b") as file,
            mmap.mmap(file.fileno(), OFFSET.size) as shared,
        ):
            OFFSET.pack_into(shared, 0, offset)

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.clock"
