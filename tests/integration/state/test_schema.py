"""The tables: made, looked at, and tried out."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import psycopg
import pytest
from clusters import (
    LIMIT,
    Cluster,
    Leader,
    create_tables,
    is_durable,
    state_session,
    wait_until,
)
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rig.server import Server

from ansible_rulebook.ha.errors import (
    HaError,
    ServerUnavailable,
    StateRefused,
)
from ansible_rulebook.ha.state import schema, sql
from ansible_rulebook.ha.state.schema import Survey

TABLES = set(sql.PRIVILEGES)


@pytest.fixture
def role(server: Server, dsn: str) -> Iterator[str]:
    """The DSN of a role without rights, in a fresh database."""
    name = f"role_{uuid.uuid4().hex[:8]}"
    server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame'", dsn=dsn)
    server.query("REVOKE ALL ON SCHEMA public FROM PUBLIC", dsn=dsn)
    yield make_conninfo(dsn, user=name, password="sesame")
    server.query(f"DROP OWNED BY {name} CASCADE", dsn=dsn)
    server.query(f"DROP ROLE {name}", dsn=dsn)


def name_of(role: str) -> str:
    return str(conninfo_to_dict(role)["user"])


@pytest.fixture
def worker(server: Server, dsn: str, role: str) -> str:
    """The DSN of a role that has what a worker needs, and no more."""
    create_tables(dsn)
    with contextlib.closing(state_session(dsn)) as session:
        granted = schema.grants(session, name_of(role))
    server.query("\n".join(granted), dsn=dsn)
    return role


def survey(dsn: str) -> Survey:
    with contextlib.closing(state_session(dsn)) as session:
        return schema.survey(session)


def rehearse(dsn: str) -> None:
    with contextlib.closing(state_session(dsn)) as session:
        schema.rehearse(session)


def set_version(server: Server, dsn: str, version: int, oldest: int) -> None:
    server.query(
        f"UPDATE {sql.SCHEMA} SET version = {version}, oldest = {oldest}",
        dsn=dsn,
    )


def content(server: Server, dsn: str) -> dict[str, int]:
    """How many rows each of the clusters' tables has."""
    counts = {}
    for table in TABLES - {sql.SCHEMA}:
        ((count,),) = server.query(f"SELECT count(*) FROM {table}", dsn=dsn)
        counts[table] = count
    return counts


# -- making them -------------------------------------------------------------


def test_a_survey_of_an_empty_database(dsn: str) -> None:
    found = survey(dsn)
    assert found.schema == "public"
    assert found.may_create
    assert found.place is None
    assert set(found.missing) == TABLES
    assert (found.owners, found.version, found.oldest) == (0, 0, 0)
    assert found.obstacle() is None


def test_a_survey_of_what_was_made(dsn: str) -> None:
    create_tables(dsn)
    found = survey(dsn)
    assert found.place == "public"
    assert found.is_complete
    assert not found.is_outdated
    assert (found.owners, found.version) == (1, schema.VERSION)
    assert found.obstacle() is None


def test_several_workers_create_at_once(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    ready = threading.Barrier(6)

    def create(number: int) -> None:
        with contextlib.closing(state_session(dsn)) as session:
            session.keep_open()
            ready.wait(LIMIT)
            schema.create(session)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(create, range(6)))
    assert survey(dsn).obstacle() is None
    rows = server.query(f"SELECT version, oldest FROM {sql.SCHEMA}", dsn=dsn)
    assert rows == [(schema.VERSION, schema.MIGRATIONS[-1].oldest)]
    assert make_cluster(dsn).claim("a").term == 1


@pytest.mark.asyncio
async def test_creating_again_does_no_harm_to_who_leads(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    create_tables(dsn)
    cluster = make_cluster(dsn)
    leader = Leader(cluster.worker("a"))
    assert await is_durable(leader.write(1))
    create_tables(dsn)
    assert await is_durable(leader.write(2))
    assert cluster.numbers() == [1, 2]
    assert not leader.tries


def test_a_migration_is_made_once_and_in_its_schema(
    server: Server, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.query("CREATE SCHEMA mine", dsn=dsn)
    create_tables(make_conninfo(dsn, options="-c search_path=mine"))
    step = schema.Migration(
        f"ALTER TABLE {{schema}}.{sql.MATCH} ADD more int", 1
    )
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    path = make_conninfo(dsn, options="-c search_path=public,mine")
    before = survey(path)
    assert before.is_outdated
    assert before.obstacle() is None
    for _ in range(2):
        create_tables(path)
    after = survey(path)
    assert (after.version, after.place) == (schema.VERSION, "mine")
    assert not after.is_outdated
    assert server.query(
        "SELECT table_schema FROM information_schema.columns"
        f" WHERE table_name = '{sql.MATCH}' AND column_name = 'more'",
        dsn=dsn,
    ) == [("mine",)]


def test_a_migration_that_fails_leaves_nothing(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        schema.Migration(sql.CREATE, 1),
        schema.Migration("ALTER TABLE nowhere ADD more int", 1),
    ]
    monkeypatch.setattr(schema, "MIGRATIONS", tuple(steps))
    with pytest.raises(StateRefused, match="nowhere"):
        create_tables(dsn)
    assert set(survey(dsn).missing) == TABLES


def test_creating_does_not_wait_for_ever(
    server: Server, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "DDL_PATIENCE", 0.05)
    with server.connect(dsn) as session, session.transaction():
        session.execute(sql.LOCK_SCHEMA)
        with pytest.raises(ServerUnavailable):
            create_tables(dsn)
    create_tables(dsn)


# -- versions ----------------------------------------------------------------


def test_a_newer_version_is_refused_if_it_says_so(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    create_tables(dsn)
    cluster = make_cluster(dsn)
    assert cluster.claim("a").term == 1
    newer = schema.VERSION + 1
    set_version(server, dsn, newer, newer)
    obstacle = survey(dsn).obstacle()
    assert obstacle is not None
    assert f"version {newer}" in obstacle
    with pytest.raises(StateRefused, match="newer"):
        cluster.claim("a")
    # Refused, and nobody fenced off for it.
    set_version(server, dsn, newer, schema.VERSION)
    assert cluster.claim("a").term == 2


@pytest.mark.asyncio
async def test_a_newer_version_that_bears_ours_is_written(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    create_tables(dsn)
    set_version(server, dsn, schema.VERSION + 2, schema.VERSION)
    found = survey(dsn)
    assert found.obstacle() is None
    assert not found.is_outdated
    rehearse(dsn)
    cluster = make_cluster(dsn)
    assert await is_durable(Leader(cluster.worker("a")).write(1))
    create_tables(dsn)  # does not take it back
    assert survey(dsn).version == schema.VERSION + 2


def test_a_table_of_versions_without_a_version_is_refused(
    server: Server, dsn: str
) -> None:
    create_tables(dsn)
    server.query(f"DELETE FROM {sql.SCHEMA}", dsn=dsn)
    with pytest.raises(StateRefused, match="empty"):
        survey(dsn)


# -- tables of somebody else -------------------------------------------------


def test_a_table_that_somebody_made_before_is_noticed(
    server: Server, dsn: str, role: str
) -> None:
    server.query(f"GRANT ALL ON SCHEMA public TO {name_of(role)}", dsn=dsn)
    with psycopg.connect(role, autocommit=True) as session:
        session.execute(f"CREATE TABLE {sql.RECORD} (trap text)")
    with pytest.raises(StateRefused, match="already exists"):
        create_tables(dsn)
    assert set(survey(dsn).missing) == TABLES - {sql.RECORD}


def test_a_table_that_somebody_put_in_its_place_is_noticed(
    server: Server, dsn: str, role: str
) -> None:
    create_tables(dsn)
    server.query(f"ALTER TABLE {sql.RECORD} OWNER TO {name_of(role)}", dsn=dsn)
    found = survey(dsn)
    assert found.owners == 2
    assert "owner" in (found.obstacle() or "")


def test_a_table_that_is_gone_is_named(server: Server, dsn: str) -> None:
    create_tables(dsn)
    server.query(f"DROP TABLE {sql.RECORD}", dsn=dsn)
    found = survey(dsn)
    assert found.missing == (sql.RECORD,)
    # It would not be made again.
    assert f"has no {sql.RECORD}" in (found.obstacle() or "")


# -- rights, and the rehearsal -----------------------------------------------


def test_a_role_lacks_what_is_named(
    server: Server, dsn: str, role: str
) -> None:
    assert "search_path" in (survey(role).obstacle() or "")
    server.query(f"GRANT USAGE ON SCHEMA public TO {name_of(role)}", dsn=dsn)
    obstacle = survey(role).obstacle() or ""
    assert "lacks CREATE on schema public" in obstacle
    assert "init-db" in obstacle
    create_tables(dsn)
    obstacle = survey(role).obstacle() or ""
    for table, privileges in sql.PRIVILEGES.items():
        for privilege in privileges:
            assert f"{privilege} on {table}" in obstacle


@pytest.mark.asyncio
async def test_what_is_granted_is_enough(
    worker: str, make_cluster: Callable[[str], Cluster]
) -> None:
    assert survey(worker).obstacle() is None
    rehearse(worker)
    leader = Leader(make_cluster(worker).worker("a"))
    leader.write(1)
    leader.journal.changes.forget_ruleset("x")
    leader.journal.changes.forget_until = 1
    assert await is_durable(leader.journal.wrote())


def test_a_rehearsal_leaves_nothing_behind(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    create_tables(dsn)
    rehearse(dsn)
    assert set(content(server, dsn).values()) == {0}
    # Nor does it touch what is there.
    make_cluster(dsn).claim("a")
    before = content(server, dsn)
    rehearse(dsn)
    assert content(server, dsn) == before


def test_a_rehearsal_does_each_thing_that_the_journal_does() -> None:
    done = [text for text, _ in schema._everything()]
    journal = {
        sql.FENCE,
        sql.ADD_COMMIT,
        sql.FORGET_RECORDS,
        sql.KEEP_RULESETS,
        sql.DROP_RECORDS,
        sql.KEEP_RECORDS,
        sql.ADD_MATCHES,
        sql.KEEP_ACTIONS,
        sql.DROP_ACTIONS,
        sql.DROP_MATCHES,
        sql.EMPTY_INBOX,
        sql.KEEP_PARTS,
        sql.FORGET_COMMITS,
    }
    assert set(done) == journal
    assert len(done) == len(journal)


def test_a_rehearsal_waits_for_no_other_one(server: Server, dsn: str) -> None:
    create_tables(dsn)
    first = state_session(dsn)
    second = state_session(make_conninfo(dsn, options="-c lock_timeout=5s"))
    somebody = server.connect(dsn)
    with contextlib.ExitStack() as stack:
        for each in (first, second, somebody):
            stack.enter_context(contextlib.closing(each))
        thread = stack.enter_context(ThreadPoolExecutor(1))
        # One that is paused amid it.
        with somebody.transaction():
            somebody.execute(f"LOCK TABLE {sql.COMMIT}")
            paused = thread.submit(schema.rehearse, first)
            wait_until(
                lambda: server.query(
                    "SELECT pid FROM pg_stat_activity"
                    " WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database()",
                    dsn=dsn,
                ),
                "it waits",
            )
            # Another one comes as far as that.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(schema, "_everything", lambda: [])
                schema.rehearse(second)
            assert not paused.done()
        paused.result(LIMIT)


def test_a_right_that_is_revoked_is_found(
    server: Server, dsn: str, worker: str
) -> None:
    # What claims and housekeeping do is looked at only, not tried.
    untried = {
        (sql.SCHEMA, "SELECT"),
        (sql.HISTORY, "SELECT"),
        (sql.HISTORY, "INSERT"),
        (sql.HISTORY, "UPDATE"),
        (sql.HISTORY, "DELETE"),
        (sql.RULESET, "DELETE"),
        (sql.INBOX, "INSERT"),
        *((sql.INBOX_KEY, each) for each in sql.PRIVILEGES[sql.INBOX_KEY]),
    }
    name = name_of(worker)
    for table, privileges in sql.PRIVILEGES.items():
        for privilege in privileges:
            right = f"{privilege} ON {table}"
            server.query(f"REVOKE {right} FROM {name}", dsn=dsn)
            obstacle = survey(worker).obstacle()
            assert obstacle == f"role {name} lacks {privilege} on {table}"
            if (table, privilege) in untried:
                rehearse(worker)
            else:
                with pytest.raises(StateRefused, match=table):
                    rehearse(worker)
            server.query(f"GRANT {right} TO {name}", dsn=dsn)
    assert survey(worker).obstacle() is None
    rehearse(worker)


def test_a_default_that_is_read_only_is_found(
    server: Server, dsn: str, worker: str
) -> None:
    server.query(
        f"ALTER ROLE {name_of(worker)} SET default_transaction_read_only = on",
        dsn=dsn,
    )
    # Such a session does not even count as one with a primary.
    with pytest.raises(ServerUnavailable, match="read-only"):
        survey(worker)
    anyhow = make_conninfo(worker, target_session_attrs="any")
    assert survey(anyhow).obstacle() is None
    with pytest.raises(StateRefused, match="read-only"):
        rehearse(anyhow)


def test_a_trigger_that_raises_is_found(server: Server, dsn: str) -> None:
    create_tables(dsn)
    server.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'not today'; END $$;"
        f"CREATE TRIGGER refuse BEFORE INSERT ON {sql.COMMIT}"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
        dsn=dsn,
    )
    assert survey(dsn).obstacle() is None
    with pytest.raises(HaError, match="not today"):
        rehearse(dsn)
    assert set(content(server, dsn).values()) == {0}


def test_where_the_tables_are_stands_in_the_grants(
    server: Server, dsn: str
) -> None:
    server.query('CREATE SCHEMA "My events"', dsn=dsn)
    path = r'-c search_path="My\ events",public'
    there: Any = make_conninfo(dsn, options=path)
    create_tables(there)
    with contextlib.closing(state_session(there)) as session:
        comment, *granted = schema.grants(session, 'a"b')
    assert comment.startswith("-- ")
    assert 'search_path="My events"' in comment
    assert 'GRANT USAGE ON SCHEMA "My events" TO "a""b";' in granted
    assert len(granted) == 2 + len(sql.PRIVILEGES)
