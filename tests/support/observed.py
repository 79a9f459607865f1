"""A worker to look at, and an HTTP server that shows it."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ansible_rulebook.ha.operations.http import HttpServer
from ansible_rulebook.ha.operations.listen import Listen, bind
from ansible_rulebook.ha.operations.metrics import Metrics
from ansible_rulebook.ha.operations.snapshot import Snapshot

UUID = "0d8f3a52-7d6e-4b6c-8f0e-5f2f5f0c9a11"
NOW = 1_800_000_000.0


class Observed:
    """What the server is told of the worker; tests change it."""

    def __init__(self, **values: Any) -> None:
        self.now = Snapshot(
            ha_uuid=UUID,
            worker_id="w1",
            version="0.1.0",
            host="host-1",
            pid=4711,
            started_at=NOW,
            since=NOW,
            lease_duration=15.0,
        )
        self.set(**values)

    def set(self, **values: Any) -> None:
        self.now = replace(self.now, **values)

    def __call__(self) -> Snapshot:
        return self.now


@contextlib.contextmanager
def served(take_snapshot: Any, **options: Any) -> Iterator[HttpServer]:
    """A server at a free port of this machine."""
    sockets = bind(Listen("127.0.0.1", 0), "--ha-http-listen")
    metrics = options.pop("metrics", Metrics())
    server = HttpServer(sockets, take_snapshot, metrics, **options)
    server.start()
    try:
        yield server
    finally:
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10


class Answer:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


def ask(server: HttpServer, path: str, method: str = "GET") -> Answer:
    """One request, on a connection of its own."""
    connection = http.client.HTTPConnection(server.address, timeout=20)
    try:
        connection.request(method, path)
        return Answer(connection.getresponse())
    finally:
        connection.close()
