"""The channel through which the engine sends the matches of its timers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..redaction import one_line
from .messages import results_of

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

logger = logging.getLogger(__name__)

LONGEST_TURN = 0.02  # seconds that matches may take the event loop for


async def read_messages(reader: StreamReader, writer: StreamWriter) -> None:
    """Read the engine's timed matches until the end.

    With state they do not come this way. Upstream's reader mistakes a short
    read for a whole message, and ends at the first match that it cannot
    deliver. This one skips a match of a session that was reset meanwhile, at
    the end of a term. A message of thousands of matches does not block the
    loop.
    """
    from drools.dispatch import Dispatch
    from drools.ruleset import RulesetCollection

    loop = asyncio.get_running_loop()
    try:
        while True:
            size = int.from_bytes(await reader.readexactly(4), "big")
            since = loop.time()
            message = await reader.readexactly(size)
            for session, result in results_of(message):
                try:
                    Dispatch(session, result).run()
                except Exception as error:
                    logger.warning(
                        "A timed match was skipped: %s", one_line(error)
                    )
                if loop.time() - since > LONGEST_TURN:
                    await asyncio.sleep(0)
                    since = loop.time()
    except asyncio.IncompleteReadError:
        logger.debug("The engine has closed its channel")
    except asyncio.CancelledError:
        RulesetCollection.shutdown()
    finally:
        writer.close()
