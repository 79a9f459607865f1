"""The warm-up: a follower's Java does some recoveries for practice.

Java takes several times as long for what it does for the first time. But a
follower's first recovery is the one that everybody waits for. So it does some
beforehand, in sessions of the same rules that nobody else sees.
"""

from __future__ import annotations

import json
import logging
import uuid
from typing import Generator, Sequence

from .bridge import Bridge, Record, packed

ROUNDS = 5  # more gain little
RULESETS = 3  # more gain little: they use the same classes
EVENTS = 300

logger = logging.getLogger(__name__)


def warm_up(
    bridge: Bridge, rulesets: Sequence[str]
) -> Generator[None, None, None]:
    """Recover some of these rulesets a few times, in short steps.

    :param rulesets: their definitions.
    :raises RuntimeError: if Java cannot.
    """
    # Drools' log would look as if this worker led.
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
                at = bridge.times.now(session)
                bridge.restore(session, packed(_some_events(at)))
                yield
                for each in _some_events(at):
                    bridge.assert_event(session, at, each.text)
                bridge.advance(session, at)
            finally:
                bridge.dispose(session)
            yield


def _some_events(at: int) -> list[Record]:
    # They have no key but meta, so that rules match none of them.
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
