"""What a client is answered."""

from __future__ import annotations

import json
import math
from typing import Any, Mapping

from aiohttp import web


class Refused(Exception):
    """A request that is not accepted.

    :param status: of HTTP.
    :param reason: one line for whoever looks after the sender.
    :param headers: of the answer.
    :param cause: more than the sender is told, for our log.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        headers: Mapping[str, str] | None = None,
        cause: object = "",
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = dict(headers or {})
        self.cause = str(cause) or reason


def try_again(reason: str, after: float, cause: object = "") -> Refused:
    """The sender is not at fault, and is to repeat the request.

    :param after: seconds.
    """
    seconds = str(max(1, math.ceil(after)))
    return Refused(503, reason, {"Retry-After": seconds}, cause)


def answer(
    status: int,
    content: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A response with a line of JSON."""
    return web.Response(
        status=status,
        body=json.dumps(content).encode() + b"\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
