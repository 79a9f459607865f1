"""What a request carries, as an event's payload."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MOST_DEPTH = 100  # lists and objects within each other
MOST_DIGITS = 300  # of a number: below what Python and Java refuse
CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "iso-8859-1": "latin-1",
}
CONTAINERS = (dict, list)


class BodyRefused(Exception):
    """The body cannot be an event's payload. One line says why."""


def decode(body: bytes, charset: str | None) -> str:
    """The text of a body.

    :param charset: as the sender names it; UTF-8 if it does not.
    :raises BodyRefused: if it is not that, or has no known name.
    """
    encoding = CHARSETS.get((charset or "utf-8").lower())
    if encoding is None:
        raise BodyRefused("the charset is none of utf-8 and iso-8859-1")
    try:
        return body.decode(encoding)
    except UnicodeDecodeError:
        raise BodyRefused("the body is not UTF-8") from None


def parse_json(text: str) -> Any:
    """The JSON value that a text has.

    Accepted is only what the rule engine and the database can take: Python
    accepts more, and it would be an event that nobody can process.

    :raises BodyRefused: if it is no JSON, has a number that is not finite or
        has too many digits, half of a surrogate pair, or too deep a nesting.
    """
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            parse_int=_parse_int,
        )
    except RecursionError:
        raise BodyRefused("the JSON is nested too deeply") from None
    except ValueError as error:
        raise BodyRefused(f"the body is not JSON: {error}") from None
    if _is_deep(value, text):
        raise BodyRefused("the JSON is nested too deeply")
    if "\\u" in text:
        refuse_surrogates(json.dumps(value, ensure_ascii=False))
    return value


def refuse_surrogates(text: str) -> None:
    """UTF-8 has no halves of surrogate pairs, so neither has the database.

    :raises BodyRefused: if there is one.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BodyRefused("a text has half of a surrogate pair") from None


def clean(text: str) -> str:
    """A header or a path with nothing that cannot be stored in it."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _is_deep(value: Any, text: str) -> bool:
    if text.count("[") + text.count("{") <= MOST_DEPTH:
        return False  # which is quickly seen of most
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            each
            for parent in level
            if isinstance(parent, CONTAINERS)
            for each in (
                parent.values() if isinstance(parent, dict) else parent
            )
        ]
    return any(isinstance(each, CONTAINERS) for each in level)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _parse_int(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)


def _parse_float(digits: str) -> float:
    number = float(digits)
    if len(digits) > MOST_DIGITS or not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
