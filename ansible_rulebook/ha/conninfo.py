"""The connection string: parsed once, never printed with its secrets.

The code that reads options makes a :class:`Conninfo` of the string, and passes
that on to everything else.
"""

from __future__ import annotations

import os
import re
from copy import copy
from typing import Any

from psycopg import Error, conninfo, pq

from .errors import OptionError
from .redaction import one_line

PLACES = {
    "service": "PGSERVICE",
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
}
SECRETS = ("password", "sslpassword", "passphrase", "oauth_client_secret")

_URI = re.compile(r"^\s*postgres(ql)?://", re.IGNORECASE)
NEVER = "sslmode"  # a parameter for which libpq accepts some values only
LEAST_SECRET = 4  # characters; to mask every "a" would give it away


class Conninfo:
    """Where the server is: anything that libpq accepts.

    URI or ``key=value``, several hosts, ``service=``, ``PGPASSFILE`` and the
    ``PG*`` variables: libpq itself resolves what is not in the string.

    :raises OptionError: if libpq cannot parse it. The text quotes no part of
        the string, since what was taken for a host may be half a password.
    """

    def __init__(self, dsn: str, origin: str = "DSN") -> None:
        try:
            if "\0" in dsn:  # libpq would read no further
                raise ValueError
            self._params: dict[str, Any] = dict(conninfo.conninfo_to_dict(dsn))
        except (Error, ValueError):  # the latter: bytes that are no UTF-8
            raise OptionError(
                f"{origin}: not a PostgreSQL connection string; give a URI "
                "(postgresql://user@host:5432/database, special characters "
                "percent-encoded) or key=value pairs"
            ) from None
        if not dsn.strip():
            raise OptionError(f"{origin}: the connection string is empty")
        self._reject_torn_password(dsn, origin)
        self.dsn = dsn
        """The string as it was given, with its secrets."""
        self._resolved = {**_resolved(self._params), **self._params}

    def _reject_torn_password(self, dsn: str, origin: str) -> None:
        # A '@', ':' or '/' in an unquoted password moves the rest of it into
        # host, port or database, from where error messages would show it.
        hosts = str(self._params.get("host", "")).split(",")
        ports = str(self._params.get("port", "")).split(",")
        torn = any("@" in host[1:] for host in hosts)
        torn |= any(port and not port.isdigit() for port in ports)
        database = str(self._params.get("dbname", ""))
        torn |= "://" in database  # a URI, which nothing would take apart
        if _URI.match(dsn):
            torn |= "@" in database
        if torn:
            raise OptionError(
                f"{origin}: host, port or database is not valid; in a URI "
                "percent-encode special characters of the password "
                "(@ is %40, : is %3A, / is %2F)"
            )

    def get(self, name: str) -> str | None:
        """The value of a libpq parameter, wherever it was given.

        In the string, a service file or a variable. None if it was not
        given, and libpq's own default holds.
        """
        value = self._resolved.get(name)
        return None if value is None else str(value)

    @property
    def settings(self) -> dict[str, str]:
        """The server's settings that ``options`` asks for.

        A connection pooler may not pass them on.
        """
        return parse_options(self.get("options") or "")

    @property
    def hosts(self) -> int:
        """How many hosts are given (at least one)."""
        named = self.get("host") or self.get("hostaddr") or ""
        return named.count(",") + 1

    @property
    def target_session_attrs(self) -> str:
        """Which kind of server to connect to; default ``read-write``.

        ``any`` in a service file cannot be told from libpq's own default, and
        so counts as not given. In the string and in the variable it holds.
        """
        return self.get("target_session_attrs") or os.environ.get(
            "PGTARGETSESSIONATTRS", "read-write"
        )

    @property
    def places(self) -> str:
        """Hosts, ports and database as they are given, for people."""
        named = {
            name: self._params.get(name) or os.environ.get(variable)
            for name, variable in PLACES.items()
        }
        shown = [f"{name}={value}" for name, value in named.items() if value]
        return " ".join(shown) or "libpq's defaults"

    def merged(self, **changes: Any) -> dict[str, Any]:
        """The parameters for a connection, with ``changes`` on top."""
        return {**self._params, **changes}

    def to_connect(self, name: str, **options: Any) -> str:
        """What one of our sessions connects with.

        :param name: its ``application_name``.
        :param options: libpq's, on top of what was given.
        """
        ours = {
            "application_name": name,
            # With SQL_ASCII, a database's or PGCLIENTENCODING's, text would
            # come as bytes, and be equal to no name.
            "client_encoding": "UTF8",
            "target_session_attrs": self.target_session_attrs,
        }
        return conninfo.make_conninfo("", **self.merged(**ours, **options))

    def with_params(self, **changes: Any) -> Conninfo:
        """Another one, with some parameters replaced or, if None, left out."""
        made = copy(self)
        made._params = {
            name: value
            for name, value in self.merged(**changes).items()
            if value is not None
        }
        made._resolved = {**_resolved(made._params), **made._params}
        return made

    def redact(self, text: str) -> str:
        """``text`` on one line, with every secret of the string masked."""
        secrets = {self.get(name) or "" for name in SECRETS}
        # A password that is also the user's name is no secret in a message.
        known = {
            str(value)
            for name, value in self._resolved.items()
            if name not in SECRETS
        }
        for secret in sorted(secrets - known, key=len, reverse=True):
            if len(secret) >= LEAST_SECRET:
                text = text.replace(secret, "***")
        return one_line(text)

    def __repr__(self) -> str:
        shown = {
            key: "***" if key in SECRETS else value
            for key, value in self._params.items()
        }
        return f"<Conninfo {shown}>"


def parse_options(options: str) -> dict[str, str]:
    """Names and values in ``-c name=value`` and ``--name=value``.

    Words end at a space without a backslash before it, as for the server.
    """
    words = [
        re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)
        for word in re.findall(r"(?:\\.|[^\s\\])+", options, re.DOTALL)
    ]
    found = {}
    for before, word in zip(["", *words], words):
        given = word
        if word.startswith(("-c", "--")):
            given = word[2:]
        elif before != "-c":
            continue
        name, equals, value = given.partition("=")
        if equals:
            found[name.replace("-", "_").lower()] = value
    return found


def _resolved(params: dict[str, Any]) -> dict[str, str]:
    """``params`` with what libpq adds from a service file and variables.

    libpq resolves a connection's parameters before it looks at their values:
    with one that it never accepts it tells them, and connects to nothing.
    """
    refused = conninfo.make_conninfo("", **{**params, NEVER: "-"})
    attempt = pq.PGconn.connect_start(refused.encode())
    try:
        return {
            each.keyword.decode(): each.val.decode(errors="replace")
            for each in attempt.info
            if each.val not in (None, each.compiled)
            and each.keyword.decode() != NEVER
        }
    finally:
        attempt.finish()
