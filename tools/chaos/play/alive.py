"""What the playbook runs: writes down that it lives, until it has done so.

::

    alive.py ID SECONDS

The record is the file of the variable CHAOS_PLAYS. Each row is one write, so
a SIGKILL leaves whole rows.
"""

from __future__ import annotations

import json
import os
import sys
import time

EVERY = 0.02  # seconds between two rows


def main() -> None:
    """Write the first row, one each moment, and the last one."""
    name, seconds = sys.argv[1], float(sys.argv[2])
    record = os.open(
        os.environ["CHAOS_PLAYS"],
        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        0o644,
    )

    def write(state: str) -> None:
        row = {
            "kind": "play",
            "id": name,
            "pid": os.getpid(),
            "state": state,
            "at": time.monotonic_ns(),
        }
        os.write(record, json.dumps(row).encode() + b"\n")

    write("begin")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(EVERY)
        write("alive")
    write("end")


if __name__ == "__main__":
    main()
