"""The state's own session with a server that is silent, or lets go of it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import psycopg
import pytest
from rig.proxy import Proxy
from rig.server import Server
from rig.workers import worker_env

from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.errors import ServerUnavailable
from ansible_rulebook.ha.lease import Timings
from ansible_rulebook.ha.log import WorkerLog
from ansible_rulebook.ha.options import HaOptions
from ansible_rulebook.ha.progress import Info
from ansible_rulebook.ha.state import StateStore
from ansible_rulebook.ha.state_database import StateDatabase

pytest.importorskip(
    "ansible_rulebook.persistence", reason="upstream keeps state from 1.3 on"
)

LIMIT = 30.0  # seconds; what takes longer than that has failed
HA_UUID = uuid.UUID("5f0c7a52-3d0f-4f0e-9a57-0a6f0d3c1b11")
MATCH = (
    "INSERT INTO drools_ansible_matching_event (me_uuid, ha_uuid, rule_name)"
    " VALUES (%s, %s, 'rule')"
)


class NoRecords:
    """Nobody asks for the progress of actions here."""

    def read(self, ruleset: str, match: str, index: int) -> Info:
        raise AssertionError

    def write(
        self, ruleset: str, match: str, index: int, info: Info, new: bool
    ) -> None:
        raise AssertionError


@pytest.fixture(scope="module")
def tables(server: Server) -> Iterator[str]:
    made = server.create_database()
    subprocess.run(
        [sys.executable, "-m", "ansible_rulebook.ha.init_db", "init-db"],
        env=worker_env({"EDA_HA_POSTGRES_DSN": made}),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    yield made
    server.drop_database(made)


def make_match(dsn: str) -> str:
    """A match that waits for its actions."""
    match = str(uuid.uuid4())
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(MATCH, (match, str(HA_UUID)))
    return match


def is_stored(dsn: str, match: str) -> bool:
    with psycopg.connect(dsn, autocommit=True) as session:
        found = session.execute(
            "SELECT 1 FROM drools_ansible_matching_event WHERE me_uuid = %s",
            (match,),
        ).fetchone()
    return found is not None


def fail(error: Exception) -> None:
    raise AssertionError(f"nothing was written: {error}")


def make_store(dsn: str) -> StateStore:
    options = HaOptions(
        dsn=dsn, ha_uuid=HA_UUID, poll_interval=1.0, lease_duration=3.0
    )
    log = WorkerLog(logging.getLogger("test"), "w1", HA_UUID)
    return StateStore(options, "w1", NoRecords(), log, fail)


async def until(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline, why
        await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_the_end_of_a_term_does_not_wait_for_a_silent_server(
    tables: str, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(tables)
    match = make_match(tables)
    store = make_store(network.dsn)
    try:
        assert await store.survey()
        network.hold_to_server()
        store.completed(match)
        await asyncio.wait_for(store.retire(), LIMIT)
        await until(lambda: store.unrecorded == 1, "it knows what is left")
        assert is_stored(tables, match)

        # The next end of a term, or the next match, makes up for it.
        network.cut()
        network.hear()
        await asyncio.wait_for(store.retire(), LIMIT)
        assert store.unrecorded == 0
        assert not is_stored(tables, match)
    finally:
        network.hear()
        store.close()


@pytest.mark.asyncio
async def test_completed_matches_are_recorded_in_the_order_that_they_come(
    server: Server, tables: str
) -> None:
    matches = [make_match(tables) for _ in range(50)]
    store = make_store(tables)
    try:
        for match in matches:
            store.completed(match)
            await asyncio.sleep(0)
        await until(lambda: not store.unrecorded, "all are on their way")
        await store.retire()
        assert not any(is_stored(tables, match) for match in matches)
        # Its session was ended: another one, and none is forgotten.
        late = make_match(tables)
        assert server.terminate("eda-state:%", dsn=tables)
        store.completed(late)
        await until(lambda: not is_stored(tables, late), "it is recorded")
    finally:
        store.close()


@pytest.mark.asyncio
async def test_a_completed_match_is_recorded_though_none_comes_after_it(
    tables: str,
    proxy: Callable[..., Proxy],
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = proxy(tables)
    match = make_match(tables)
    store = make_store(network.dsn)
    try:
        assert await store.survey()
        network.refuse()
        network.cut()
        store.completed(match)
        await until(lambda: "not be recorded yet" in caplog.text, "it fails")
        assert is_stored(tables, match)
        network.hear()
        await until(lambda: not is_stored(tables, match), "it is recorded")
        assert caplog.text.count("not be recorded yet") == 1
    finally:
        network.hear()
        store.close()


def test_who_waits_for_a_silent_server_can_be_called_off(
    tables: str, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(tables)
    database = StateDatabase(
        Conninfo(network.dsn), HA_UUID, "writer", "w1", Timings(1.0, 3.0)
    )
    with ThreadPoolExecutor(1) as thread:
        try:
            assert database.survey().is_complete
            network.deaf()
            asked = thread.submit(database.survey)
            # Whether it waits by now or is about to, it must come back.
            deadline = time.monotonic() + LIMIT
            while not asked.done():
                assert time.monotonic() < deadline
                database.abort()
                time.sleep(0.01)
            with pytest.raises(ServerUnavailable):
                asked.result()
            network.hear()
            assert database.survey().is_complete
        finally:
            network.hear()
            database.close()


@pytest.mark.asyncio
async def test_who_goes_on_without_state_waits_for_nothing(
    tables: str,
) -> None:
    store = make_store(tables)
    assert await store.survey()
    await store._begin_flushes().open()
    assert store.wrote() is not None
    store.recorded()
    store.close()  # before an answer can be there
    assert store.last_write() is None
    assert await asyncio.wait_for(store.record_is_safe(), LIMIT)
