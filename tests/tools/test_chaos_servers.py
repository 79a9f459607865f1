"""The servers of ``make chaos``: they come back, whatever was done to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest
from chaos.servers import Servers

PATIENCE = 30.0  # seconds


@pytest.fixture
def servers() -> Iterator[Servers]:
    servers = Servers(standby=False, proxied=False, synchronous=False)
    yield servers
    servers.close()


def wait_refuses(servers: Servers) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(servers.primary.dsn).close()
        except psycopg.OperationalError:
            return
        assert time.monotonic() < deadline, "it takes connections"
        time.sleep(0.01)


def test_one_that_ended_is_started(servers: Servers) -> None:
    servers.primary.stop("immediate")

    assert not servers.recover(PATIENCE)
    assert servers.primary.query("SELECT 1") == [(1,)]


def test_one_that_hangs_is_ended_first(servers: Servers) -> None:
    with psycopg.connect(servers.primary.dsn, autocommit=True):
        pid = servers.primary.pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)  # it waits for this session
        wait_refuses(servers)

        assert servers.recover(patience=0.5)
    assert servers.primary.pid != pid
    assert servers.primary.query("SELECT 1") == [(1,)]
