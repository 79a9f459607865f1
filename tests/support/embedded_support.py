"""What the tests of the embedded server share."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

TIMEOUT = 100  # seconds; never reached where all is well


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def wait_for_end_of(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        if status.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} did not end")
