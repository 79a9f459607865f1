"""Claims of terms, and what the fence lets in; each worker is a session."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable

import psycopg
import pytest
from clusters import (
    LIMIT,
    Cluster,
    Leader,
    Session,
    Worker,
    create_tables,
    is_durable,
    until,
    wait_until,
)
from psycopg.conninfo import make_conninfo
from rig.proxy import Proxy
from rig.server import Server

from ansible_rulebook.ha.engine.bridge import Answer, Record, packed
from ansible_rulebook.ha.errors import (
    HaError,
    LeadershipLost,
    ServerUnavailable,
    StateFenced,
)
from ansible_rulebook.ha.state import sql, terms
from ansible_rulebook.ha.state.changes import Found, Kept
from ansible_rulebook.ha.state.housekeeping import Housekeeping
from ansible_rulebook.ha.state.names import key_of, key_of_ruleset
from ansible_rulebook.ha.state.terms import Claim, Pending

LONG = 60.0  # seconds of patience where a test wants to see the waiting

HOLD = f"SELECT FROM {sql.CLUSTER} WHERE ha_uuid = %s FOR SHARE"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No writer is ended, however long it takes."""
    monkeypatch.setattr(terms, "CLAIM_PATIENCE", LONG)


def hold(session: Session, cluster: Cluster) -> None:
    """Be amid a write, as far as the row of the term tells."""
    session.execute("BEGIN")
    session.execute(HOLD, (cluster.uuid,))


# -- the claim -------------------------------------------------------------


def test_each_claim_of_any_worker_raises_the_term(cluster: Cluster) -> None:
    claims = [cluster.claim(name) for name in ("a", "bé", "a", "a")]
    assert [claim.term for claim in claims] == [1, 2, 3, 4]
    assert [claim.last_worker for claim in claims] == ["", "a", "bé", "a"]


def test_one_worker_claims_again_with_the_same_session(
    cluster: Cluster,
) -> None:
    worker = cluster.worker("a")
    assert [worker.claim().term for _ in range(3)] == [1, 2, 3]


def test_claims_at_one_time_get_terms_one_after_the_other(
    cluster: Cluster, thread: ThreadPoolExecutor, patient: None
) -> None:
    ready = threading.Barrier(6)

    def claim(name: str, holder: int) -> list[int]:
        worker = cluster.worker(name)
        ready.wait(LIMIT)
        return [worker.terms.claim(holder, []).term for _ in range(10)]

    with cluster.holder() as holder:
        names = [f"w{i}" for i in range(6)]
        found = list(thread.map(claim, names, [holder] * 6))
    assert all(numbers == sorted(numbers) for numbers in found)
    together = sorted(number for numbers in found for number in numbers)
    assert together == list(range(1, 61))


def test_who_does_not_hold_the_lock_cannot_claim(
    cluster: Cluster, thread: ThreadPoolExecutor
) -> None:
    leader, late = cluster.worker("leader"), cluster.worker("late")
    assert leader.claim().term == 1
    stranger = cluster.session("lock")
    stranger.execute("SELECT pg_advisory_lock(%s)", (cluster.key + 1,))
    # A session, but no lock; a lock, but another one; no such session.
    for holder in (
        cluster.session().info.backend_pid,
        stranger.info.backend_pid,
        0,
    ):
        with pytest.raises(LeadershipLost):
            late.terms.claim(holder, [])
    # It waits for the lock, and has not got it.
    with cluster.holder():
        waiter = cluster.session("lock")
        asked = thread.submit(
            waiter.execute, "SELECT pg_advisory_lock(%s)", (cluster.key,)
        )
        wait_until(lambda: cluster.waiting("advisory"), "it waits")
        with pytest.raises(LeadershipLost):
            late.terms.claim(waiter.info.backend_pid, [])
        waiter.cancel()
        assert asked.exception(LIMIT)
    # None of them has fenced off the leader, or counted.
    leader.terms.reopen(1).close()
    assert cluster.claim("next").term == 2


@pytest.mark.asyncio
async def test_a_claim_tells_the_last_marks_of_ended_terms(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    first = leader.write(1)
    assert await is_durable(first)
    second = leader.write(2)
    assert await is_durable(second)
    leader.end()
    # A term without a transaction ends where it began.
    assert cluster.claim("b").last_marks == {}
    leader = Leader(cluster.worker("c"))
    assert leader.claim.mark == second.number
    third = leader.write(3)
    assert third.number == second.number + 1
    assert await is_durable(third)
    claim = cluster.worker("d").claim([0, 1, 2, 3, 4, 5])
    assert claim.term == 4
    assert claim.mark == third.number
    assert claim.last_marks == {
        0: 0,
        1: second.number,
        2: second.number,
        3: third.number,
    }


@pytest.mark.asyncio
async def test_marks_rise_though_the_transactions_are_forgotten(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    assert await is_durable(leader.write(1))
    last = cluster.claim("b").mark
    assert last == leader.journal.durable
    cluster.query(f"DELETE FROM {sql.COMMIT} WHERE ha_uuid = %(ha_uuid)s")
    assert cluster.claim("c").mark == last


@pytest.mark.asyncio
async def test_a_claim_reads_what_was_written(cluster: Cluster) -> None:
    leader = Leader(cluster.worker("a"))
    matches = [uuid.uuid4() for _ in range(3)]
    keys = [key_of("r", {"meta": {"uuid": str(n)}}) or b"" for n in range(3)]
    odd = "Ré\N{PILE OF POO}\\u0041\0'\""
    key = key_of_ruleset(odd)
    records = [
        Record(2, "F", 1700000000000, 10, '{"a": "\\u0000"}'),
        Record(9, "E", 1700000000001, -1, "{}"),
        Record(10, "C", 1700000000002, -1, "[]"),
    ]
    changes = leader.journal.changes
    changes.ruleset(odd, Kept("digest", True))
    changes.ruleset("plain", Kept("other", False))
    changes.answer(odd, Answer(kept=records[::-1]))
    changes.answer("plain", Answer(kept=records[:1]))
    for match, rule in zip(matches, (odd, "one", "two")):
        changes.found(Found(match.bytes, odd, rule, json.dumps(rule)))
    changes.action(matches[0].bytes, 0, "first")
    changes.action(matches[0].bytes, 1, "second")
    changes.event(keys[0])
    changes.event(keys[1])
    leader.journal.wrote()
    assert await is_durable(leader.journal.last())
    leader.journal.changes.event(keys[2])
    leader.journal.wrote()
    assert await is_durable(leader.journal.last())
    claim = cluster.claim("b")
    assert 0 <= time.time() - claim.began / 1000 < LIMIT
    assert claim == Claim(
        term=2,
        mark=2,
        began=claim.began,
        last_worker="a",
        last_marks={},
        rulesets={key: Kept("digest", True), "plain": Kept("other", False)},
        records={key: packed(records), "plain": packed(records[:1])},
        retained={key: 3, "plain": 1},
        matches=[
            Pending(str(match), key, rule, json.dumps(rule))
            for match, rule in zip(matches, (odd, "one", "two"))
        ],
        actions={
            (str(matches[0]), 0): "first",
            (str(matches[0]), 1): "second",
        },
        events=keys,
    )


def test_whether_there_is_state_can_be_asked_without_a_claim(
    cluster: Cluster,
) -> None:
    worker = cluster.worker("a")
    assert not worker.terms.keeps_state()
    worker.claim()
    assert worker.terms.keeps_state()
    # Where there are no tables, there is none.
    cluster.dsn = make_conninfo(cluster.dsn, options="-csearch_path=nowhere")
    assert not cluster.worker("b").terms.keeps_state()


# -- who may write ---------------------------------------------------------


@pytest.mark.asyncio
async def test_an_ex_leader_writes_nothing_more(cluster: Cluster) -> None:
    ex = Leader(cluster.worker("ex"))
    assert await is_durable(ex.write(1, 2))
    new = Leader(cluster.worker("new"))
    stale = ex.write(3)
    assert not await is_durable(stale)
    (failure,) = ex.failures
    assert isinstance(failure, StateFenced)
    assert stale.is_surely_lost
    assert cluster.numbers() == [1, 2]
    assert cluster.marks() == [1]
    # The same is the new leader's to do.
    assert await is_durable(new.write(3))
    assert cluster.numbers() == [1, 2, 3]
    assert cluster.marks() == [1, 2]
    assert not new.failures


@pytest.mark.asyncio
async def test_an_ex_leader_gets_no_other_session(cluster: Cluster) -> None:
    ex = Leader(cluster.worker("ex"))
    assert await is_durable(ex.write(1))
    cluster.claim("new")
    cluster.query(f"SELECT pg_terminate_backend({ex.backend})")
    await until(lambda: ex.failures, "it is told")
    assert isinstance(ex.failures[0], StateFenced)
    assert ex.journal.is_over
    assert ex.write(2).is_surely_lost
    with pytest.raises(StateFenced):
        cluster.worker("ex").terms.reopen(1)


@pytest.mark.asyncio
async def test_two_clusters_in_one_database_do_not_disturb_each_other(
    tables: str, make_cluster: Callable[[str], Cluster], patient: None
) -> None:
    one, other = make_cluster(tables), make_cluster(tables)
    first, second = Leader(one.worker("w1")), Leader(other.worker("w2"))
    assert first.claim.term == second.claim.term == 1
    # A write of one that is under way holds up no claim of the other.
    busy = one.session()
    hold(busy, one)
    third = Leader(other.worker("w4"))
    assert third.claim.term == 2
    assert not await is_durable(second.write(1))
    assert isinstance(second.failures[0], StateFenced)
    assert await is_durable(first.write(1))
    assert await is_durable(third.write(1, 2))
    busy.execute("COMMIT")
    assert one.numbers() == [1]
    assert other.numbers() == [1, 2]
    assert not third.claim.records
    assert one.claim("w5").retained == {"rules": 1}


# -- writes under way ------------------------------------------------------


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
@pytest.mark.asyncio
async def test_a_claim_waits_for_a_transaction_under_way_and_reads_it(
    cluster: Cluster,
    thread: ThreadPoolExecutor,
    patient: None,
    isolation: str,
) -> None:
    # Whatever the role's or the database's default is.
    value = isolation.replace(" ", "\\ ")
    cluster.dsn = make_conninfo(
        cluster.dsn, options=f"-c default_transaction_isolation={value}"
    )
    ex = Leader(cluster.worker("ex"))
    with cluster.held():
        mark = ex.write(1)
        await until(lambda: cluster.waiting("relation"), "the write waits")
        claim = thread.submit(cluster.claim, "new")
        await until(lambda: len(cluster.waiting()) == 2, "the claim waits")
        assert not claim.done()
    found = claim.result(LIMIT)
    assert found.term == 2
    # Written before the new leader reads, and the last of it.
    assert found.retained == {"rules": 1}
    assert found.mark == mark.number
    assert await is_durable(mark)
    assert not await is_durable(ex.write(2))
    assert cluster.numbers() == [1]


def test_a_claim_that_lost_its_lock_while_it_waited_is_void(
    cluster: Cluster, thread: ThreadPoolExecutor, patient: None
) -> None:
    ex, late = cluster.worker("ex"), cluster.worker("late")
    ex.claim()
    writer = ex.writer()
    hold(writer, cluster)
    with cluster.holder() as holder:
        claim = thread.submit(late.terms.claim, holder, [])
        wait_until(cluster.waiting, "the claim waits")
    writer.execute("COMMIT")
    with pytest.raises(LeadershipLost):
        claim.result(LIMIT)
    assert cluster.claim("new").term == 2


def test_a_writer_that_does_not_end_is_ended(cluster: Cluster) -> None:
    ex = cluster.worker("ex")
    ex.claim()
    writer, idle = ex.writer(), cluster.session("state-ex")
    hold(writer, cluster)
    assert cluster.claim("new").term == 2
    with pytest.raises(psycopg.OperationalError):
        writer.execute("COMMIT")
    idle.execute("SELECT")  # only the writer's session is ended


def test_the_session_that_took_over_a_term_is_ended_as_well(
    cluster: Cluster,
) -> None:
    ex = cluster.worker("ex")
    term = ex.claim().term
    ex.writer().close()
    with contextlib.closing(ex.terms.reopen(term)) as writer:
        hold(writer, cluster)
        assert cluster.claim("new").term == 2
        with pytest.raises(psycopg.OperationalError):
            writer.execute("COMMIT")


def test_a_session_with_the_number_of_an_earlier_one_is_not_ended(
    cluster: Cluster,
) -> None:
    # The server's processes are numbered anew after a while.
    cluster.claim("ex")
    somebody = cluster.session()
    cluster.query(
        f"UPDATE {sql.CLUSTER} SET writer_pid = %(pid)s"
        " WHERE ha_uuid = %(ha_uuid)s",
        pid=somebody.info.backend_pid,
    )
    with cluster.holder() as holder:
        cluster.worker("new").terms._end_writer(holder)
    somebody.execute("SELECT")


def amid_claim(worker: Worker) -> object:
    lock = worker.cluster.session("lock")
    lock.execute("SELECT pg_advisory_lock(%s)", (worker.cluster.key,))
    return worker.terms.claim(lock.info.backend_pid, [])


def amid_reopening(worker: Worker) -> object:
    return worker.terms.reopen(1)


def amid_tidying(worker: Worker) -> object:
    return Housekeeping(worker.session, str(worker.cluster.uuid)).tidy(1)


@pytest.mark.parametrize("work", [amid_claim, amid_reopening, amid_tidying])
def test_a_worker_that_is_paused_with_the_row_does_not_stop_the_next_one(
    cluster: Cluster,
    thread: ThreadPoolExecutor,
    proxy: Callable[..., Proxy],
    work: Callable[[Worker], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(terms, "CLAIM_PATIENCE", LONG)
    cluster.claim("ex")
    network = proxy(cluster.dsn)
    somebody = cluster.session()
    hold(somebody, cluster)
    paused: Future[Any] = thread.submit(
        work, cluster.worker("paused", network.dsn)
    )
    wait_until(cluster.waiting, "it wants the row")
    network.hold_from_server()
    somebody.execute("COMMIT")
    # The server waits for what it says next, and it says nothing.
    wait_until(
        lambda: cluster.query(
            "SELECT pid FROM pg_stat_activity"
            " WHERE state = 'idle in transaction'"
            " AND datname = current_database()"
        ),
        "it has the row",
    )
    monkeypatch.undo()
    # It is so for long enough to lose the lock as well.
    cluster.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'lock' AND datname = current_database()"
    )
    assert cluster.claim("new").term == 2
    network.hear()
    assert isinstance(paused.exception(LIMIT), HaError)
    assert cluster.claim("next").term == 3


def test_who_does_not_hold_the_lock_ends_nobody(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "CLAIM_PATIENCE", 0.01)
    leader = cluster.worker("leader")
    leader.claim()
    writer = leader.writer()
    hold(writer, cluster)
    late = cluster.worker("late")
    with pytest.raises(HaError):
        late.terms.claim(cluster.session().info.backend_pid, [])
    writer.execute("COMMIT")


def test_who_cannot_be_ended_stops_the_promotion_not_the_fence(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "CLAIM_PATIENCE", 0.01)
    ex = cluster.worker("ex")
    ex.claim()
    # A person with psql: no writer of a term, so nobody ends it.
    somebody = cluster.session("psql")
    hold(somebody, cluster)
    with pytest.raises(ServerUnavailable, match="locked"):
        cluster.claim("new")
    somebody.execute("COMMIT")
    ex.terms.reopen(1).close()  # still the leader
    assert cluster.claim("new").term == 2


def test_a_writer_of_another_role_is_waited_for(
    server: Server,
    dsn: str,
    make_cluster: Callable[[str], Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Workers of one cluster have two roles, and may not end each other.
    create_tables(dsn)
    role = f"other_{uuid.uuid4().hex[:8]}"
    server.query(f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'", dsn=dsn)
    for table in sql.PRIVILEGES:
        server.query(f"GRANT ALL ON {table} TO {role}", dsn=dsn)
    try:
        mine = make_cluster(dsn)
        ex = mine.worker("ex")
        other = mine.worker(
            "new", make_conninfo(dsn, user=role, password="sesame")
        )
        ex.claim()
        writer = ex.writer()
        hold(writer, mine)
        monkeypatch.setattr(terms, "CLAIM_PATIENCE", 0.01)
        with pytest.raises(ServerUnavailable):
            other.claim()
        writer.execute("COMMIT")
        assert other.claim().term == 2
        with pytest.raises(StateFenced):
            ex.terms.reopen(1)
        other.terms.reopen(2).close()
    finally:
        server.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE usename = '{role}'"
        )
        server.query(f"DROP OWNED BY {role}", dsn=dsn)
        server.query(f"DROP ROLE {role}", dsn=dsn)


# -- other schemas ---------------------------------------------------------


async def lead_twice(cluster: Cluster) -> None:
    ex = Leader(cluster.worker("ex"))
    assert await is_durable(ex.write(1))
    new = Leader(cluster.worker("new"))
    assert new.claim.retained == {"rules": 1}
    assert not await is_durable(ex.write(2))
    assert isinstance(ex.failures[0], StateFenced)
    assert await is_durable(new.write(3))
    assert cluster.numbers() == [1, 3]


@pytest.mark.asyncio
async def test_tables_in_another_schema(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    for schema in ("one", '"Two; x"'):
        server.query(f"CREATE SCHEMA {schema}", dsn=dsn)
        path = f"-c search_path={schema.replace(' ', chr(92) + ' ')}"
        cluster = make_cluster(make_conninfo(dsn, options=path))
        create_tables(cluster.dsn)
        await lead_twice(cluster)
    made = server.query(
        "SELECT DISTINCT schemaname FROM pg_tables"
        " WHERE tablename LIKE 'eda_ha_%' ORDER BY 1",
        dsn=dsn,
    )
    assert made == [("Two; x",), ("one",)]


@pytest.mark.asyncio
async def test_tables_found_behind_the_first_schema(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    create_tables(dsn)
    server.query("CREATE SCHEMA mine", dsn=dsn)
    path = make_conninfo(dsn, options="-c search_path=mine,public")
    create_tables(path)  # has nothing to do
    await lead_twice(make_cluster(path))
    made = server.query(
        "SELECT DISTINCT schemaname FROM pg_tables"
        " WHERE tablename LIKE 'eda_ha_%'",
        dsn=dsn,
    )
    assert made == [("public",)]
