"""The workers' database, whatever server it is on."""

from __future__ import annotations

import abc
import contextlib
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from rig.proxy import Proxy
from rig.server import Server

ROLE = "chaos"  # not a superuser, who could use reserved connections
DATABASE = "chaos"
HOST = "127.0.0.1"
PROBE_EVERY = 0.005  # seconds
PROBE_FOR = 60.0  # seconds
WRITE = "SELECT pg_logical_emit_message(true, 'chaos', '')"
HAMMERS = 2  # threads that take each connection that gets free
HAMMER_PAUSE = 0.002  # seconds


class Access(abc.ABC):
    """What workers and faults need of it."""

    def __init__(self) -> None:
        self.passwords = [secrets.token_urlsafe(18)]
        self._folder = tempfile.TemporaryDirectory(prefix="chaos-servers-")
        self._passfile = Path(self._folder.name, "passfile")
        self._probe: Probe | None = None
        self.write_password()

    def close(self) -> None:
        """Leave nothing behind."""
        self._folder.cleanup()

    @property
    @abc.abstractmethod
    def primary(self) -> Server:
        """The server that takes writes."""

    @property
    @abc.abstractmethod
    def ports(self) -> list[int]:
        """Where servers listen, of which one is the primary."""

    def proxies(self) -> list[Proxy]:
        """One before each server, for one worker; none if not proxied."""
        return []

    def dsn(self, proxies: list[Proxy]) -> str:
        """The way to the servers, as a worker is given it."""
        ports = [proxy.port for proxy in proxies] or self.ports
        return make_conninfo(
            host=",".join([HOST] * len(ports)),
            port=",".join(map(str, ports)),
            user=ROLE,
            passfile=str(self._passfile),
            dbname=DATABASE,
        )

    def terminate(self, worker: str) -> int:
        """End the session in which this worker holds or awaits the lock."""
        return self.primary.terminate(f"eda-ha:%:{worker}:%")

    def terminate_writer(self, worker: str) -> int:
        """End the session with which this worker keeps the state."""
        return self.primary.terminate(f"eda-state:%:{worker}:%")

    @contextlib.contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Let nobody write to a table. Gets the lock before it goes on."""
        with (
            psycopg.connect(self.database_dsn) as session,
            session.transaction(),
        ):
            session.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
            yield

    def terminate_all(self) -> int:
        """End every session of every worker."""
        rows = self.primary.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = %s",
            (ROLE,),
        )
        return len(rows)

    def back_since(self) -> int:
        """When a primary could be reached again (monotonic clock, ns)."""
        assert self._probe is not None
        return self._probe.wait()

    @property
    def database_dsn(self) -> str:
        """The way to the workers' database for the administrator."""
        return make_conninfo(self.primary.dsn, dbname=DATABASE)

    def take_connections(self) -> Filling:
        """Take every connection that a worker could get."""
        dsn = self.database_dsn
        return Filling(
            make_conninfo(dsn, user=ROLE, password=self.passwords[-1])
        )

    def change_password(self) -> None:
        """Give the role another password; see :meth:`write_password`."""
        self.passwords.append(secrets.token_urlsafe(18))
        self._alter_role(f"PASSWORD '{self.passwords[-1]}'")

    def write_password(self) -> None:
        """Put the password where the workers look for it."""
        new = self._passfile.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(f"*:*:*:{ROLE}:{self.passwords[-1]}\n", "utf-8")
        new.replace(self._passfile)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Let no transaction of a new session of the workers write."""
        self._alter_role("SET default_transaction_read_only = on")
        yield
        self._alter_role("RESET default_transaction_read_only")

    def _alter_role(self, how: str) -> None:
        # The password needs no quotes.
        self.primary.query(f"ALTER ROLE {ROLE} {how}")

    def _create_database(self) -> None:
        # A literal has no parameters here, and the token needs no quotes.
        self.primary.query(
            f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self.passwords[-1]}'"
        )
        self.primary.query(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")


class Probe(threading.Thread):
    """Asks a server until it is a primary that takes connections.

    :param stores: and until a transaction is durable there, which may have
        to wait for a standby.
    """

    def __init__(self, dsn: str, stores: bool = False) -> None:
        super().__init__(name="chaos-probe", daemon=True)
        self._dsn = dsn
        self._stores = stores
        self._since: int | None = None
        self.start()

    def run(self) -> None:
        """Ask until the answer is yes, or for a minute."""
        deadline = time.monotonic() + PROBE_FOR
        while time.monotonic() < deadline:
            asked = time.monotonic_ns()
            with (
                contextlib.suppress(psycopg.Error),
                psycopg.connect(
                    self._dsn, autocommit=True, connect_timeout=2
                ) as session,
            ):
                row = session.execute("SELECT pg_is_in_recovery()").fetchone()
                if row is not None and not row[0]:
                    if self._stores:
                        session.execute(WRITE)
                        asked = time.monotonic_ns()
                    self._since = asked
                    return
            time.sleep(PROBE_EVERY)

    def wait(self) -> int:
        """When it was asked what it answered with yes (ns).

        Or when it had stored something, if it had to.
        """
        self.join()
        return time.monotonic_ns() if self._since is None else self._since


class Filling:
    """Connections that leave no room for others, until closed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._closing = threading.Event()
        self._taken: list[psycopg.Connection[Any]] = []
        self._full = threading.Event()
        self._threads = [
            threading.Thread(target=self._hammer, daemon=True)
            for _ in range(HAMMERS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_full(self, timeout: float = 30.0) -> None:
        """Wait until no connection is left.

        :raises TimeoutError: if there still is one.
        """
        if not self._full.wait(timeout):
            raise TimeoutError("the server still takes connections")

    def __enter__(self) -> Filling:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        for connection in self._taken:
            connection.close()

    def _hammer(self) -> None:
        while not self._closing.is_set():
            try:
                self._taken.append(
                    psycopg.connect(self._dsn, application_name="filling")
                )
            except psycopg.OperationalError:
                self._full.set()
                time.sleep(HAMMER_PAUSE)
