"""The server that a cluster works with, and a standby that takes its place."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from rig.proxy import Proxy, server_address
from rig.server import EmbeddedRig

from .volume import Volume

ROLE = "chaos"  # not a superuser, who could use reserved connections
DATABASE = "chaos"
HOST = "127.0.0.1"
MAX_CONNECTIONS = 60
PROBE_EVERY = 0.005  # seconds
PROBE_FOR = 60.0  # seconds
LONGEST_COMMIT = 100_000  # µs, the most that the server takes for a delay
LOG_SEGMENTS = 30  # more than a volume has room for
HAMMERS = 2  # threads that take each connection that gets free
HAMMER_PAUSE = 0.002  # seconds
SETTINGS: dict[str, str | int | float | bool] = {
    "max_connections": MAX_CONNECTIONS,
    "fsync": True,  # else no commit waits for the disk, and none for long
    # A volume of ours has room for that.
    "min_wal_size": "32MB",
    "max_wal_size": "64MB",
    # A standby comes back at once when its primary does.
    "wal_retrieve_retry_interval": "100ms",
}


class Servers:
    """A primary, and perhaps a standby of it, in two places.

    Places keep their ports when another server is put there.

    :param standby: whether there is one.
    :param proxied: whether a proxy stands before each place, one for each
        worker. What it hands on comes a moment late, and not equally late
        for all.
    :param synchronous: whether a commit waits for the standby, without which
        a promotion may lose it: that is PostgreSQL's promise, not ours.
    :param own_volume: whether the primary's data is on a volume of its own.
    """

    def __init__(
        self,
        standby: bool,
        proxied: bool,
        synchronous: bool,
        own_volume: bool = False,
    ) -> None:
        self.passwords = [secrets.token_urlsafe(18)]
        self._folder = tempfile.TemporaryDirectory(prefix="chaos-servers-")
        self._passfile = Path(self._folder.name, "passfile")
        self.write_password()
        self.volume = Volume() if own_volume else None
        self._proxied = proxied
        self._synchronous = synchronous
        self._places: list[EmbeddedRig] = []
        self._proxies: list[Proxy] = []
        self._primary = 0
        self._probe: Probe | None = None
        try:
            self._places.append(
                EmbeddedRig(
                    dict(SETTINGS),
                    folder=self.volume.path / "server"
                    if self.volume
                    else None,
                )
            )
            self._create_database()
            if standby:
                self._places.append(self._make_standby())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing behind."""
        for proxy in self._proxies:
            proxy.close()
        for server in self._places:
            server.close()
        if self.volume is not None:
            self.volume.close()
        self._folder.cleanup()

    @property
    def primary(self) -> EmbeddedRig:
        """The server that takes writes."""
        return self._places[self._primary]

    def proxies(self) -> list[Proxy]:
        """One before each place, for one worker; none if not proxied."""
        if not self._proxied:
            return []
        made = [Proxy(server_address(each.dsn)) for each in self._places]
        self._proxies += made
        return [proxy.start() for proxy in made]

    def dsn(self, proxies: list[Proxy]) -> str:
        """The way to the servers, as a worker is given it."""
        ports = [each.embedded.port for each in self._places]
        if proxies:
            ports = [proxy.port for proxy in proxies]
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

    def stop(self, mode: str) -> None:
        """Stop the primary in this mode."""
        self.primary.stop(mode)

    def start(self) -> None:
        """Start it again; see :meth:`back_since`."""
        self._probe = Probe(self.primary.dsn)
        self.primary.start()

    def promote(self, mode: str) -> None:
        """Stop the primary in this mode, and let the standby take over.

        Returns once it has; see :meth:`rebuild` and :meth:`back_since`.
        """
        standby = self._places[1 - self._primary]
        self.primary.stop(mode)
        self._probe = Probe(standby.dsn)
        standby.promote()
        self._primary = 1 - self._primary

    def back_since(self) -> int:
        """When a primary could be reached again (monotonic clock, ns)."""
        assert self._probe is not None
        return self._probe.wait()

    def rebuild(self) -> None:
        """Put a new standby where the primary was that is gone."""
        place = 1 - self._primary
        port = self._places[place].embedded.port
        self._places[place].close()
        self._places[place] = self._make_standby(port)

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

    @contextlib.contextmanager
    def slow_commits(self) -> Iterator[None]:
        """Have each commit take its time, as on a disk that is slow."""
        self._set("commit_siblings", "0")
        self._set("commit_delay", str(LONGEST_COMMIT))
        yield
        self._set("commit_delay", "0")

    def fill_log(self) -> None:
        """Write transaction log until the server ends for want of room.

        The volume has to be full.
        """
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(LOG_SEGMENTS):
                self.primary.query(
                    "SELECT pg_logical_emit_message(false, 'chaos', ''),"
                    " pg_switch_wal()"
                )

    def recover(self) -> None:
        """Start the primary if it has ended; see :meth:`back_since`.

        It may be about to end when it is looked at first.
        """
        self._probe = Probe(self.primary.dsn)
        while self._probe.is_alive():
            if self.primary.pid is None:
                self.primary.start()
            time.sleep(PROBE_EVERY)

    def _alter_role(self, how: str) -> None:
        # The password needs no quotes.
        self.primary.query(f"ALTER ROLE {ROLE} {how}")

    def _set(self, name: str, value: str) -> None:
        self.primary.query(f"ALTER SYSTEM SET {name} = {value}")
        self.primary.query("SELECT pg_reload_conf()")

    def _create_database(self) -> None:
        # A literal has no parameters here, and the token needs no quotes.
        self.primary.query(
            f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self.passwords[-1]}'"
        )
        self.primary.query(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")

    def _make_standby(self, port: int = 0) -> EmbeddedRig:
        standby = self.primary.make_standby(port=port)
        if self._synchronous:
            # Not on the copy, whose own standby comes only later.
            for server, change in (
                (standby, "RESET synchronous_standby_names"),
                (self.primary, "SET synchronous_standby_names = '*'"),
            ):
                server.query(f"ALTER SYSTEM {change}")
                server.query("SELECT pg_reload_conf()")
        return standby


class Probe(threading.Thread):
    """Asks a server until it is a primary that takes connections."""

    def __init__(self, dsn: str) -> None:
        super().__init__(name="chaos-probe", daemon=True)
        self._dsn = dsn
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
                    self._since = asked
                    return
            time.sleep(PROBE_EVERY)

    def wait(self) -> int:
        """When it was asked what it answered with yes (ns)."""
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
