"""Running one of PostgreSQL's programs."""

import logging
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Mapping, Optional, Sequence

from .account import Account
from .errors import EmbeddedError

logger = logging.getLogger(__name__)

TOOL_TIMEOUT = 120.0  # seconds
# The variables that PostgreSQL's programs get from us.
PASSED_ON = ("LD_LIBRARY_PATH", "PATH", "TZ")


def run_tool(
    command: Sequence[str],
    account: Optional[Account],
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
