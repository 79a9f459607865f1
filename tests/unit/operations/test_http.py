"""What is served over HTTP, also to those who mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import statistics
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from observed import Observed, ask, served

from ansible_rulebook.ha.operations import http as ours
from ansible_rulebook.ha.operations.http import HttpServer
from ansible_rulebook.ha.operations.metrics import Metrics
from ansible_rulebook.ha.operations.view import ClusterView, TermView

CHECKS = ("/leader", "/follower", "/livez", "/readyz")
PATHS = (*CHECKS, "/", "/status", "/history", "/metrics", "/page.js")
LIMIT = 60.0  # seconds


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/leader", {"leads": True}),
        ("/follower", {"can_take_over": True}),
        ("/livez", {"is_alive": True}),
        ("/readyz", {"rulesets_up": True, "in_session": True}),
    ],
)
def test_a_check_is_200_only_while_it_holds(
    path: str, values: dict[str, bool]
) -> None:
    worker = Observed(is_alive=False)
    with served(worker) as server:
        assert ask(server, path).status == 503
        worker.set(**values)
        assert ask(server, path).status == 200
        for name in values:
            worker.set(**values)
            worker.set(**{name: False})
            assert ask(server, path).status == 503


def test_a_leader_that_drains_is_no_leader_for_clients() -> None:
    worker = Observed(leads=True, role="leader", state="leading")
    with served(worker) as server:
        assert ask(server, "/leader").status == 200
        worker.set(state="draining")
        assert ask(server, "/leader").status == 503
        assert ask(server, "/livez").status == 200


@pytest.mark.parametrize("path", PATHS)
def test_get_head_and_options_have_the_same_status(path: str) -> None:
    with served(Observed()) as server:
        got = ask(server, path)
        head = ask(server, path, "HEAD")
        options = ask(server, path, "OPTIONS")
        assert got.status == head.status == options.status
        assert got.status == (503 if path in CHECKS[:2] else got.status)
        assert got.body and not head.body
        assert head.headers["Content-Type"] == got.headers["Content-Type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_nothing_can_be_changed(method: str) -> None:
    with served(Observed()) as server:
        for path in PATHS:
            refused = ask(server, path, method)
            assert refused.status == 405
            assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_http_1_0_is_answered_and_closed() -> None:
    with served(Observed(is_alive=True)) as server:
        told = talk(server, b"GET /livez HTTP/1.0\r\n\r\n")
    assert told.startswith(b"HTTP/1.0 200 OK\r\n")
    assert json.loads(told.partition(b"\r\n\r\n")[2])["worker_id"] == "w1"


def test_a_connection_can_be_used_again() -> None:
    with served(Observed()) as server:
        connection = http.client.HTTPConnection(server.address, timeout=20)
        with contextlib.closing(connection):
            used = set()
            for path in PATHS:
                connection.request("GET", path)
                connection.getresponse().read()
                used.add(connection.sock.getsockname())
            assert len(used) == 1


def test_status_tells_all_and_no_secret() -> None:
    with served(Observed(term=7, leads=True)) as server:
        told = ask(server, "/status").json()
    assert told["version"] == 1
    assert told["worker"]["term"] == 7
    assert "dsn" not in json.dumps(told).lower()


def test_history_tells_the_terms() -> None:
    view = ClusterView(terms=(TermView(3, "w2", 5.0, why_ended="killed"),))
    with served(Observed(), look_at_cluster=lambda: view) as server:
        terms = ask(server, "/history").json()["terms"]
    assert [(each["term"], each["why_ended"]) for each in terms] == [
        (3, "killed")
    ]


def test_history_may_come_from_a_coroutine() -> None:
    async def look() -> ClusterView:
        return ClusterView(terms=(TermView(3, "w2", 5.0),))

    with served(Observed(), look_at_cluster=look) as server:
        assert ask(server, "/history").json()["terms"][0]["worker"] == "w2"


def test_a_database_that_hangs_holds_up_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ours, "ANSWER_WITHIN", 0.5)
    for_ever = threading.Event()

    def hang() -> ClusterView:
        for_ever.wait()
        return ClusterView()

    with served(Observed(), look_at_cluster=hang) as server:
        answers: list[int] = []
        asking = [
            threading.Thread(
                target=lambda: answers.append(ask(server, "/history").status)
            )
            for _ in range(10)
        ]
        for each in asking:
            each.start()
        assert ask(server, "/livez").status == 200
        assert ask(server, "/").status == 200
        for each in asking:
            each.join()
        assert answers == [503] * 10
        names = [each.name for each in threading.enumerate()]
        assert names.count("ha-http-ask") == 1  # however many ask
        for_ever.set()


def test_a_snapshot_that_fails_is_503(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> Any:
        raise ValueError("not now")

    with served(fail) as server:
        for path in (*CHECKS, "/status", "/"):
            assert ask(server, path).status == 503
    assert "not now" in caplog.text


def test_it_answers_in_time_while_the_loop_is_blocked() -> None:
    async def block() -> list[float]:
        loop = asyncio.get_running_loop()
        with served(Observed(), loop=loop) as server:
            ask(server, "/livez")
            asking: list[float] = []

            def measure() -> None:
                for _ in range(60):
                    began = time.perf_counter()
                    assert ask(server, "/livez").status == 200
                    asking.append(time.perf_counter() - began)
                    time.sleep(0.02)

            thread = threading.Thread(target=measure)
            thread.start()
            while thread.is_alive():
                time.sleep(0.1)  # noqa: ASYNC251
        return asking

    took = asyncio.run(block())
    assert len(took) == 60
    assert statistics.median(took) < 0.05


def test_the_lag_of_a_blocked_loop_is_told() -> None:
    class Lag(Metrics):
        most = 0.0

        def loop_lag(self, seconds: float) -> None:
            self.most = max(self.most, seconds)

    lag = Lag()

    async def block() -> None:
        loop = asyncio.get_running_loop()
        with served(Observed(), metrics=lag, loop=loop):
            deadline = time.monotonic() + LIMIT
            while lag.most < 1 and time.monotonic() < deadline:
                time.sleep(0.1)  # noqa: ASYNC251

    asyncio.run(block())
    assert lag.most >= 1


# -- abuse ---------------------------------------------------------------


def talk(server: HttpServer, *parts: bytes) -> bytes:
    """Say something, and hear what comes until the connection ends."""
    host, _, port = server.address.rpartition(":")
    heard = b""
    with socket.create_connection((host, int(port)), LIMIT) as client:
        try:
            for part in parts:
                client.sendall(part)
            while True:
                part = client.recv(65536)
                if not part:
                    break
                heard += part
        except ConnectionError:
            pass
    return heard


def is_well(server: HttpServer) -> None:
    began = time.monotonic()
    assert ask(server, "/livez").status == 200
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "said",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\x1b[31m: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"x" * 64 * 1024 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 1024 * 1024 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 200_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 600,
        b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 99_999,
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 99_999,
    ],
)
def test_malformed_and_huge_requests_end(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), served(Observed()) as server:
        heard = talk(server, said)
        # Nothing, when it was cut off in the middle.
        assert not heard or heard.split(b" ")[1] in (b"400", b"405"), heard
        assert len(heard) < 32 * 1024
        is_well(server)
    # Strangers must not fill the log.
    assert not [
        each for each in caplog.records if each.levelno >= logging.INFO
    ]


def test_500_idle_connections_keep_nobody_out() -> None:
    with served(Observed()) as server, contextlib.ExitStack() as stack:
        host, _, port = server.address.rpartition(":")
        idle = [
            stack.enter_context(
                socket.create_connection((host, int(port)), LIMIT)
            )
            for _ in range(500)
        ]
        is_well(server)
        assert sum(map(was_ended, idle)) >= 500 - ours.LIMITS.connections
        is_well(server)


def was_ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_slow_client_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "LIMITS", replace(ours.LIMITS, within=1.0))
    with served(Observed()) as server:
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), LIMIT) as client:
            began = time.monotonic()
            with pytest.raises(ConnectionError):
                for each in b"GET /livez HTTP/1.1\r\nX: " + b"x" * 10_000:
                    client.sendall(bytes([each]))
                    time.sleep(0.05)
                    if time.monotonic() - began > LIMIT:
                        break
        is_well(server)


def test_a_page_that_does_not_read_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ours, "LIMITS", replace(ours.LIMITS, within=1.0))
    monkeypatch.setattr(ours, "SWEEP_EVERY", 0.01)
    monkeypatch.setattr(ours, "VIEW_FRESH_FOR", 0.0)
    count = 0

    def look() -> ClusterView:  # much that is new, each time
        nonlocal count
        count += 1
        terms = tuple(
            TermView(count + each, "w" * 200, 1.0) for each in range(50)
        )
        return ClusterView(terms=terms)

    with served(Observed(), look_at_cluster=look) as server:
        host, _, port = server.address.rpartition(":")
        with contextlib.closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_for(lambda: server._streams == 1)
            wait_for(lambda: server._streams == 0, limit=60)
        is_well(server)


def test_only_so_many_pages_are_kept_up_to_date() -> None:
    with served(Observed()) as server, contextlib.ExitStack() as stack:
        for _ in range(ours.MOST_STREAMS):
            connection = http.client.HTTPConnection(server.address, timeout=9)
            stack.callback(connection.close)
            connection.request("GET", "/events")
            assert connection.getresponse().status == 200
        assert ask(server, "/events").status == 503
        stack.close()
        wait_for(lambda: server._streams == 0)


def wait_for(condition: Any, limit: float = LIMIT) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_page_allows_nothing_from_elsewhere() -> None:
    with served(Observed()) as server:
        page = ask(server, "/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert b"http://" not in page.body.replace(b"http://www.w3.org", b"")
    assert b"https://" not in page.body
