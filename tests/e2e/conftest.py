"""The stage that the end-to-end tests play on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

if TYPE_CHECKING:
    from e2e_support import Stage
    from rig.workers import WorkerProcess


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
