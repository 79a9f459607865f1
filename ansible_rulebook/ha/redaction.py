"""Text that may be shown: no passwords, and nothing that acts on a reader.

What somebody else wrote (names, reasons, errors of servers) goes through
:func:`clean` or :func:`one_line` before it reaches a terminal, a log, a page
or a metric. Imported by every run, so this module needs nothing.
"""

from __future__ import annotations

import re

LONGEST = 200  # characters of a value
LONGEST_LINE = 2000  # characters of a sentence

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


def clean(text: object, longest: int = LONGEST) -> str:
    """``text`` on one line, with escapes for all that is not printable.

    Ends of lines, the controls of terminals, marks that turn the direction of
    writing, and halves of characters are not. Text that gets too long is cut
    and then ends with three dots. Text that was cleaned stays as it is.
    """
    told = "".join(
        each if each.isprintable() else ascii(each)[1:-1]
        for each in str(text)[: longest + 1]
    )
    return told if len(told) <= longest else f"{told[: longest - 3]}..."


def one_line(text: object) -> str:
    """A sentence, cleaned: all white space in it becomes single spaces."""
    return clean(" ".join(str(text).split()), LONGEST_LINE)
