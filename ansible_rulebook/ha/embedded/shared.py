"""One server for all commands of a user."""

import contextlib
import fcntl
import os
import secrets
import tempfile
from pathlib import Path
from typing import Iterator, Optional

from .binaries import server_version, wheel_binaries
from .folder import FOLDER_VARIABLE, PathLike, make_own
from .server import EmbeddedServer


def shared_folder() -> Path:
    """Return where the user's own folder for the shared server is to be.

    ``EDA_HA_EMBEDDED_DIR``, else a folder in ``XDG_RUNTIME_DIR``, else one
    in the temporary folder. (Not the former for root: the server's account
    cannot enter it.)
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
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
        folder: where all of it lives; None: :func:`shared_folder`.

    Raises:
        EmbeddedError: the folder is not ours alone.
    """

    def __init__(self, folder: Optional[PathLike] = None) -> None:
        binaries = wheel_binaries()
        base = Path(folder).absolute() if folder else shared_folder()
        # Root's server runs under another account, which has to get through.
        make_own(base, 0o711 if os.geteuid() == 0 else 0o700)
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
