"""The messages that the engine sends through its asynchronous channel."""

from __future__ import annotations

import json
from typing import Any, Iterator

SMALL = 65536  # bytes of a message that is parsed at once
RESULTS = '"result":['

_decoder = json.JSONDecoder()


def results_of(message: bytes) -> Iterator[tuple[int, Any]]:
    """The matches of one message, each with its session's number.

    After a failover one message can carry many thousands. Parsed at once it
    would stop the event loop for longer than a lease may last, so this
    parses one match after the other.

    :raises ValueError: if it is not a message of the engine.
    """
    text = message.decode()
    start = text.find(RESULTS) if len(message) > SMALL else -1
    session = _session_before(text, start)
    if session is None:
        whole = json.loads(text)
        for result in whole["result"]:
            yield whole["session_id"], result
        return
    place = start + len(RESULTS)
    while text[place] != "]":
        result, place = _decoder.raw_decode(text, place)
        yield session, result
        if text[place] == ",":
            place += 1


def _session_before(text: str, start: int) -> int | None:
    """The session's number, if it stands before the results."""
    try:
        head = json.loads(text[: max(start, 0)] + RESULTS + "]}")
        return int(head["session_id"])
    except (ValueError, KeyError):
        return None
