"""Which state of the code this is, by git's word."""

from __future__ import annotations

import subprocess
from pathlib import Path

UNKNOWN = "unknown"


def revision(what: str = "HEAD") -> str:
    """The first digits of what git calls it; "unknown" without git.

    :param what: a commit, or ``HEAD:folder`` for all that is in a folder.
    """
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", what],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return done.stdout.strip()
