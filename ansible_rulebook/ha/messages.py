"""What the engine sends through its asynchronous channel."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any, Iterator

SMALL = 65536  # bytes that are parsed in no time
RESULTS = '"result":['
RECOVERED = "MATCHING_EVENT_RECOVERY"
REMEMBERED = 10_000  # matches

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


class Repeats:
    """Tells a timed match that the engine sends a second time.

    After a recovery drools_jpy 0.4 fires a ``not_all`` whose window was
    running then at its end, as it should, and once more one window later.
    No timer fires twice for the same events otherwise.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[Any, ...], None] = OrderedDict()

    def is_one(self, session: int, result: Any) -> bool:
        """Whether it is; remembers it if not."""
        events = _identities(result)
        if events is None:
            return False
        match = (session, result["name"], events)
        if match in self._seen:
            return bool(result.get("type") != RECOVERED)
        self._seen[match] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False


def _identities(result: Any) -> tuple[tuple[str, str], ...] | None:
    """Names and ids of a match's events, None if one of them has no id."""
    try:
        return tuple(
            sorted(
                (name, str(event["meta"]["uuid"]))
                for name, event in result["events"].items()
            )
        )
    except (KeyError, TypeError, AttributeError):
        return None
