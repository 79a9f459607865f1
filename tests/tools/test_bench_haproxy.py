"""Posts at a steady rate, and the settings of HAProxy that are compared."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rich")

from bench.haproxy import SETTINGS
from bench.steady import Stream
from rig.haproxy import find_binary

LIMIT = 60.0  # seconds


class Hook(http.server.BaseHTTPRequestHandler):
    """Refuses a post, drops one, and lets one wait."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        number = json.loads(body)["name"].rpartition("-")[2]
        if number == "1":
            self.connection.close()
            return
        if number == "2":
            time.sleep(1.0)
        self.send_response(503 if number == "3" else 200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_what_became_of_each_post(port: int) -> None:
    stream = Stream(port, 50.0, "s")
    deadline = time.monotonic() + LIMIT
    while len(stream.answers) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    answers = {each.name: each for each in stream.end()}
    bad = {name: each.status for name, each in answers.items()}
    assert bad.pop("s-1") == 0 and bad.pop("s-3") == 503
    assert set(bad.values()) == {200}
    assert answers["s-2"].seconds >= 1.0


@pytest.mark.parametrize("name", SETTINGS)
def test_haproxy_takes_each_setting(name: str, tmp_path: Path) -> None:
    binary = find_binary()
    if binary is None:
        pytest.skip("not installed: haproxy")
    config = tmp_path / "haproxy.cfg"
    config.write_text(SETTINGS[name], "utf-8")
    done = subprocess.run(
        [binary, "-c", "-f", str(config)],
        env={
            "EDA_BIND": "127.0.0.1:1",
            "EDA_W1": "127.0.0.1:2",
            "EDA_W2": "127.0.0.1:3",
            "EDA_W1_HTTP": "4",
            "EDA_W2_HTTP": "5",
        },
        capture_output=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
