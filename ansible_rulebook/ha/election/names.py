"""What the lock and the sessions of a worker are called."""

from __future__ import annotations

import hashlib
import re
import uuid

APPLICATION = "eda-ha"
HEARING = "eda-ha-ear"  # of the session in which a leader hears requests
PAUSE = "eda-ha-pause"  # of a session that holds the lock, and does not lead
NOMINATION = "eda-ha-to"  # of a session that says who is to lead next
NAME_BYTES = 63  # of application_name, PostgreSQL's NAMEDATALEN - 1
PROCESS_DIGITS = 8  # hexadecimal, at the end of the name
LEFT_OUT = ".."


def lock_key(ha_uuid: uuid.UUID) -> int:
    """The advisory lock's key for a cluster: a signed 64-bit integer.

    The first 8 bytes of a namespaced SHA-256 of the canonical UUID, so that
    it collides neither with another cluster's nor with locks that other
    programs number by hand.
    """
    text = f"ansible-rulebook-ha:leader:{ha_uuid}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def application_name(
    key: int, worker_id: str, process: str = "", kind: str = APPLICATION
) -> str:
    """How a session shows in ``pg_stat_activity``.

    ``<kind>:<key>:<worker id>:<process>``. Of an id that is too long the
    middle is left out: many differ at one end only.

    :param process: tells workers with the same id apart. Without it this is
        what all names for the worker id begin with.
    """
    worker = re.sub(r"[^A-Za-z0-9._-]", "_", worker_id)
    head = f"{kind}:{key % 2**64:016x}:"
    room = NAME_BYTES - len(head) - len(":") - PROCESS_DIGITS
    if len(worker) > room:
        half = (room - len(LEFT_OUT)) // 2
        worker = worker[:half] + LEFT_OUT + worker[-half:]
    return f"{head}{worker}:{process[:PROCESS_DIGITS]}"
