"""Clusters for the tests of the state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Callable

import pytest
from clusters import Cluster, create_tables

if TYPE_CHECKING:
    from rig.server import Server


@pytest.fixture(scope="module")
def tables(server: Server) -> Iterator[str]:
    """A database with the tables. Each test has clusters of its own in it."""
    made = server.create_database()
    create_tables(made)
    yield made
    server.drop_database(made)


@pytest.fixture
def make_cluster() -> Iterator[Callable[[str], Cluster]]:
    """Think of clusters in a database."""
    with contextlib.ExitStack() as stack:
        yield lambda dsn: Cluster(dsn, stack)


@pytest.fixture
def cluster(tables: str, make_cluster: Callable[[str], Cluster]) -> Cluster:
    """A cluster in the database with the tables."""
    return make_cluster(tables)


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as made:
        yield made
