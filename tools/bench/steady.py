"""Posts at a steady rate, and what became of each.

A client of its own sends each post, so that one that waits holds up no other.
Nothing is sent twice: what failed has failed.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass

TIMEOUT = 30.0  # seconds for an answer


@dataclass(frozen=True)
class Answered:
    """One post. Times are of ``time.monotonic()``."""

    name: str
    sent: float
    seconds: float
    status: int
    """0 if the line was closed instead."""

    @property
    def is_ok(self) -> bool:
        return self.status == 200


class Stream(threading.Thread):
    """Posts ``{"stream": name, "name": ...}`` from now until it is ended.

    :param port: of this machine.
    :param rate: posts per second.
    :param name: unlike that of other streams; each post's name begins so.
    """

    def __init__(self, port: int, rate: float, name: str) -> None:
        super().__init__(name=f"stream-{name}", daemon=True)
        self._port = port
        self._every = 1.0 / rate
        self._name = name
        self._over = threading.Event()
        self._clients: list[threading.Thread] = []
        self._answers: list[Answered] = []
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        number = 0
        while not self._over.wait(
            max(began + number * self._every - time.monotonic(), 0.0)
        ):
            name = f"{self._name}-{number}"
            client = threading.Thread(target=self._post, args=(name,))
            self._clients.append(client)
            client.start()
            number += 1

    def _post(self, name: str) -> None:
        body = json.dumps({"stream": self._name, "name": name})
        sent = time.monotonic()
        client = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=TIMEOUT
        )
        try:
            client.request("POST", "/", body)
            status = client.getresponse().status
        except (http.client.HTTPException, OSError):
            status = 0
        finally:
            client.close()
        seconds = time.monotonic() - sent
        self._answers.append(Answered(name, sent, seconds, status))

    @property
    def answers(self) -> list[Answered]:
        """Those that have come."""
        return list(self._answers)

    def stop(self) -> None:
        """Post no more. Waits for nothing."""
        self._over.set()

    def end(self) -> list[Answered]:
        """Post no more, wait for what is under way, and return all."""
        self.stop()
        self.join()
        for client in self._clients:
            client.join()
        return self.answers
