"""One process that wants a lock, by the means that its first word names.

::

    python -m bench.peers.contender redis --at 127.0.0.1:6379 --ttl 15

Each kind uses its library as the library's own examples do. Prints
``asking`` before it waits, and ``locked NANOSECONDS`` of the machine's
monotonic clock once it has the lock. SIGTERM has it release the lock and end;
the end of its standard input ends it at once, so it never outlives the bench.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from typing import Any, Callable

RENEWALS = 3  # in the time to live; each peer's documentation advises so


def say_locked() -> None:
    """The lock is ours: stay until a signal comes."""
    print("locked", time.monotonic_ns(), flush=True)
    while True:
        signal.pause()


def renew(every: float, once: Callable[[], object]) -> None:
    """Call `once` for ever, in a thread; who cannot renew is no leader."""

    def work() -> None:
        while True:
            time.sleep(every)
            try:
                once()
            except Exception as error:
                print("lost", error, flush=True)
                os._exit(1)

    threading.Thread(target=work, name="renew", daemon=True).start()


def kazoo(options: argparse.Namespace) -> None:
    """kazoo's Election; the time to live is that of the session."""
    from kazoo.client import KazooClient

    given = {} if options.ttl is None else {"timeout": options.ttl}
    client = KazooClient(hosts=options.at, **given)
    client.start()
    print("asking", flush=True)
    try:
        client.Election(f"/{options.lock}").run(say_locked)
    finally:
        client.stop()
        client.close()


def redis(options: argparse.Namespace) -> None:
    """The lock of redis-py, renewed by a thread if it has a time to live."""
    from redis import Redis

    host, port = options.at.split(":")
    client = Redis(host=host, port=int(port))
    # Its token is the thread's own otherwise, so no other could renew it.
    lock = client.lock(options.lock, timeout=options.ttl, thread_local=False)
    print("asking", flush=True)
    with lock:
        if options.ttl is not None:
            renew(options.ttl / RENEWALS, lock.reacquire)
        say_locked()


def etcd(options: argparse.Namespace) -> None:
    """etcd's own election, whose lease a thread keeps alive.

    By its gateway to HTTP; the clients in Python speak to that, too.
    """

    def ask(path: str, **values: object) -> Any:
        request = urllib.request.Request(
            f"http://{options.at}/v3/{path}",
            data=json.dumps(values).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    lease = ask("lease/grant", TTL=round(options.ttl))["ID"]
    renew(options.ttl / RENEWALS, lambda: ask("lease/keepalive", ID=lease))
    print("asking", flush=True)
    won = ask(
        "election/campaign",
        name=encoded(options.lock),
        lease=lease,
        value=encoded(str(os.getpid())),
    )
    try:
        say_locked()
    finally:
        ask("election/resign", leader=won["leader"])


def tooz(options: argparse.Namespace) -> None:
    """The lock of OpenStack's tooz, by its driver for PostgreSQL."""
    from tooz import coordination

    member = str(os.getpid()).encode()
    coordinator = coordination.get_coordinator(options.at, member)
    coordinator.start()
    lock = coordinator.get_lock(options.lock.encode())
    print("asking", flush=True)
    with lock:
        say_locked()


def pals(options: argparse.Namespace) -> None:
    """PALs: PostgreSQL's advisory locks by way of SQLAlchemy."""
    from pals import Locker

    lock = Locker("bench", options.at).lock(options.lock)
    print("asking", flush=True)
    while not lock.acquire():  # it gives up after 30 s
        pass
    try:
        say_locked()
    finally:
        lock.release()


def poll(options: argparse.Namespace) -> None:
    """pg_try_advisory_lock() every few seconds."""
    import psycopg

    from ..rivals import poll as try_often

    with psycopg.connect(options.at, autocommit=True) as connection:
        print("asking", flush=True)
        try_often(connection, 1, options.interval)
        say_locked()


def wait(options: argparse.Namespace) -> None:
    """A session that sleeps in pg_advisory_lock(): the limit."""
    import psycopg

    with psycopg.connect(options.at, autocommit=True) as connection:
        print("asking", flush=True)
        connection.execute("SELECT pg_advisory_lock(1)")
        say_locked()


KINDS: dict[str, Callable[[argparse.Namespace], None]] = {
    each.__name__: each
    for each in (etcd, kazoo, pals, poll, redis, tooz, wait)
}


def end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.peers.contender")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--at", required=True, help="DSN, URL or host:port")
    parser.add_argument("--lock", default="bench", help="its name")
    parser.add_argument("--ttl", type=float, help="seconds")
    parser.add_argument("--interval", type=float, default=5.0)
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=end_with_stdin, daemon=True).start()
    KINDS[options.kind](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
