"""What this distribution is called, and which version of it is installed."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "ansible-rulebook-ha"


@lru_cache(maxsize=1)
def own_version() -> str:
    """The installed version. It is looked up once, since that takes long."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "not installed"
