"""A PostgreSQL for tests, wherever one is to be had.

:func:`pick_server` takes the first of: the server of ``EDA_HA_TEST_DSN``, a
container if a Docker engine answers, the embedded server. Only the embedded
one can be stopped and started (``controllable``); tests of faults ask for
one of their own.
"""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import logging
import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from ansible_rulebook.ha.embedded.server import EmbeddedServer, Setting

from .tls import encrypt, system_binaries

logger = logging.getLogger(__name__)

S = TypeVar("S", bound="Server")

TEST_DSN = "EDA_HA_TEST_DSN"
# Folder of another PostgreSQL's programs, to test against its version.
TEST_BIN = "EDA_HA_TEST_PG_BIN"
TEST_TLS = "EDA_HA_TEST_TLS"  # not empty: to embedded servers by TLS only
IMAGE = "postgres:17-alpine"
ENGINE_TIMEOUT = 3  # seconds until a Docker engine counts as absent
CONNECT_TIMEOUT = 10  # seconds
WATCH_INTERVAL = 0.02  # seconds between two looks at a server


class ServerError(RuntimeError):
    """The server cannot do what the test asks of it."""


@dataclass(frozen=True)
class Session:
    """A client's session, as pg_stat_activity shows it."""

    pid: int
    application_name: str
    database: str | None
    state: str | None
    wait_event: str | None
    query: str


class Server(abc.ABC):
    """A PostgreSQL server to test against."""

    kind: str
    controllable = False

    def __init__(self) -> None:
        self._databases: set[str] = set()

    @property
    @abc.abstractmethod
    def admin_dsn(self) -> str:
        """DSN of a role that may create databases."""

    @property
    def dsn(self) -> str:
        """DSN of the database that is there from the beginning."""
        return self.admin_dsn

    @property
    def version(self) -> int:
        """Its major version."""
        (row,) = self.query("SHOW server_version_num")
        return int(row[0]) // 10000

    def create_database(self, prefix: str = "rig") -> str:
        """Create a database and return its DSN.

        Advisory locks are per database, so this isolates elections, too.
        """
        name = f"{prefix}_{uuid.uuid4().hex[:12]}"
        with self.connect() as connection:
            connection.execute(
                SQL("CREATE DATABASE {}").format(Identifier(name))
            )
        self._databases.add(name)
        return make_conninfo(self.dsn, dbname=name)

    def drop_database(self, dsn: str) -> None:
        """Drop a database that create_database() made, with its sessions."""
        name = database_of(dsn)
        if name not in self._databases:
            raise ServerError(f"{name} was not created by this rig")
        with self.connect() as connection:
            connection.execute(
                SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                    Identifier(name)
                )
            )
        self._databases.discard(name)

    def connect(
        self, dsn: str | None = None
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit session of the administrator."""
        connection = psycopg.connect(
            dsn or self.admin_dsn,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT,
            application_name="rig-admin",
        )
        return connection

    def query(
        self,
        sql: str,
        params: Sequence[object] = (),
        *,
        dsn: str | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run a statement in a session of its own and return its rows."""
        with self.connect(dsn) as connection:
            cursor = connection.execute(sql.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

    def sessions(
        self, like: str = "%", *, dsn: str | None = None
    ) -> list[Session]:
        """The clients whose application_name matches, oldest first.

        With `dsn`, only those of its database.
        """
        rows = self.query(
            "SELECT pid, application_name, datname, state, wait_event, query"
            " FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() AND application_name LIKE %s"
            " AND (%s::text IS NULL OR datname = %s)"
            " ORDER BY backend_start",
            (like, *self._only(dsn)),
        )
        return [Session(*row) for row in rows]

    def terminate(self, like: str, *, dsn: str | None = None) -> int:
        """End the sessions whose application_name matches; how many."""
        rows = self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() AND application_name LIKE %s"
            " AND (%s::text IS NULL OR datname = %s)",
            (like, *self._only(dsn)),
        )
        return sum(bool(row[0]) for row in rows)

    @staticmethod
    def _only(dsn: str | None) -> tuple[str | None, str | None]:
        name = None if dsn is None else database_of(dsn)
        return name, name

    def close(self) -> None:
        """Leave nothing behind."""
        for name in sorted(self._databases):
            # A test may have stopped the server.
            with contextlib.suppress(psycopg.Error):
                self.drop_database(make_conninfo(self.dsn, dbname=name))
        self._databases.clear()

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind}>"


class ExternalServer(Server):
    """A server that somebody else runs, by its DSN."""

    kind = "external"

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._dsn = dsn

    @property
    def admin_dsn(self) -> str:
        return self._dsn


class ContainerServer(ExternalServer):
    """A server in a container of its own."""

    kind = "container"

    def __init__(self, image: str = IMAGE) -> None:
        module: Any = importlib.import_module("testcontainers.postgres")
        self._container: Any = module.PostgresContainer(image, driver=None)
        self._container.start()
        super().__init__(self._container.get_connection_url())

    def close(self) -> None:
        # The databases go with the container.
        self._databases.clear()
        self._container.stop()


class EmbeddedRig(Server):
    """An embedded server of the rig's own, which can be mistreated.

    :param tls: whether its DSN demands TLS and a certificate that is valid;
        None: if ``EDA_HA_TEST_TLS`` says so.
    """

    kind = "embedded"
    controllable = True

    def __init__(
        self,
        settings: Mapping[str, Setting] | None = None,
        *,
        auth: str = "scram",
        password: str | None = None,
        standby_of: EmbeddedRig | None = None,
        port: int = 0,
        folder: Path | None = None,
        tls: bool | None = None,
    ) -> None:
        super().__init__()
        if standby_of is not None:
            tls = standby_of.authority is not None
        elif tls is None:
            tls = bool(os.environ.get(TEST_TLS))
        self.authority: Path | None = None
        self.embedded: EmbeddedServer = EmbeddedServer(
            folder,
            port=port,
            settings=settings,
            auth=auth,
            password=password,
            bin_dir=os.environ.get(TEST_BIN)
            or (system_binaries() if tls else None),
            standby_of=None if standby_of is None else standby_of.embedded,
        )
        try:
            if tls:
                self.authority = encrypt(self.embedded)
            self.embedded.start()
        except BaseException:
            self.embedded.close()
            raise

    @property
    def admin_dsn(self) -> str:
        if self.authority is None:
            return self.embedded.dsn
        root = quote(str(self.authority), safe="")
        return f"{self.embedded.dsn}?sslmode=verify-full&sslrootcert={root}"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None if it is down."""
        return self.embedded.pid

    @property
    def logfile(self) -> Path:
        return self.embedded.logfile

    @property
    def log(self) -> str:
        return self.logfile.read_text("utf-8", errors="replace")

    def start(self) -> None:
        """Start it on the same port; does nothing if it runs."""
        self.embedded.start()

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "smart", "fast" or "immediate", which is a crash."""
        self.embedded.stop(mode)

    def restart(self, mode: str = "fast") -> None:
        self.embedded.restart(mode)

    def freeze(self) -> None:
        """Stop all its processes where they are; see :meth:`thaw`."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, what: signal.Signals) -> None:
        postmaster = self.pid
        if postmaster is None:
            raise ServerError("it does not run")
        os.kill(postmaster, what)  # first: it makes no more of them
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
        for pid in children.read_text("ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), what)

    def make_standby(
        self,
        settings: Mapping[str, Setting] | None = None,
        *,
        port: int = 0,
    ) -> EmbeddedRig:
        """A hot standby of this server that streams from it.

        It has the same password, so both fit into one DSN: see both_dsn().
        """
        standby = EmbeddedRig(settings, standby_of=self, port=port)
        standby.wait_caught_up(self)
        return standby

    def promote(self) -> None:
        """Make a standby the primary; returns when it is one."""
        self.embedded.promote()

    def in_recovery(self) -> bool:
        (row,) = self.query("SELECT pg_is_in_recovery()")
        return bool(row[0])

    def wait_caught_up(
        self, primary: EmbeddedRig, timeout: float = 20.0
    ) -> None:
        """Wait until this standby has what its primary has now."""
        (row,) = primary.query("SELECT pg_current_wal_lsn()::text")
        deadline = time.monotonic() + timeout
        while True:
            (done,) = self.query(
                "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row
            )
            if done[0]:
                return
            if time.monotonic() > deadline:
                raise ServerError(f"the standby lags for {timeout:g} s")
            time.sleep(WATCH_INTERVAL)

    def close(self) -> None:
        # The databases go with the folder.
        self._databases.clear()
        self.embedded.close()


def database_of(dsn: str) -> str:
    return str(conninfo_to_dict(dsn).get("dbname") or "")


def both_dsn(*dsns: str, **params: Any) -> str:
    """One DSN that lists the hosts of several, in this order.

    Database, role and password have to be the same in all of them.
    """
    parts = [dict(conninfo_to_dict(dsn)) for dsn in dsns]
    hosts = ",".join(str(part.pop("host", "")) for part in parts)
    ports = ",".join(str(part.pop("port", "") or "") for part in parts)
    if any(part != parts[0] for part in parts):
        raise ValueError("these DSNs differ in more than host and port")
    return make_conninfo(
        **{**parts[0], "host": hosts, "port": ports, **params}
    )


def container_server() -> ContainerServer | None:
    """A server in a container, or None if there is no engine to run it."""
    if importlib.util.find_spec("testcontainers") is None:
        return None
    try:
        docker: Any = importlib.import_module("docker")
        client = docker.from_env(timeout=ENGINE_TIMEOUT)
        try:
            client.ping()
        finally:
            client.close()
    except Exception as exc:  # each transport of docker raises its own
        logger.debug("no Docker engine answers: %s", exc)
        return None
    try:
        return ContainerServer()
    except Exception as exc:
        # An engine that has no image and no way to one.
        logger.warning("no container, so the embedded server: %s", exc)
        return None


def pick_server() -> Server:
    """The server that tests share; see the module's first words."""
    dsn = os.environ.get(TEST_DSN)
    if dsn:
        return ExternalServer(dsn)
    return container_server() or EmbeddedRig()
