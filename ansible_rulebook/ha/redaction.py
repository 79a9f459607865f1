"""Text without passwords. Imported by every run, so it needs nothing."""

from __future__ import annotations

import re

# Where a password may begin in anything that looks like a connection string,
# also in one that libpq would not take.
_SECRET = re.compile(
    r"://[^:/@\s]*:|(?:ssl)?password\s*=|oauth_client_secret\s*=",
    re.IGNORECASE,
)


def mask_password(text: str) -> str:
    """``text`` up to where a password may begin.

    Nothing after that: only a well-formed string tells where it ends, and
    this is for those that are not.
    """
    found = _SECRET.search(text)
    return text if found is None else f"{text[: found.end()]}***"


def one_line(text: str) -> str:
    """``text`` with all white space, line ends too, folded to spaces."""
    return " ".join(text.split())
