"""The fence in the database, with writers that are plain sessions.

They write what Drools writes; the tables are those that init-db makes.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import psycopg
import pytest
from ansible_rulebook.ha.state_database import Claim, StateDatabase
from psycopg.conninfo import make_conninfo
from rig.server import Server
from rig.workers import worker_env

from ansible_rulebook.ha import state_database, state_sql
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.errors import (
    LeadershipLost,
    ServerUnavailable,
    StateFenced,
)
from ansible_rulebook.ha.lease import Timings
from ansible_rulebook.ha.lock import lock_key

pytest.importorskip(
    "ansible_rulebook.persistence", reason="upstream keeps state from 1.3 on"
)

LIMIT = 30.0  # seconds; what takes longer than that has failed
LONG = 60.0  # seconds of patience where a test wants to see the waiting
FENCED = state_sql.FENCED

Session = psycopg.Connection[Any]

SESSION = (
    "INSERT INTO drools_ansible_session_state"
    " (ha_uuid, rule_set_name, rulebook_hash, current_state_sha)"
    " VALUES (%(ha_uuid)s, 'rules', 'hash', %(text)s)"
    " ON CONFLICT (ha_uuid, rule_set_name)"
    " DO UPDATE SET current_state_sha = EXCLUDED.current_state_sha"
)
EVENT = (
    "INSERT INTO drools_ansible_event_record (ha_uuid, rule_set_name,"
    " record_identifier, inserted_at, record_sequence, record_type,"
    " event_json, event_record_sha)"
    " VALUES (%(ha_uuid)s, 'rules', %(id)s, 0, 0, 'EVENT', %(text)s, 'sha')"
)
MATCH = (
    "INSERT INTO drools_ansible_matching_event"
    " (me_uuid, ha_uuid, rule_set_name, rule_name, event_data)"
    " VALUES (%(id)s, %(ha_uuid)s, 'rules', 'rule', %(text)s)"
)
ACTION = (
    "INSERT INTO drools_ansible_action_info"
    " (id, ha_uuid, me_uuid, index, action_data)"
    " VALUES (%(other)s, %(ha_uuid)s, %(match)s, 0, %(text)s)"
)
# By table: how a row is made, and which column says what it holds.
WRITES = {
    "drools_ansible_session_state": (SESSION, "current_state_sha"),
    "drools_ansible_event_record": (EVENT, "event_json"),
    "drools_ansible_matching_event": (MATCH, "event_data"),
    "drools_ansible_action_info": (ACTION, "action_data"),
}


@pytest.fixture(scope="module")
def tables(server: Server) -> Iterator[str]:
    """A database with the tables. Each test has clusters of its own in it."""
    made = server.create_database()
    init_db(made)
    yield made
    server.drop_database(made)


def init_db(dsn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ansible_rulebook.ha.init_db", "init-db"],
        env=worker_env({"EDA_HA_POSTGRES_DSN": dsn}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


class Cluster:
    """One UUID; its workers are sessions of this process."""

    def __init__(self, dsn: str, stack: contextlib.ExitStack) -> None:
        self.dsn = dsn
        self.uuid = uuid.uuid4()
        self.key = lock_key(self.uuid)
        self._stack = stack

    def session(self, name: str = "test") -> Session:
        dsn = make_conninfo(self.dsn, application_name=name)
        session = self._stack.enter_context(
            contextlib.closing(psycopg.connect(dsn, autocommit=True))
        )
        session.execute(f"SET statement_timeout = '{LONG}s'")
        return session

    @contextlib.contextmanager
    def holder(self) -> Iterator[int]:
        """A session that holds the cluster's lock; its process id."""
        session = self.session("lock")
        session.execute("SELECT pg_advisory_lock(%s)", (self.key,))
        try:
            yield session.info.backend_pid
        finally:
            session.close()

    def database(self, writer: str) -> StateDatabase:
        return self._stack.enter_context(
            contextlib.closing(
                StateDatabase(
                    Conninfo(self.dsn), self.uuid, writer, writer, Timings()
                )
            )
        )

    def claim(self, writer: str) -> int:
        """Make this writer the leader."""
        with self.holder() as holder:
            return self.database(writer).claim(self.key, holder).number

    def values(self, text: str = "") -> dict[str, object]:
        return {
            "ha_uuid": str(self.uuid),
            "id": str(uuid.uuid4()),
            "other": str(uuid.uuid4()),
            "text": text,
        }

    def rows(self) -> dict[str, list[str]]:
        """What the tables hold of this cluster."""
        with self.session() as session:
            return {
                table: [
                    row[0]
                    for row in session.execute(
                        f"SELECT {column} FROM {table} WHERE ha_uuid = %s"
                        " ORDER BY 1",
                        (str(self.uuid),),
                    )
                ]
                for table, (_, column) in WRITES.items()
            }

    def fill(self, session: Session, text: str) -> None:
        """A row in each table."""
        values = self.values(text)
        values["match"] = values["id"]
        for statement, _ in WRITES.values():
            session.execute(statement, values)

    def waiting(self, what: str = "t%") -> list[int]:
        """Sessions that wait for such a lock: a row's by default."""
        with self.session() as session:
            return [
                pid
                for (pid,) in session.execute(
                    "SELECT pid FROM pg_stat_activity"
                    " WHERE datname = current_database()"
                    " AND wait_event_type = 'Lock'"
                    " AND wait_event LIKE %s",
                    (what,),
                )
            ]


@pytest.fixture
def make_cluster() -> Iterator[Callable[[str], Cluster]]:
    with contextlib.ExitStack() as stack:
        yield lambda dsn: Cluster(dsn, stack)


@pytest.fixture
def cluster(tables: str, make_cluster: Callable[[str], Cluster]) -> Cluster:
    return make_cluster(tables)


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as made:
        yield made


def until(what: Callable[[], Any], why: str) -> Any:
    deadline = time.monotonic() + LIMIT
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, why
        time.sleep(0.005)


def refused(session: Session, statement: str, **values: object) -> bool:
    """Whether the fence refused it; another error is an error."""
    try:
        session.execute(statement, values)
    except psycopg.Error as error:
        assert error.sqlstate == FENCED, error
        return True
    return False


# -- the claim -------------------------------------------------------------


def test_each_claim_of_any_worker_raises_the_term(cluster: Cluster) -> None:
    assert [cluster.claim(name) for name in ("a", "b", "a", "a")] == [
        1,
        2,
        3,
        4,
    ]


def test_claims_at_one_time_get_terms_one_after_the_other(
    cluster: Cluster, thread: ThreadPoolExecutor
) -> None:
    ready = threading.Barrier(6)

    def claim(name: str, holder: int) -> list[int]:
        database = cluster.database(name)
        ready.wait(LIMIT)
        return [database.claim(cluster.key, holder).number for _ in range(10)]

    with cluster.holder() as holder:
        names = [f"w{i}" for i in range(6)]
        found = list(thread.map(claim, names, [holder] * 6))
    assert all(numbers == sorted(numbers) for numbers in found)
    together = sorted(number for numbers in found for number in numbers)
    assert together == list(range(1, 61))


def test_who_does_not_hold_the_lock_cannot_claim(
    cluster: Cluster, thread: ThreadPoolExecutor
) -> None:
    assert cluster.claim("leader") == 1
    late = cluster.database("late")
    stranger = cluster.session("lock")
    stranger.execute("SELECT pg_advisory_lock(%s)", (cluster.key + 1,))
    # A session, but no lock; a lock, but another one; no such session.
    for holder in (
        cluster.session().info.backend_pid,
        stranger.info.backend_pid,
        0,
    ):
        with pytest.raises(LeadershipLost):
            late.claim(cluster.key, holder)
    # It waits for the lock, and has not got it.
    with cluster.holder():
        waiter = cluster.session("lock")
        asked = thread.submit(
            waiter.execute, "SELECT pg_advisory_lock(%s)", (cluster.key,)
        )
        until(lambda: cluster.waiting("advisory"), "it waits")
        with pytest.raises(LeadershipLost):
            late.claim(cluster.key, waiter.info.backend_pid)
        waiter.cancel()
        assert asked.exception(LIMIT)
    # None of them has fenced off the leader, or counted.
    cluster.fill(cluster.session("leader"), "still")
    assert cluster.claim("next") == 2


def test_facts_that_were_primed_are_known_to_the_next_leader(
    cluster: Cluster,
) -> None:
    first, second = cluster.database("first"), cluster.database("second")
    with cluster.holder() as holder:
        assert first.claim(cluster.key, holder) == Claim(1, {}, "")
        first.set_primed({"one": "x"})
        first.set_primed({"two": "y"})
        primed = {"one": "x", "two": "y"}
        assert second.claim(cluster.key, holder).primed == primed


# -- who may write ---------------------------------------------------------


@pytest.mark.parametrize("table", WRITES)
def test_an_ex_leader_writes_nothing_more(
    cluster: Cluster, table: str
) -> None:
    statement, column = WRITES[table]
    ex_leader, leader = cluster.session("ex"), cluster.session("new")
    cluster.claim("ex")
    cluster.fill(ex_leader, "of the ex-leader")
    match = cluster.values()["id"]
    ex_leader.execute(MATCH, {**cluster.values("a match"), "id": match})
    before = cluster.rows()

    cluster.claim("new")
    attempts = (
        statement,
        f"UPDATE {table} SET {column} = %(text)s WHERE ha_uuid = %(ha_uuid)s",
        f"DELETE FROM {table} WHERE ha_uuid = %(ha_uuid)s",
    )
    for attempt in attempts:
        values = {**cluster.values("stale"), "match": match}
        assert refused(ex_leader, attempt, **values), attempt
    assert cluster.rows() == before
    # The same is the new leader's to do.
    for attempt in attempts:
        values = {**cluster.values("fresh"), "match": match}
        assert not refused(leader, attempt, **values)


def test_a_refusal_names_the_term_and_no_more_is_let_in_after_it(
    cluster: Cluster,
) -> None:
    ex_leader = cluster.session("ex")
    cluster.claim("ex")
    cluster.claim("new")
    with pytest.raises(psycopg.Error, match="belongs to term 2"):
        cluster.fill(ex_leader, "stale")
    # Within one transaction it is looked at once: that look counts for this
    # cluster and this transaction only.
    cluster.claim("ex")
    with ex_leader.transaction():
        cluster.fill(ex_leader, "one")
    cluster.claim("new")
    assert refused(ex_leader, SESSION, **cluster.values("two"))
    with contextlib.suppress(psycopg.Error), ex_leader.transaction():
        with contextlib.suppress(psycopg.Error), ex_leader.transaction():
            cluster.fill(ex_leader, "three")  # in a savepoint
        cluster.fill(ex_leader, "four")
    assert cluster.rows()["drools_ansible_session_state"] == ["one"]


def test_a_cluster_that_nobody_leads_is_let_through(
    cluster: Cluster,
) -> None:
    # Upstream's own persistence knows nothing of terms.
    upstream = cluster.session("drools-eda-ha")
    cluster.fill(upstream, "one")
    with upstream.transaction():
        upstream.execute(SESSION, cluster.values("two"))
        upstream.execute(
            "DELETE FROM drools_ansible_matching_event WHERE ha_uuid = %s",
            (str(cluster.uuid),),
        )
    assert cluster.rows() == {
        "drools_ansible_session_state": ["two"],
        "drools_ansible_event_record": ["one"],
        "drools_ansible_matching_event": [],
        "drools_ansible_action_info": [],
    }


def test_two_clusters_in_one_database_do_not_disturb_each_other(
    tables: str, make_cluster: Callable[[str], Cluster]
) -> None:
    one, other = make_cluster(tables), make_cluster(tables)
    assert one.claim("w1") == other.claim("w2") == 1
    writer_of_one, writer_of_other = one.session("w1"), other.session("w2")
    # A write of one that is under way holds up no claim of the other.
    with writer_of_one.transaction():
        one.fill(writer_of_one, "one")
        assert other.claim("w3") == 2
        assert refused(writer_of_other, SESSION, **other.values())
    assert one.rows()["drools_ansible_session_state"] == ["one"]
    # What passed for one cluster does not pass for another with it.
    with pytest.raises(psycopg.Error) as caught, writer_of_one.transaction():
        one.fill(writer_of_one, "two")
        writer_of_one.execute(SESSION, other.values("stale"))
    assert caught.value.sqlstate == FENCED
    assert other.rows()["drools_ansible_session_state"] == []


def test_our_own_session_is_fenced_as_well(cluster: Cluster) -> None:
    ex_leader, leader = cluster.database("ex"), cluster.database("new")
    match = cluster.values("a match")
    with cluster.holder() as holder:
        ex_leader.claim(cluster.key, holder)
        cluster.session("ex").execute(MATCH, match)
        cluster.session("ex").execute(SESSION, cluster.values("sha"))
        leader.claim(cluster.key, holder)
        with pytest.raises(StateFenced):
            ex_leader.delete_matches([str(match["id"])])
        with pytest.raises(StateFenced):
            ex_leader.set_session_sha("rules", "stale")
        # The table of terms itself: it knows its own.
        ex_leader.set_primed({"rules": "stale"})
        assert leader.claim(cluster.key, holder).number == 3
    leader.delete_matches([str(match["id"])])
    leader.set_session_sha("rules", "fresh")
    assert cluster.rows()["drools_ansible_session_state"] == ["fresh"]
    assert cluster.rows()["drools_ansible_matching_event"] == []


# -- writes under way ------------------------------------------------------


def test_a_claim_waits_for_a_write_under_way(
    cluster: Cluster,
    thread: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_database, "CLAIM_PATIENCE", LONG)
    cluster.claim("ex")
    ex_leader = cluster.session("ex")
    with ex_leader.transaction():
        cluster.fill(ex_leader, "in time")
        claim = thread.submit(cluster.claim, "new")
        until(cluster.waiting, "the claim waits")
        assert not claim.done()
    assert claim.result(LIMIT) == 2
    # Written before the new leader reads, and the last of it.
    assert cluster.rows()["drools_ansible_event_record"] == ["in time"]
    assert refused(ex_leader, EVENT, **cluster.values("late"))


def test_a_claim_that_lost_its_lock_while_it_waited_is_void(
    cluster: Cluster,
    thread: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_database, "CLAIM_PATIENCE", LONG)
    cluster.claim("ex")
    ex_leader = cluster.session("ex")
    late = cluster.database("late")
    with ex_leader.transaction():
        cluster.fill(ex_leader, "in time")
        with cluster.holder() as holder:
            claim = thread.submit(late.claim, cluster.key, holder)
            until(cluster.waiting, "the claim waits")
    with pytest.raises(LeadershipLost):
        claim.result(LIMIT)
    assert cluster.claim("new") == 2


def test_a_write_that_does_not_end_is_ended(cluster: Cluster) -> None:
    cluster.claim("ex")
    ex_leader = cluster.session("ex")
    idle = cluster.session("somebody else")
    ex_leader.execute("BEGIN")
    cluster.fill(ex_leader, "never committed")
    assert cluster.claim("new") == 2
    with pytest.raises(psycopg.OperationalError):
        ex_leader.execute("COMMIT")
    assert not any(cluster.rows().values())
    idle.execute("SELECT")  # only the writer's sessions are ended


def test_a_write_that_waits_for_a_row_is_refused_when_it_gets_it(
    cluster: Cluster, thread: ThreadPoolExecutor
) -> None:
    cluster.claim("ex")
    ex_leader = cluster.session("ex")
    values = cluster.values("kept")
    ex_leader.execute(EVENT, values)
    somebody = cluster.session()
    somebody.execute("BEGIN")
    somebody.execute(
        "SELECT 1 FROM drools_ansible_event_record"
        " WHERE record_identifier = %(id)s FOR UPDATE",
        values,
    )
    stale = thread.submit(
        refused,
        ex_leader,
        "DELETE FROM drools_ansible_event_record"
        " WHERE record_identifier = %(id)s",
        **values,
    )
    until(cluster.waiting, "the write waits")
    assert cluster.claim("new") == 2
    somebody.execute("COMMIT")
    assert stale.result(LIMIT)
    assert cluster.rows()["drools_ansible_event_record"] == ["kept"]


def test_who_cannot_be_ended_stops_the_promotion_not_the_fence(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_database, "CLAIM_PATIENCE", 0.01)
    cluster.claim("ex")
    # A person with psql: no writer of a term, so nobody ends it.
    somebody = cluster.session("psql")
    somebody.execute("BEGIN")
    somebody.execute(
        "SELECT 1 FROM eda_ha_term WHERE ha_uuid = %s FOR UPDATE",
        (str(cluster.uuid),),
    )
    with pytest.raises(ServerUnavailable, match="locked"):
        cluster.claim("new")
    somebody.execute("COMMIT")
    cluster.fill(cluster.session("ex"), "still the leader")
    assert cluster.claim("new") == 2


def test_a_write_of_another_role_is_waited_for(
    server: Server,
    dsn: str,
    make_cluster: Callable[[str], Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Workers of one cluster have two roles, and may not end each other.
    init_db(dsn)
    role = f"other_{uuid.uuid4().hex[:8]}"
    server.query(f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'", dsn=dsn)
    for table in state_sql.PRIVILEGES:
        server.query(f"GRANT ALL ON {table} TO {role}", dsn=dsn)
    server.query(
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}", dsn=dsn
    )
    try:
        mine = make_cluster(dsn)
        other = make_cluster(make_conninfo(dsn, user=role, password="sesame"))
        other.uuid, other.key = mine.uuid, mine.key
        mine.claim("ex")
        ex_leader = mine.session("ex")
        ex_leader.execute("BEGIN")
        mine.fill(ex_leader, "in time")
        monkeypatch.setattr(state_database, "CLAIM_PATIENCE", 0.01)
        with pytest.raises(ServerUnavailable):
            other.claim("new")
        ex_leader.execute("COMMIT")
        assert other.claim("new") == 2
        assert refused(ex_leader, SESSION, **mine.values("late"))
        other.fill(other.session("new"), "fresh")
    finally:
        server.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE usename = '{role}'"
        )
        server.query(f"DROP OWNED BY {role}", dsn=dsn)
        server.query(f"DROP ROLE {role}", dsn=dsn)


# -- other schemas ---------------------------------------------------------


def test_tables_in_another_schema(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    for schema in ("one", '"Two; x"'):
        server.query(f"CREATE SCHEMA {schema}", dsn=dsn)
        path = f"-c search_path={schema.replace(' ', chr(92) + ' ')}"
        cluster = make_cluster(make_conninfo(dsn, options=path))
        init_db(cluster.dsn)
        cluster.claim("ex")
        ex_leader = cluster.session("ex")
        cluster.fill(ex_leader, schema)
        assert cluster.claim("new") == 2
        assert refused(ex_leader, SESSION, **cluster.values())
        # Whatever the writer's search_path is by then.
        ex_leader.execute("SET search_path = pg_catalog")
        assert refused(
            ex_leader,
            SESSION.replace("drools_", f"{schema}.drools_", 1),
            **cluster.values(),
        )
    made = server.query(
        "SELECT schemaname FROM pg_tables WHERE tablename = 'eda_ha_term'"
        " ORDER BY 1",
        dsn=dsn,
    )
    assert made == [("Two; x",), ("one",)]


def test_tables_found_behind_the_first_schema(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    # Upstream's own persistence has made its tables, without a fence.
    init_db(dsn)
    server.query("DROP TABLE eda_ha_term CASCADE", dsn=dsn)
    server.query("DROP FUNCTION eda_ha_fence() CASCADE", dsn=dsn)
    server.query("CREATE SCHEMA mine", dsn=dsn)
    cluster = make_cluster(
        make_conninfo(dsn, options="-c search_path=mine,public")
    )
    cluster.database("w").create(lambda: None)
    cluster.claim("ex")
    cluster.fill(cluster.session("ex"), "one")
    cluster.claim("new")
    assert refused(cluster.session("ex"), SESSION, **cluster.values())
    cluster.fill(cluster.session("new"), "two")
