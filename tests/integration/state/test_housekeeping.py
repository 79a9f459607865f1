"""What a leader takes out of the tables, and what it leaves there."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Callable

import pytest
from clusters import (
    Cluster,
    Leader,
    create_tables,
    is_durable,
    state_session,
    until,
)
from rig.proxy import Proxy
from rig.server import Server

from ansible_rulebook.ha.state import housekeeping, sql
from ansible_rulebook.ha.state.changes import Found, Kept
from ansible_rulebook.ha.state.housekeeping import Housekeeping

NAME = "housekeeping"
Make = Callable[[str], Cluster]


@pytest.fixture
def tables(dsn: str) -> str:
    """Abandoned clusters are anybody's, so each test has a database."""
    create_tables(dsn)
    return dsn


def keeper(cluster: Cluster, dsn: str | None = None) -> Housekeeping:
    session = state_session(dsn or cluster.dsn, NAME)
    made = Housekeeping(session, str(cluster.uuid))
    cluster.stack.callback(made._session.close)
    cluster.stack.callback(made.end)
    return made


def terms(cluster: Cluster) -> list[int]:
    found = cluster.query(
        f"SELECT term FROM {sql.HISTORY} WHERE ha_uuid = %(ha_uuid)s"
        " ORDER BY term"
    )
    return [term for (term,) in found]


def rows(cluster: Cluster) -> int:
    """What is stored of a cluster, apart from its term."""
    count = 0
    for table in sql.CONTENT:
        ((found,),) = cluster.query(
            f"SELECT count(*) FROM {table} WHERE ha_uuid = %(ha_uuid)s"
        )
        count += found
    return count


def led(cluster: Cluster, days_ago: int) -> None:
    cluster.query(
        f"UPDATE {sql.CLUSTER} SET led_at = now() - %(days)s * interval '1d'"
        " WHERE ha_uuid = %(ha_uuid)s",
        days=days_ago,
    )


def led_lately(cluster: Cluster) -> bool:
    ((found,),) = cluster.query(
        f"SELECT led_at > now() - interval '1h' FROM {sql.CLUSTER}"
        " WHERE ha_uuid = %(ha_uuid)s"
    )
    return bool(found)


async def fill(cluster: Cluster) -> int:
    """Have something in every table; how many rows."""
    leader = Leader(cluster.worker("a"))
    changes, match = leader.journal.changes, uuid.uuid4().bytes
    changes.ruleset("rules", Kept("digest", True))
    changes.found(Found(match, "rules", "rule", "{}"))
    changes.action(match, 0, "{}")
    assert await is_durable(leader.write(*range(5)))
    leader.end()
    return rows(cluster)


def test_the_history_of_the_cluster_is_cut(
    tables: str, make_cluster: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "TERMS", 3)
    cluster, other = make_cluster(tables), make_cluster(tables)
    for each in (cluster, other):
        for _ in range(5):
            each.claim("a")
    assert not keeper(cluster).tidy(5)
    assert terms(cluster) == [3, 4, 5]
    assert terms(other) == [1, 2, 3, 4, 5]
    # An ex-leader that has not heard of it cuts less.
    assert not keeper(cluster).tidy(4)
    assert terms(cluster) == [3, 4, 5]


@pytest.mark.asyncio
async def test_abandoned_clusters_are_purged_in_portions(
    tables: str, make_cluster: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "PORTION", 4)
    cluster, live = make_cluster(tables), make_cluster(tables)
    gone = [make_cluster(tables), make_cluster(tables)]
    (size,) = {await fill(each) for each in (cluster, live, *gone)}
    led(live, housekeeping.ABANDONED_AFTER - 1)
    for each in gone:
        led(each, housekeeping.ABANDONED_AFTER + 1)
    ours = keeper(cluster)
    left = 2 * size
    while ours.tidy(1):
        now = sum(map(rows, gone))
        assert left - 4 <= now < left
        left = now
    assert left == 0
    assert rows(cluster) == rows(live) == size
    # All have their terms, which go on rising.
    assert [each.claim("b").term for each in (cluster, live, *gone)] == [2] * 4
    assert live.claim("c").retained == {"rules": 5}


@pytest.mark.asyncio
async def test_nobody_is_abandoned_whose_lock_is_held(
    tables: str,
    make_cluster: Make,
) -> None:
    # Its leader had no session for its housekeeping, or a clock was wrong.
    cluster, other = make_cluster(tables), make_cluster(tables)
    size = await fill(cluster)
    await fill(other)
    led(other, housekeeping.ABANDONED_AFTER + 1)
    with other.holder():
        ours = keeper(cluster)
        assert ours.tidy(1)
        assert not ours.tidy(1)
        assert rows(other) == size
        assert led_lately(other)


@pytest.mark.asyncio
async def test_nobody_is_abandoned_whose_inbox_is_in_use(
    tables: str, make_cluster: Make
) -> None:
    # Its workers keep no state, or are down while somebody posts.
    cluster, other = make_cluster(tables), make_cluster(tables)
    size = await fill(other)
    cluster.claim("a")
    led(other, housekeeping.ABANDONED_AFTER + 1)
    other.query(f"SELECT {sql.POST}(%(ha_uuid)s, 'orders', '{{}}')")
    ours = keeper(cluster)
    assert not ours.tidy(1)
    assert rows(other) == size + 1
    other.query(
        f"UPDATE {sql.INBOX} SET arrived = arrived - interval '31 days'"
        " WHERE ha_uuid = %(ha_uuid)s"
    )
    while ours.tidy(1):
        pass
    assert rows(other) == 0


@pytest.mark.asyncio
async def test_the_leader_itself_is_there(cluster: Cluster) -> None:
    size = await fill(cluster)
    led(cluster, housekeeping.ABANDONED_AFTER + 1)
    assert not keeper(cluster).tidy(1)
    assert led_lately(cluster)
    assert rows(cluster) == size


@pytest.mark.asyncio
async def test_who_led_before_does_not_count(cluster: Cluster) -> None:
    await fill(cluster)
    assert cluster.claim("b").term == 2
    led(cluster, 3)
    assert not keeper(cluster).tidy(1)
    assert not led_lately(cluster)
    assert not keeper(cluster).tidy(2)
    assert led_lately(cluster)


@pytest.mark.asyncio
async def test_an_abandoned_cluster_that_somebody_claims_is_left_alone(
    tables: str,
    make_cluster: Make,
) -> None:
    cluster, other = make_cluster(tables), make_cluster(tables)
    size = await fill(other)
    cluster.claim("a")
    led(other, housekeeping.ABANDONED_AFTER + 1)
    claiming = other.session()
    with claiming.transaction():
        claiming.execute(sql.LOCK_TERM, {"ha_uuid": other.uuid})
        assert not keeper(cluster).tidy(1)
    assert rows(other) == size


@pytest.mark.asyncio
async def test_it_is_done_while_the_term_lasts(
    server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "TERMS", 1)
    monkeypatch.setattr(housekeeping, "FIRST_AFTER", 0.02)
    monkeypatch.setattr(housekeeping, "EVERY", 0.02)
    for _ in range(3):
        cluster.claim("a")
    ours = keeper(cluster)
    ours.begin(3)
    await until(lambda: terms(cluster) == [3], "it is tidied")
    cluster.claim("a")
    ours.begin(4)
    await until(lambda: terms(cluster) == [4], "once more")
    # It keeps no session from one time to the next.
    monkeypatch.setattr(housekeeping, "EVERY", 3600.0)
    await until(
        lambda: not server.sessions(NAME, dsn=cluster.dsn), "it is closed"
    )
    ours.end()
    ours.end()


@pytest.mark.asyncio
async def test_nothing_is_done_once_the_term_is_over(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "TERMS", 1)
    monkeypatch.setattr(housekeeping, "FIRST_AFTER", 0.02)
    for _ in range(3):
        cluster.claim("a")
    ours = keeper(cluster)
    ours.begin(3)
    ours.end()
    await asyncio.sleep(0.1)
    assert terms(cluster) == [1, 2, 3]


@pytest.mark.asyncio
async def test_what_fails_is_done_another_time(
    cluster: Cluster,
    proxy: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(housekeeping, "TERMS", 1)
    monkeypatch.setattr(housekeeping, "FIRST_AFTER", 0.01)
    monkeypatch.setattr(housekeeping, "EVERY", 0.01)
    for _ in range(3):
        cluster.claim("a")
    network = proxy(cluster.dsn)
    network.refuse()
    ours = keeper(cluster, network.dsn)
    caplog.set_level(logging.DEBUG, "ansible_rulebook.ha")
    ours.begin(3)
    await until(lambda: "Tidying up failed" in caplog.text, "it fails")
    assert terms(cluster) == [1, 2, 3]
    network.hear()
    await until(lambda: terms(cluster) == [3], "it is tidied")
