"""A PostgreSQL server from the wheel."""

import contextlib
import os
import secrets
import shlex
import shutil
import socket
import weakref
from pathlib import Path
from types import TracebackType
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Type,
    Union,
)
from urllib.parse import quote

from .account import Account, service_account
from .binaries import reachable_binaries, wheel_binaries
from .errors import EmbeddedError
from .folder import PathLike, make_private_folder, own_folder, write_private
from .postmaster import forget_zombie, port_of, running_pid
from .tool import run_tool

HOST = "127.0.0.1"
SUPERUSER = "postgres"
START_TIMEOUT = 60  # seconds, for pg_ctl; covers crash recovery
Setting = Union[str, int, float, bool]


class EmbeddedServer:
    """A PostgreSQL server on 127.0.0.1, TCP only.

    As root the server runs under the account ``pgserver``, which is created
    when it is missing. Root then writes into the folder alone and nothing
    into the data in it, where the account could put a link to any file.
    Usable as a context manager, which starts and closes it; a server in a
    folder of its own is stopped at interpreter exit too.

    Args:
        folder: where the data, the log and the password live. None: a
            temporary folder, deleted by :meth:`close`. As root every parent
            must be open to others (``x``), or the account cannot reach it,
            and no other account may write the folder or a parent.
        port: TCP port; 0 picks a free one, kept over restarts.
        settings: more lines for postgresql.conf; they win over all others.
        auth: ``"scram"`` or ``"trust"``. With ``trust``, everybody on this
            machine is superuser of the server, and as such may run programs
            under its account.
        password: of the superuser ``postgres``; None makes a random one.
            Without a meaning for ``trust``.
        bin_dir: binaries of another PostgreSQL than the wheel's.
        standby_of: a running server to copy: this one starts as its hot
            standby, with its password, and its settings as defaults.
        keep_running: leave the server alone at interpreter exit.

    Raises:
        EmbeddedError: the extra is missing, or the folder is out of reach
            or not safe.
    """

    def __init__(
        self,
        folder: Optional[PathLike] = None,
        *,
        port: int = 0,
        settings: Optional[Mapping[str, Setting]] = None,
        auth: str = "scram",
        password: Optional[str] = None,
        bin_dir: Optional[PathLike] = None,
        standby_of: Optional["EmbeddedServer"] = None,
        keep_running: bool = False,
    ) -> None:
        if auth not in ("scram", "trust"):
            raise ValueError(f"auth is 'scram' or 'trust', not {auth!r}")
        binaries = Path(bin_dir) if bin_dir is not None else wheel_binaries()
        if not (binaries / "pg_ctl").exists():
            raise EmbeddedError(f"there is no pg_ctl in {binaries}")
        self._account = service_account() if os.geteuid() == 0 else None
        self._temporary = folder is None
        self.folder = own_folder(folder, self._account)
        self.data_dir = self.folder / "data"
        self.logfile = self.folder / "server.log"
        self._conf = self.folder / "postgresql.conf"
        self.bin_dir = reachable_binaries(binaries, self.folder, self._account)
        self.auth = auth
        # A standby must not allow less than its primary does.
        self.settings: Dict[str, Setting] = {
            **(standby_of.settings if standby_of is not None else {}),
            **(settings or {}),
        }
        self._standby_of = standby_of
        self._port: int = port
        self._fixed_port = port != 0
        self._password: Optional[str] = (
            standby_of._password if standby_of is not None else password
        )
        self._finalizer: Optional[Callable[[], object]] = None
        if not keep_running:
            self._finalizer = weakref.finalize(
                self,
                _clean_up,
                self._tool_command(
                    "pg_ctl", "stop", "-m", "immediate", "-D", self.data_dir
                ),
                self._account,
                self.data_dir,
                self.folder if self._temporary else None,
                os.getpid(),
            )

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.pid else "stopped"
        return f"<EmbeddedServer {HOST}:{self._port} {state}>"

    def __enter__(self) -> "EmbeddedServer":
        self.start()
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """TCP port; 0 before the first start of a server that picks one."""
        return self._port

    @property
    def password(self) -> Optional[str]:
        """The superuser's password; None with ``trust``."""
        return self._password if self.auth == "scram" else None

    @property
    def dsn(self) -> str:
        """URI of the superuser on the database ``postgres``."""
        secret = f":{quote(self.password, safe='')}" if self.password else ""
        return f"postgresql://{SUPERUSER}{secret}@{HOST}:{self._port}/postgres"

    @property
    def pid(self) -> Optional[int]:
        """Process id of the running server, None if it is not running."""
        return running_pid(self.data_dir)

    def start(self) -> None:
        """Start the server, on the first call initialise its data.

        Returns when it accepts connections; does nothing if it runs.

        Raises:
            EmbeddedError: it did not start; the message has the log's end.
        """
        if self.pid is not None:
            self._port = port_of(self.data_dir) or self._port
            self._load_password()
            return
        self._initialise()
        forget_zombie(self.data_dir)
        if not self.logfile.exists():
            write_private(self.logfile, "", self._account)
        for attempt in (1, 2, 3):
            if not self._port:
                self._port = _free_port()
            self._write_settings()
            try:
                self._run(
                    "pg_ctl", "start", "-w", "-t", START_TIMEOUT,
                    "-l", self.logfile, "-D", self.data_dir,
                    "-o", f"-c config_file={shlex.quote(str(self._conf))}",
                )  # fmt: skip
                return
            except EmbeddedError as error:
                # Between the probe and the start somebody took the port.
                taken = "could not bind" in self._log_tail()
                if self._fixed_port or not taken or attempt == 3:
                    raise EmbeddedError(
                        f"{error}; {self.logfile} ends with: "
                        f"{self._log_tail()}"
                    ) from None
                self._port = 0

    def stop(self, mode: str = "fast") -> None:
        """Stop the server and wait for its end; does nothing if it is down.

        Args:
            mode: ``smart`` waits for clients, ``fast`` disconnects them,
                ``immediate`` is a crash: the next start recovers.

        Raises:
            EmbeddedError: it did not stop within a minute.
        """
        if self.pid is not None:
            self._run(
                "pg_ctl", "stop", "-w", "-t", START_TIMEOUT,
                "-m", mode, "-D", self.data_dir,
            )  # fmt: skip

    def restart(self, mode: str = "fast") -> None:
        """Stop in this mode and start again on the same port.

        Picks up what was changed in :attr:`settings`.
        """
        self.stop(mode)
        self.start()

    def promote(self) -> None:
        """Make a standby the primary; returns when it is one."""
        self._run(
            "pg_ctl", "promote", "-w", "-t", START_TIMEOUT,
            "-D", self.data_dir,
        )  # fmt: skip

    def close(self) -> None:
        """Stop the server; delete a temporary folder. Safe to call twice."""
        if self._temporary:
            with contextlib.suppress(EmbeddedError):
                self.stop("immediate")
        else:
            self.stop()
        if self._finalizer is not None:
            self._finalizer()
        elif self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _initialise(self) -> None:
        self._load_password()
        if (self.data_dir / "PG_VERSION").exists():
            return
        # What an interrupted attempt left is no data of anybody's.
        shutil.rmtree(self.data_dir, ignore_errors=True)
        make_private_folder(self.data_dir, self._account)
        try:
            if self._standby_of is not None:
                self._copy(self._standby_of)
            else:
                self._initdb()
        except BaseException:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            raise

    def _initdb(self) -> None:
        command: List[object] = [
            "-D", self.data_dir, "-U", SUPERUSER, "-E", "UTF8",
            "--no-locale", "--no-instructions",
        ]  # fmt: skip
        if self._temporary:
            command.append("--no-sync")
        if self.auth == "trust":
            self._run("initdb", "--auth=trust", *command)
            return
        with self._password_file() as secret:
            self._run(
                "initdb", "--auth=scram-sha-256", f"--pwfile={secret}",
                *command,
            )  # fmt: skip

    def _copy(self, primary: "EmbeddedServer") -> None:
        tool: List[object] = [
            "-D", self.data_dir, "-R", "-X", "stream", "-c", "fast",
            "-h", HOST, "-p", primary.port, "-U", SUPERUSER,
        ]  # fmt: skip
        if self._temporary:
            tool.append("--no-sync")
        self._run(
            "pg_basebackup", *tool, env={"PGPASSWORD": self._password or ""}
        )

    def _load_password(self) -> None:
        """Know the password: given, kept in the folder, or a new one."""
        if self.auth == "trust":
            return
        kept = self.folder / "password"
        if self._password is None and kept.exists():
            self._password = kept.read_text(encoding="utf-8")
        if self._password is None:
            self._password = secrets.token_urlsafe(18)
        if not kept.exists():
            write_private(kept, self._password)

    @contextlib.contextmanager
    def _password_file(self) -> Iterator[Path]:
        path = self.folder / "initdb-password"
        write_private(path, f"{self._password}\n", self._account)
        try:
            yield path
        finally:
            path.unlink()

    def _write_settings(self) -> None:
        lines: Dict[str, Setting] = {
            "listen_addresses": HOST,
            "port": self._port,
            # Its path may be too long for one: 107 bytes are all there is.
            "unix_socket_directories": "",
            "lc_messages": "C",
        }
        if self._temporary:
            lines["fsync"] = False  # deleted anyway; a crash of it is fine
        lines.update(self.settings)
        text = "".join(f"{k} = {_quoted(v)}\n" for k, v in lines.items())
        # Beside the data, where the account cannot replace it by a link.
        write_private(
            self._conf,
            f"include 'data/postgresql.conf'\n{text}",
            self._account,
        )

    def _log_tail(self) -> str:
        try:
            text = self.logfile.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(no log)"
        return " | ".join(text.splitlines()[-5:])

    def _tool_command(self, tool: str, *args: object) -> List[str]:
        return [str(self.bin_dir / tool), *map(str, args)]

    def _run(
        self,
        tool: str,
        *args: object,
        env: Optional[Mapping[str, str]] = None,
    ) -> None:
        run_tool(
            self._tool_command(tool, *args), self._account, self.folder, env
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(value: Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value).replace("\\", "\\\\").replace("'", "''")
    return f"'{text}'"


def _clean_up(
    stop: Sequence[str],
    account: Optional[Account],
    data_dir: Path,
    remove: Optional[Path],
    owner: int,
) -> None:
    """Stop a server that nobody closed; of the process that made it only."""
    if os.getpid() != owner:
        return
    if running_pid(data_dir) is not None:
        with contextlib.suppress(EmbeddedError):
            run_tool(stop, account, data_dir.parent)
    if remove is not None:
        shutil.rmtree(remove, ignore_errors=True)
