"""A recovery for practice, so that a Java that stands by has done one.

Java takes several times as long for what it does for the first time, and a
standby's first recovery is the one that everybody waits for. So it does some
beforehand, with sessions of the same rules that nobody else sees.
"""

from __future__ import annotations

import json
import logging
import uuid
from typing import Generator, Sequence

from .bridge import Bridge, Record, now, packed

ROUNDS = 5  # more gain little
RULESETS = 3  # more need the same classes
EVENTS = 300

logger = logging.getLogger(__name__)


def warm_up(
    bridge: Bridge, rulesets: Sequence[str]
) -> Generator[None, None, None]:
    """Recover some of these rulesets a few times. A step is short.

    :param rulesets: their definitions.
    :raises RuntimeError: if Java cannot.
    """
    # What Drools says of it looks as if this worker led.
    with bridge.quiet():
        yield from _practise(bridge, rulesets[:RULESETS])
    logger.debug("Java has recovered %d rulesets for practice", len(rulesets))


def _practise(
    bridge: Bridge, rulesets: Sequence[str]
) -> Generator[None, None, None]:
    for _ in range(ROUNDS):
        for text in rulesets:
            session = bridge.create(text)
            yield
            try:
                bridge.restore(session, packed(_some_events()))
                yield
                for each in _some_events():
                    bridge.assert_event(session, now(), each.text)
                bridge.advance(session, now())
            finally:
                bridge.dispose(session)
            yield


def _some_events() -> list[Record]:
    # Of no rule's kind: what they bring about shall be nothing.
    at = now()
    return [
        Record(
            number,
            "E",
            at,
            -1,
            json.dumps({"meta": {"uuid": str(uuid.uuid4())}}),
        )
        for number in range(EVENTS)
    ]
