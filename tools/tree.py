"""The files of this repository, as git knows them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def git(*args: str) -> str:
    """What git prints.

    :raises OSError: without git.
    :raises subprocess.CalledProcessError: outside of a repository.
    """
    return subprocess.run(
        ["git", *args], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def files() -> set[str]:
    """All files, new ones too, but not those that git ignores."""
    listed = git(
        "ls-files", "-z", "--cached", "--others", "--exclude-standard"
    )
    return {
        name for name in listed.split("\0") if name and (ROOT / name).is_file()
    }
