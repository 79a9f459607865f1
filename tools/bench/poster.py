"""Clients of a webhook, in a process that does nothing else.

::

    python -m bench.poster --port 5000 --posts 500 --clients 4
    python -m bench.poster --port 5000 --posts 500 --clients 64 --rate 100

Without a rate each client posts as soon as it has its answer. With one, posts
have their times, and whichever client is free takes the next: how long it
took is counted from when it was due, so that one that is late because others
wait counts as well. What is posted tells when it was due, too, under ``at``
in seconds since 1970. Prints a :class:`Posted` as JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .setting import tools_env

TIMEOUT = 120.0  # seconds, of all posts
OK = b"HTTP/1.1 20"  # 200, or 202
END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Posted:
    """What came of so many posts."""

    began: float  # seconds since 1970
    seconds: float  # in all
    delays: Sequence[float]  # seconds, of each

    @property
    def rate(self) -> float:
        return len(self.delays) / self.seconds


def post(
    port: int, posts: int, clients: int, rate: float | None = None
) -> Posted:
    """Run the program above."""
    argv = [sys.executable, "-m", "bench.poster", "--port", str(port)]
    argv += ["--posts", str(posts), "--clients", str(clients)]
    argv += ["--rate", str(rate)] if rate else []
    done = subprocess.run(
        argv,
        env=tools_env(),
        stdout=subprocess.PIPE,
        timeout=TIMEOUT,
        check=True,
    )
    return Posted(**json.loads(done.stdout))


class Poster:
    """All clients."""

    def __init__(self, port: int, posts: int, rate: float | None) -> None:
        self._port = port
        self._posts = posts
        self._rate = rate
        self._numbers = itertools.count()
        self._turn = threading.Lock()
        self._idle: list[socket.socket] = []
        self._delays: list[float] = []
        self._failed: list[BaseException] = []

    def run(self, clients: int) -> Posted:
        """Post all, and wait for the answers.

        :raises RuntimeError: if one was not answered, or with an error.
        """
        threads = [threading.Thread(target=self._work) for _ in range(clients)]
        self._began = time.perf_counter()
        self._epoch = time.time() - self._began
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed:
            raise RuntimeError("a post failed") from self._failed[0]
        took = time.perf_counter() - self._began
        return Posted(self._began + self._epoch, took, self._delays)

    def _work(self) -> None:
        try:
            while not self._failed:
                with self._turn:
                    number = next(self._numbers)
                    if number >= self._posts:
                        return
                    due = self._wait(number)
                self._post(number, due)
                self._delays.append(time.perf_counter() - due)
        except (OSError, RuntimeError) as error:
            self._failed.append(error)

    def _wait(self, number: int) -> float:
        """Until it is due; when that was."""
        if self._rate is None:
            return time.perf_counter()
        due = self._began + number / self._rate
        time.sleep(max(due - time.perf_counter(), 0.0))
        return due

    def _post(self, number: int, due: float) -> None:
        content = {"number": number, "at": due + self._epoch}
        body = json.dumps(content).encode()
        head = "POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n"
        # The one that was used last: no more connections than are needed.
        try:
            line = self._idle.pop()
        except IndexError:
            line = socket.create_connection(("127.0.0.1", self._port))
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(head.format(len(body)).encode() + body)
        answer = b""
        while not _is_whole(answer):
            more = line.recv(4096)
            answer += more
            if not more or not answer.startswith(OK[: len(answer)]):
                raise RuntimeError(f"answered {answer!r}")
        self._idle.append(line)


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(END)
    length = LENGTH.search(head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.poster")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--posts", required=True, type=int)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float)
    options = parser.parse_args(argv)
    poster = Poster(options.port, options.posts, options.rate)
    print(json.dumps(asdict(poster.run(options.clients))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
