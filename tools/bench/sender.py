"""A sender that has several addresses, in a process that does nothing else.

::

    python -m bench.sender --ports 5001 5002 --rate 200 --seconds 120 \\
        --out FILE

Posts have their times, and whichever connection is free takes the next. A
connection stays at its address until that refuses a post or leaves it without
an answer, then takes the next address, and tries the same post there. Each
try has a number of its own, so nothing that a worker remembers of an earlier
one hides it. Writes a JSON list with the fields of each :class:`Try`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from rig.process import ManagedProcess

from .setting import tools_env

CONNECTIONS = 48
TRY_WITHIN = 5.0  # seconds, for the answer to one try
PAUSE = 0.2  # seconds, once all addresses have been tried
GIVE_UP = 60.0  # seconds after a post was due
HOST = "127.0.0.1"
ACKNOWLEDGED = "acknowledged"
REFUSED = "refused"  # nothing was sent, or the answer was that it is refused
UNKNOWN = "unknown"  # sent, and whether it was taken was not answered
END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Try:
    """One post to one address. Times are in seconds since 1970."""

    number: int
    post: int
    due: float  # when the post was, at whichever try
    ended: float
    outcome: str
    why: str  # a status, or what went wrong


def read(path: Path) -> list[Try]:
    """What a sender has written."""
    return [Try(*each) for each in json.loads(path.read_text("utf-8"))]


def sender(
    ports: Sequence[int], rate: float, seconds: float, root: Path
) -> tuple[ManagedProcess, Path]:
    """The program above, not started, and the file that it writes."""
    out = root / "tries.json"
    argv = [sys.executable, "-m", "bench.sender", "--rate", str(rate)]
    argv += ["--seconds", str(seconds), "--out", str(out)]
    argv += ["--ports", *map(str, ports)]
    log = root / "sender.log"
    env = tools_env()
    return ManagedProcess(argv, name="sender", log=log, env=env), out


class Connection:
    """One at a time, to one of the addresses.

    :param first: the place of the address to begin with.
    """

    def __init__(self, ports: Sequence[int], first: int) -> None:
        self._ports = ports
        self._place = first % len(ports)
        self._line: (
            tuple[asyncio.StreamReader, asyncio.StreamWriter] | None
        ) = None

    def move_on(self) -> None:
        """Leave the address for the next one."""
        self.close()
        self._place = (self._place + 1) % len(self._ports)

    def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line[1].transport.abort()

    async def post(self, body: bytes) -> tuple[str, str]:
        """Post once: the outcome, and why."""
        try:
            reader, writer = await self._open()
        except (OSError, asyncio.TimeoutError) as error:
            return REFUSED, type(error).__name__
        head = "POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n"
        writer.write(head.format(len(body)).encode() + body)
        try:
            status, stays = await asyncio.wait_for(_answer(reader), TRY_WITHIN)
        except asyncio.TimeoutError:
            return UNKNOWN, "no answer in time"
        except (OSError, EOFError, ValueError) as error:
            return UNKNOWN, type(error).__name__
        if not stays:
            self.close()
        if status == 202:
            return ACKNOWLEDGED, str(status)
        return (REFUSED if status == 503 else UNKNOWN), str(status)

    async def _open(
        self,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._line is not None:
            reader, writer = self._line
            if reader.at_eof() or writer.is_closing():
                self.close()  # seen before anything is sent
        if self._line is None:
            port = self._ports[self._place]
            self._line = await asyncio.wait_for(
                asyncio.open_connection(HOST, port), TRY_WITHIN
            )
        return self._line


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the connection stays.

    :raises EOFError: if it ends before that.
    """
    head = await reader.readuntil(END)
    length = LENGTH.search(head)
    await reader.readexactly(int(length.group(1)) if length else 0)
    stays = length is not None and b"connection: close" not in head.lower()
    return int(head.split()[1]), stays


class Sender:
    """All connections.

    :param rate: posts per second.
    """

    def __init__(
        self, ports: Sequence[int], rate: float, seconds: float
    ) -> None:
        self._ports = ports
        self._rate = rate
        self._posts = int(rate * seconds)
        self._numbers = itertools.count()
        self._due: asyncio.Queue[tuple[int, float]] = asyncio.Queue()
        self._tries: list[Try] = []

    async def run(self, connections: int = CONNECTIONS) -> list[Try]:
        """Post all; every try, in the order in which they ended."""
        workers = [
            asyncio.ensure_future(self._work(Connection(self._ports, number)))
            for number in range(connections)
        ]
        began = time.time()
        for post in range(self._posts):
            due = began + post / self._rate
            await asyncio.sleep(max(due - time.time(), 0.0))
            self._due.put_nowait((post, due))
        joining = asyncio.ensure_future(self._due.join())
        await asyncio.wait(
            {joining, *workers}, return_when=asyncio.FIRST_COMPLETED
        )
        for each in (joining, *workers):
            each.cancel()
        for result in await asyncio.gather(*workers, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise RuntimeError("a connection failed") from result
        return self._tries

    async def _work(self, connection: Connection) -> None:
        with contextlib.closing(connection):
            while True:
                post, due = await self._due.get()
                await self._deliver(connection, post, due)
                self._due.task_done()

    async def _deliver(
        self, connection: Connection, post: int, due: float
    ) -> None:
        for tried in itertools.count(1):
            number = next(self._numbers)
            body = json.dumps({"number": number}).encode()
            outcome, why = await connection.post(body)
            now = time.time()
            self._tries.append(Try(number, post, due, now, outcome, why))
            if outcome == ACKNOWLEDGED or now > due + GIVE_UP:
                return
            connection.move_on()
            if tried % len(self._ports) == 0:
                await asyncio.sleep(PAUSE)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.sender")
    parser.add_argument("--ports", required=True, type=int, nargs="+")
    parser.add_argument("--rate", required=True, type=float)
    parser.add_argument("--seconds", required=True, type=float)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(argv)
    one = Sender(options.ports, options.rate, options.seconds)
    tries = asyncio.run(one.run())
    rows = [astuple(each) for each in tries]
    options.out.write_text(json.dumps(rows), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
