"""A pgbouncer before a server, if this machine has one installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rig.ports import free_port

HOST = "127.0.0.1"
ADMIN = "rig"
ACCOUNT = "nobody"  # pgbouncer refuses to run as root
START_TIMEOUT = 10.0  # seconds
STOP_TIMEOUT = 5.0  # seconds
# Not always on a user's PATH.
PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")


class PgBouncerMissing(RuntimeError):
    """There is no pgbouncer on this machine."""


def find_binary() -> str:
    path = os.pathsep.join((os.environ.get("PATH", ""), *PLACES))
    found = shutil.which("pgbouncer", path=path)
    if found is None:
        raise PgBouncerMissing(
            "pgbouncer is not installed (Debian: apt-get install pgbouncer)"
        )
    return found


class PgBouncer:
    """Pools connections to the server of `dsn`, on a free loopback port.

    `pool_mode` is "transaction" (each transaction may meet another server
    session), "session" or "statement". Clients need no password; the
    pooler logs on as the role of `dsn`. `settings` go into its file, and
    take the place of what stands there otherwise.
    """

    def __init__(
        self,
        dsn: str,
        pool_mode: str = "transaction",
        *,
        pool_size: int = 20,
        **settings: object,
    ) -> None:
        self.pool_mode = pool_mode
        self.port = free_port()
        self._binary = find_binary()
        self._server = dict(conninfo_to_dict(dsn))
        self._settings: dict[str, object] = {
            "listen_addr": HOST,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "admin_users": ADMIN,
            "pool_mode": pool_mode,
            "default_pool_size": pool_size,
            # Clients start as they would with the server itself.
            "ignore_startup_parameters": "extra_float_digits,options",
            **settings,
        }
        self._popen: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def dsn(self) -> str:
        """The DSN of the server, led through the pooler."""
        return make_conninfo(
            host=HOST,
            port=self.port,
            user=self._server.get("user"),
            dbname=self._server.get("dbname"),
        )

    @property
    def pid(self) -> int | None:
        return None if self._popen is None else self._popen.pid

    @property
    def log(self) -> str:
        if self._folder is None:
            return ""
        path = self._folder / "pgbouncer.log"
        return path.read_text("utf-8", errors="replace")

    def start(self) -> PgBouncer:
        if self._popen is not None:
            raise RuntimeError("this pgbouncer was started before")
        # Not pytest's tmp_path: that one is closed to the other account.
        self._folder = Path(tempfile.mkdtemp(prefix="rig-pgbouncer-"))
        conf = self._folder / "pgbouncer.ini"
        uid = gid = None
        if os.geteuid() == 0:
            account = pwd.getpwnam(ACCOUNT)
            uid, gid = account.pw_uid, account.pw_gid
            # The folder stays root's: no link of the account's in it.
            self._folder.chmod(0o711)
        conf.touch(0o600)
        conf.write_text(self._conf(), "utf-8")
        if uid is not None and gid is not None:
            os.chown(conf, uid, gid)
        with (self._folder / "pgbouncer.log").open("wb") as log:
            self._popen = subprocess.Popen(
                [self._binary, str(conf)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        if self._popen is not None and self._popen.poll() is None:
            self._popen.terminate()  # at once, clients or not
            try:
                self._popen.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> PgBouncer:
        return self if self._popen is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _conf(self) -> str:
        target = " ".join(
            f"{key}={quoted(str(self._server[key]))}"
            for key in ("user", "password", "dbname")
            if self._server.get(key)
        )
        host = self._server.get("host") or HOST
        port = self._server.get("port") or 5432
        return (
            "[databases]\n"
            f"* = host={host} port={port} {target}\n"
            "[pgbouncer]\n"
            + "".join(
                f"{name} = {value}\n" for name, value in self._settings.items()
            )
        )

    def tell(self, *commands: str) -> None:
        """Say something at its console: KILL, PAUSE, RESUME and so on."""
        console = make_conninfo(
            host=HOST, port=self.port, user=ADMIN, dbname="pgbouncer"
        )
        # It speaks the simple protocol only, and knows no transactions.
        session = psycopg.connect(
            console, autocommit=True, cursor_factory=psycopg.ClientCursor
        )
        with session:
            for command in commands:
                session.execute(command.encode())

    @property
    def database(self) -> str:
        """What its console calls the server's database."""
        return str(self._server["dbname"])

    def _wait_ready(self) -> None:
        assert self._popen is not None
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=2).close()
                return
            except psycopg.OperationalError as exc:
                code = self._popen.poll()
                if code is None and time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                raise RuntimeError(
                    f"pgbouncer is not ready (exit code {code}): {exc}\n"
                    f"{self.log}"
                ) from exc


def quoted(value: str) -> str:
    """A value in pgbouncer's connection strings."""
    return "'" + value.replace("'", "''") + "'"
