"""The pytest plugin, as pytest loads it at each start. PYTEST_DONT_REWRITE

It is not inside of ``ansible_rulebook``, so that a run which does not use the
fixture imports nothing of that package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ansible_rulebook.ha.testing import HaSources

KIT = "ansible_rulebook.ha.testing"

_exit_code = pytest.StashKey[int]()


@pytest.fixture
def ha_source() -> Iterator[HaSources]:
    """Run event sources as a highly available worker does.

    ``ha_source(plugin, args)`` starts one on a follower, and
    ``ha_source.check(plugin, args)`` takes one through a worker's life.
    """
    from ansible_rulebook.ha.testing import HaSources

    sources = HaSources()
    yield sources
    sources.close()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the exit code for the end."""
    session.config.stash[_exit_code] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End a process that a source's thread would keep alive for ever.

    A worker ends such a source with exit code 75. Its test has failed.
    """
    if KIT not in sys.modules or hasattr(config, "workerinput"):
        return  # pytest-xdist ends its workers itself
    stuck = sys.modules[KIT].stuck_threads()
    if stuck:
        sys.stderr.write(
            "ansible-rulebook-ha: pytest is ended, since threads of an event "
            f"source never end: {', '.join(stuck)}\n"
        )
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(_exit_code, 1) or 1)
