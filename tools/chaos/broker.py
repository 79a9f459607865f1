"""Hands out events to the sources, and passes orders to the witnesses.

The broker lives with whoever does the faults, not with a worker, so it
survives all of them. A source asks for the next event over a Unix socket; one
with feedback gets the oldest that it has not acknowledged yet. Everything is
written down at once.

The protocol has a line of JSON for a question and one for its answer:
``{"take": SOURCE}`` gives an event or null, ``{"ack": ID}`` gives null, and
``{"witness": LIFE}`` turns the connection round: from then on the broker asks
and the worker answers.
"""

from __future__ import annotations

import contextlib
import json
import random
import socketserver
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable, Deque, Optional

from .rulebook import FEEDBACK, POISON, POSTED

Write = Callable[..., None]

KEPT = (FEEDBACK, POSTED)  # until they are acknowledged
ANSWER_TIMEOUT = 20.0  # seconds for a witness, on a busy machine
NAMESPACE = uuid.UUID("5b0a5f2e-6f1d-4d49-9b7c-0e3d5d1c8a55")

# Of a hundred draws; a pair takes two events and a window three.
SHARES = {"one": 60, "pair": 15, "window": 10, "three": 14, "play": 1}
PAIR_DELAY = 12  # events, at most, between the two of a pair
WINDOW_SIZE = 3  # events


class Producer:
    """Makes the events of one source: the same ones for the same seed.

    An event has its ``id``, its ``kind``, how long its action takes
    (``work``, seconds), and what it belongs to (``pair`` or ``group``).
    """

    def __init__(self, source: str, seed: int) -> None:
        self._source = source
        self._dice = random.Random(f"events {source} {seed}")
        self._count = 0
        self._groups = 0
        # What a pair or a window still lacks, and after how many events.
        self._owed: list[tuple[int, dict[str, Any]]] = []

    def next(self) -> dict[str, Any]:
        """The next event."""
        due = [each for each in self._owed if each[0] <= self._count]
        if due:
            self._owed.remove(due[0])
            return self._event(**due[0][1])
        (draw,) = self._dice.choices([*SHARES], [*SHARES.values()])
        if draw == "pair":
            return self._begin_pair()
        if draw == "window":
            return self._begin_window()
        if draw == "play":
            return self._event(kind=draw, work=self._work(0.5, 2.0))
        return self._event(kind=draw, work=self._work(0.0, 0.1))

    def poison(self) -> dict[str, Any]:
        """One that the server does not store; see :mod:`.ledger`."""
        return self._event(kind=POISON, work=0.0)

    def rest(self) -> list[dict[str, Any]]:
        """What is owed, so that every pair and window is complete."""
        owed, self._owed = self._owed, []
        return [self._event(**values) for _, values in owed]

    def _begin_pair(self) -> dict[str, Any]:
        self._groups += 1
        pair = f"{self._source}-pair-{self._groups}"
        later = self._count + self._dice.randint(1, PAIR_DELAY)
        second = {"kind": "second", "pair": pair, "work": self._work(0, 0.1)}
        self._owed.append((later, second))
        return self._event(kind="first", pair=pair, work=0.0)

    def _begin_window(self) -> dict[str, Any]:
        self._groups += 1
        group = f"{self._source}-group-{self._groups}"
        values = {"kind": "window", "group": group, "work": 0.0}
        for number in range(1, WINDOW_SIZE):
            self._owed.append((self._count + number * 2, dict(values)))
        return self._event(**values)

    def _work(self, least: float, most: float) -> float:
        return round(self._dice.uniform(least, most), 3)

    def _event(self, **values: Any) -> dict[str, Any]:
        self._count += 1
        name = f"{self._source}-{self._count}"
        # What is sent again has to be known as the same.
        return {"id": name, **values, "meta": {"uuid": mark_of(name)}}

    @property
    def names(self) -> list[str]:
        """The ids of all events that were made."""
        return [f"{self._source}-{n}" for n in range(1, self._count + 1)]


def mark_of(name: str) -> str:
    """The UUID that an event with this id has, each time it is sent."""
    return str(uuid.uuid5(NAMESPACE, name))


class Queue:
    """The events of one source, on their way to it.

    :param producer: makes them.
    :param keeps: whether an event stays until it was acknowledged.
    """

    def __init__(self, producer: Producer, keeps: bool) -> None:
        self._producer = producer
        self._keeps = keeps
        self._open: dict[str, dict[str, Any]] = {}  # in order of their age
        self._rest: Optional[Deque[dict[str, Any]]] = None
        self._is_poisoned = False

    def take(self) -> tuple[dict[str, Any] | None, bool]:
        """The next event, if any, and whether it was handed out before."""
        for event in self._open.values():
            return event, True
        fresh = self._next()
        if fresh is not None and self._keeps:
            self._open[fresh["id"]] = fresh
        return fresh, False

    def acknowledge(self, name: str) -> bool:
        """The event need not be sent again; false if that was known."""
        return self._open.pop(name, None) is not None

    def finish(self) -> None:
        """Hand out what completes pairs and windows, and then no more."""
        self._rest = deque(self._producer.rest())

    @property
    def is_empty(self) -> bool:
        """Whether all is handed out and, where that counts, acknowledged."""
        return self._rest is not None and not self._rest and not self._open

    @property
    def names(self) -> list[str]:
        """The ids of all events that there are."""
        return self._producer.names

    def poison(self) -> None:
        """The next new event cannot be stored."""
        self._is_poisoned = True

    def _next(self) -> dict[str, Any] | None:
        if self._is_poisoned:
            self._is_poisoned = False
            return self._producer.poison()
        if self._rest is None:
            return self._producer.next()
        return self._rest.popleft() if self._rest else None


class Witness:
    """The connection to one worker's recording."""

    def __init__(self, life: str, handler: Any) -> None:
        self.life = life
        self._handler = handler
        self._lock = threading.Lock()
        self.gone = threading.Event()

    def ask(self, **question: Any) -> dict[str, Any] | None:
        """Its answer; None if there is none in time, as when it is paused.

        After that it is not asked again: answers would be out of step.
        """
        with self._lock:
            if self.gone.is_set():
                return None
            with contextlib.suppress(OSError, ValueError):
                line = json.dumps(question).encode() + b"\n"
                self._handler.wfile.write(line)
                answer: dict[str, Any] = json.loads(
                    self._handler.rfile.readline()
                )
                return answer
            self.gone.set()
            return None


class Broker:
    """The queues and the witnesses, behind one socket.

    :param path: of the socket.
    :param seed: of the events.
    :param sources: their names.
    :param write: writes a row to the record: kind, then values.
    """

    def __init__(
        self, path: Path, seed: int, sources: Iterable[str], write: Write
    ) -> None:
        self.path = path
        self._write = write
        self._lock = threading.Lock()
        self._queues = {
            name: Queue(Producer(name, seed), keeps=name in KEPT)
            for name in sources
        }
        self._witnesses: dict[str, Witness] = {}
        broker = self

        class Handler(socketserver.StreamRequestHandler):
            """One connection."""

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    broker._serve(self)

        class Server(
            socketserver.ThreadingMixIn, socketserver.UnixStreamServer
        ):
            """A thread for each connection."""

            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

        self._server = Server(str(path), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="chaos-broker",
            daemon=True,
        )

    def __enter__(self) -> Broker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for witness in list(self._witnesses.values()):
            witness.gone.set()
        self._thread.join()

    def witness(self, life: str) -> Witness | None:
        """The connection to this worker, if it has one."""
        return self._witnesses.get(life)

    def finish(self) -> None:
        """From now on only complete what was begun."""
        with self._lock:
            for queue in self._queues.values():
                queue.finish()

    @property
    def is_empty(self) -> bool:
        """Whether all events were handed out, and acknowledged."""
        with self._lock:
            return all(queue.is_empty for queue in self._queues.values())

    def names(self) -> dict[str, list[str]]:
        """The ids of all events, by source."""
        with self._lock:
            return {
                source: queue.names for source, queue in self._queues.items()
            }

    def _serve(self, handler: Any) -> None:
        for line in handler.rfile:
            question: dict[str, Any] = json.loads(line)
            if "witness" in question:
                handler.connection.settimeout(ANSWER_TIMEOUT)
                witness = Witness(question["witness"], handler)
                self._witnesses[witness.life] = witness
                witness.gone.wait()
                return
            answer = self._answer(question)
            handler.wfile.write(json.dumps(answer).encode() + b"\n")

    def _answer(self, question: dict[str, Any]) -> dict[str, Any] | None:
        if "take" in question:
            return self.take(question["take"])
        self.acknowledge(question["ack"])
        return None

    def take(self, source: str) -> dict[str, Any] | None:
        """The next event of this source, if any."""
        with self._lock:
            event, again = self._queues[source].take()
            if event is not None:
                self._write(
                    "taken",
                    source=source,
                    id=event["id"],
                    event=event["kind"],
                    group=event.get("pair") or event.get("group"),
                    again=again,
                    at=time.monotonic_ns(),
                )
            return event

    def acknowledge(self, name: str) -> None:
        """An event need not be sent again."""
        with self._lock:
            source = name.rpartition("-")[0]
            if self._queues[source].acknowledge(name):
                self._write("acked", id=name, at=time.monotonic_ns())

    def poison(self, source: str) -> None:
        """The next event of this source cannot be stored."""
        with self._lock:
            self._queues[source].poison()
