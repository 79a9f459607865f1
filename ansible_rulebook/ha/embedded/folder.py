"""A folder, and files in it, that no other account can change.

Root may write only where nobody else can put a link: it would change the
file that the link names.
"""

import contextlib
import getpass
import os
import stat
import tempfile
from pathlib import Path
from typing import List, Optional, Union

from .account import SERVICE_ACCOUNT, Account
from .errors import EmbeddedError

FOLDER_VARIABLE = "EDA_HA_EMBEDDED_DIR"
PathLike = Union[str, "os.PathLike[str]"]
OTHER_FOLDER = (
    "choose another folder for the embedded server "
    f"({FOLDER_VARIABLE} or TMPDIR names it)"
)


def own_folder(folder: Optional[PathLike], account: Optional[Account]) -> Path:
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
        make_own(path, 0o700)
    path = path.resolve()
    if account is None:
        return path
    path.chmod(0o711)
    closed = closed_to_others(path)
    if closed is not None:
        raise EmbeddedError(
            f"the account {SERVICE_ACCOUNT} cannot enter {closed}: "
            f"{OTHER_FOLDER}"
        )
    return path


def make_own(path: Path, mode: int) -> None:
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


def closed_to_others(path: Path) -> Optional[Path]:
    """Return the first folder on the way to path that lacks o+x."""
    for folder in (*reversed(path.parents), path):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def write_private(
    path: Path, text: str, owner: Optional[Account] = None
) -> None:
    """Put a new file in this place, readable by its owner only."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        if owner is not None:
            os.fchown(file.fileno(), owner.uid, owner.gid)


def make_private_folder(path: Path, owner: Optional[Account]) -> None:
    """Make a folder that only its owner can enter."""
    path.mkdir(mode=0o700)
    if owner is not None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        descriptor = os.open(path, flags)
        try:
            os.fchown(descriptor, owner.uid, owner.gid)
        finally:
            os.close(descriptor)
