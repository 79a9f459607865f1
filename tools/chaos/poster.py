"""Posts events to the workers, each until one of them has accepted it.

As a sender should: one after the other, with a key by which a repeated post
is known, and to another worker if one does not answer.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Sequence

from .broker import Broker
from .rulebook import POSTED

HOST = "127.0.0.1"
WITHIN = 3.0  # seconds for an answer
PAUSE = 0.05  # seconds before the next try
IDLE = 0.2  # seconds until the broker is asked again that had nothing
ACCEPTED = 202


class Poster(threading.Thread):
    """Hands the broker's events over to whichever worker takes them.

    :param ports: where the workers listen.
    :param every: seconds between two events.
    :param seed: decides who is asked.
    """

    def __init__(
        self, broker: Broker, ports: Sequence[int], every: float, seed: int
    ) -> None:
        super().__init__(name="chaos-poster", daemon=True)
        self._broker = broker
        self._ports = ports
        self._every = every
        self._dice = random.Random(f"posts {seed}")
        self._ends = threading.Event()

    def __enter__(self) -> Poster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()

    def run(self) -> None:
        """Post until the end."""
        while not self._ends.is_set():
            event = self._broker.take(POSTED)
            if event is None:
                self._ends.wait(IDLE)
                continue
            body = json.dumps(event)
            while not self._post(event["id"], body):
                if self._ends.wait(PAUSE):
                    return
            self._broker.acknowledge(event["id"])
            self._ends.wait(self._every)

    def _post(self, name: str, body: str) -> bool:
        client = http.client.HTTPConnection(
            HOST, self._dice.choice(self._ports), timeout=WITHIN
        )
        try:
            client.request("POST", "/", body, {"Idempotency-Key": name})
            return client.getresponse().status == ACCEPTED
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()
