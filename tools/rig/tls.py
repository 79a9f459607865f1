"""Embedded servers that talk TLS. The PostgreSQL of the wheel cannot."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

from psycopg.conninfo import make_conninfo

from ansible_rulebook.ha.embedded.account import service_account
from ansible_rulebook.ha.embedded.binaries import server_version
from ansible_rulebook.ha.embedded.server import EmbeddedServer

from .authority import Authority

SYSTEMS = Path("/usr/lib/postgresql")  # Debian's, a folder for each version


def system_binaries() -> Path | None:
    """The programs of the newest PostgreSQL that the system has."""
    found = [path.parent for path in SYSTEMS.glob("*/bin/postgres")]
    return max(found, key=server_version, default=None)


@functools.cache
def _authority() -> Authority:
    """One for all servers: a DSN may have several, and outlives each."""
    folder = tempfile.mkdtemp(prefix="eda-ha-ca-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Authority(Path(folder))


def encrypt(server: EmbeddedServer) -> Path:
    """Give it a certificate, before it starts; its authority's file."""
    account = service_account() if os.geteuid() == 0 else None
    authority = _authority()
    server.settings["ssl"] = True
    # Not into the data, in which its account could have put links.
    files = authority.sign("server", into=server.folder)
    for kind, file in zip(("cert", "key"), files):
        if account is not None:
            os.chown(file, *account)
        server.settings[f"ssl_{kind}_file"] = file
    return authority.file


def unverified(dsn: str) -> str:
    """The same for a process that cannot read the authority's file."""
    return make_conninfo(dsn, sslmode="prefer", sslrootcert="")


def plain(dsn: str) -> str:
    """The same server without TLS."""
    return make_conninfo(dsn, sslmode="disable", sslrootcert="")
