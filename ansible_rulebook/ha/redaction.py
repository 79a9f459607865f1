"""Text without passwords. Imported by every run, so it needs nothing."""

from __future__ import annotations

import re

# What stands for a password in anything that looks like a connection string,
# also in one that libpq would not take: hide too much rather than too little.
_SECRET = r"(?:ssl)?password|oauth_client_secret"
_URI_PASSWORD = re.compile(r"(://[^:/@\s]*):.*@", re.DOTALL)
_QUERY_PASSWORD = re.compile(rf"([?&](?:{_SECRET})=)[^&\s]*", re.IGNORECASE)
_PAIR_PASSWORD = re.compile(
    rf"(?<![?&])\b({_SECRET})\s*=\s*"
    r"('(?:[^'\\]|\\.)*(?:'|$)|(?:\\.|\S)+)",
    re.IGNORECASE | re.DOTALL,
)


def mask_password(text: str) -> str:
    """``text`` with the password of a connection string in it masked."""
    text = _URI_PASSWORD.sub(r"\1:***@", text)
    text = _QUERY_PASSWORD.sub(r"\1***", text)
    return _PAIR_PASSWORD.sub(r"\1=***", text)


def one_line(text: str) -> str:
    """``text`` with all white space, line ends too, folded to spaces."""
    return " ".join(text.split())
