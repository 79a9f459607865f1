"""The clients of the webhook, and the network that is made longer."""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("rich")

from bench.poster import Poster, post
from bench.webhook import percentile
from rig.proxy import DistantProxy

ONE_WAY = 0.05  # seconds
PIECES = 20


class Hook(http.server.BaseHTTPRequestHandler):
    """Answers as upstream's webhook does; the tenth post with a delay."""

    protocol_version = "HTTP/1.1"
    status = 200
    wait = 1.0  # second
    content = b""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if json.loads(body)["number"] == 10:
            time.sleep(self.wait)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        for byte in self.content:  # each in a packet of its own
            self.wfile.write(bytes([byte]))

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[type[Hook]]:
    class Own(Hook):
        port = 0

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        server.daemon_threads = True
        Own.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Own
        server.shutdown()


def test_a_client_posts_again_when_it_has_its_answer(hook):
    posted = post(hook.port, posts=20, clients=2)
    assert len(posted.delays) == 20
    assert max(posted.delays) >= hook.wait
    assert posted.rate == 20 / posted.seconds


def test_an_answer_has_come_when_its_content_has(hook):
    hook.status, hook.content = 202, b'{"status": "accepted"}'
    posted = Poster(hook.port, 20, rate=None).run(clients=1)
    assert len(posted.delays) == 20


def test_a_post_that_is_late_since_others_wait_counts_from_its_time(hook):
    posted = Poster(hook.port, 40, rate=200.0).run(clients=1)
    late = sum(delay > hook.wait / 2 for delay in posted.delays)
    assert late > 20  # all that were due meanwhile, and not one


def test_others_go_on_while_one_waits(hook):
    posted = Poster(hook.port, 40, rate=200.0).run(clients=8)
    assert sum(delay > hook.wait / 2 for delay in posted.delays) == 1


def test_an_answer_that_is_an_error_is_no_answer(hook):
    hook.status = 500
    with pytest.raises(RuntimeError, match="a post failed"):
        Poster(hook.port, 5, rate=None).run(clients=2)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        (range(1, 101), 99, 99),
        (range(1, 101), 50, 50),
        (range(1, 1001), 99, 990),
        ([7], 99, 7),
        ([3, 1, 2], 50, 2),
    ],
)
def test_a_percentile_is_one_of_the_values(values, percent, expected):
    assert percentile(list(values), percent) == expected


def test_what_is_far_away_takes_longer_but_comes_side_by_side():
    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(100):
                self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = ("127.0.0.1", server.server_address[1])
        with DistantProxy(address, one_way=ONE_WAY) as way:
            line = socket.create_connection((way.host, way.port))
            with line, line.makefile("rb") as answers:
                began = time.monotonic()
                for _ in range(PIECES):
                    line.sendall(b"x")
                    time.sleep(0.002)  # each a piece of its own
                assert answers.read(1) == b"x"
                first = time.monotonic() - began
                assert answers.read(PIECES - 1) == b"x" * (PIECES - 1)
                last = time.monotonic() - began
        server.shutdown()
    assert first >= 2 * ONE_WAY
    assert last < PIECES * ONE_WAY
