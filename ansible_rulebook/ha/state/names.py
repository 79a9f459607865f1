"""Names as the database stores them: in ASCII, whatever its encoding."""

from __future__ import annotations

import hashlib
from typing import Any

LONGEST = 2000  # characters; a key of an index must fit into a page
SHOWN = 100  # characters of a name that is longer than that


def stored(name: str) -> str:
    """A name of a ruleset, a rule or a worker, for the database.

    Two names are never stored as one text. ASCII without a backslash stays
    as it is, for people who look into the tables.
    """
    return name.encode("unicode_escape").decode("ascii")


def key_of_ruleset(name: str) -> str:
    """The key of a ruleset in the tables: its name, shortened if too long."""
    key = stored(name)
    if len(key) > LONGEST:
        digest = hashlib.sha256(key.encode("ascii")).hexdigest()
        key = f"{key[:SHOWN]}~{digest}"
    return key


def original(name: str) -> str:
    """The name that :func:`stored` made this of."""
    return name.encode("ascii").decode("unicode_escape")


def key_of(ruleset: str, event: Any) -> bytes | None:
    """16 bytes that tell an event of a ruleset from every other one.

    :returns: None for an event that has no id.
    """
    try:
        text = f"{ruleset}\0{event['meta']['uuid']}"
    except (KeyError, TypeError):
        return None
    encoded = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoded, digest_size=16).digest()
