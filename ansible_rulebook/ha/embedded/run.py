"""A command with a PostgreSQL and a Java in its environment."""

import logging
import os
import time
from typing import Sequence

from .foreground import Foreground
from .java import java_home
from .server import HOST
from .shared import SharedServer

logger = logging.getLogger(__name__)

DSN_VARIABLE = "EDA_HA_POSTGRES_DSN"


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
    foreground = Foreground()
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
