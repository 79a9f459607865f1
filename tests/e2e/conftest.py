"""The stage that the end-to-end tests play on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

if TYPE_CHECKING:
    from e2e_support import Stage
    from rig.server import Server
    from rig.workers import WorkerProcess
    from roles import Role


@pytest.fixture
def stage(
    worker: Callable[..., WorkerProcess],
    dsn: str,
    ha_uuid: str,
    tmp_path: Path,
) -> Stage:
    """Workers of one cluster, see e2e_support.py."""
    from e2e_support import Stage

    return Stage(worker, dsn, ha_uuid, tmp_path)


@pytest.fixture
def role(server: Server, dsn: str) -> Iterator[Role]:
    from roles import Role

    made = Role(server, dsn)
    yield made
    for session in server.sessions(dsn=dsn):  # or it could not be dropped
        server.query("SELECT pg_terminate_backend(%s)", (session.pid,))
    made.do(f"DROP OWNED BY {made.name} CASCADE")
    made.do(f"DROP ROLE {made.name}")
