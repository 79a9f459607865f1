"""Embedded servers that talk TLS. The PostgreSQL of the wheel cannot."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_rulebook.ha.embedded.account import service_account
from ansible_rulebook.ha.embedded.binaries import server_version
from ansible_rulebook.ha.embedded.server import EmbeddedServer

from .authority import Authority

SYSTEMS = Path("/usr/lib/postgresql")  # Debian's, a folder for each version


def system_binaries() -> Path | None:
    """The programs of the newest PostgreSQL that the system has."""
    found = [path.parent for path in SYSTEMS.glob("*/bin/postgres")]
    return max(found, key=server_version, default=None)


def encrypt(server: EmbeddedServer) -> Path:
    """Give it a certificate, before it starts; its authority's file."""
    account = service_account() if os.geteuid() == 0 else None
    # Not into the data, in which its account could have put links.
    authority = Authority(server.folder)
    server.settings["ssl"] = True
    for kind, file in zip(("cert", "key"), authority.sign("server")):
        if account is not None:
            os.chown(file, *account)
        server.settings[f"ssl_{kind}_file"] = file
    return authority.file
