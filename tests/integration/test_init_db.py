"""``ansible-rulebook-ha init-db``, run as a user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from ansible_rulebook.ha.state_database import StateDatabase, Survey
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from rig.process import ManagedProcess
from rig.server import Server, database_of
from rig.workers import worker_env

from ansible_rulebook.ha import state_sql
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.lease import Timings

pytest.importorskip(
    "ansible_rulebook.persistence", reason="upstream keeps state from 1.3 on"
)

LIMIT = 60.0  # seconds for one run on a busy machine
SECRET = "s3same:0pen@/"
COMMAND = [sys.executable, "-m", "ansible_rulebook.ha.init_db"]
USAGE, FAILED = 2, 1


def run(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args],
        env=worker_env(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def init_db(dsn: str, *args: str) -> list[str]:
    """Run it, and return the statements that it printed."""
    done = run("init-db", *args, EDA_HA_POSTGRES_DSN=dsn)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def error(code: int, *args: str, **variables: str) -> str:
    """Run it in vain, and return its one line."""
    done = run(*args, **variables)
    assert done.returncode == code, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    if code == USAGE:  # argparse says how to call it, too
        lines = [line for line in lines if ": error: " in line]
    (line,) = lines
    assert line.startswith("ansible-rulebook-ha")
    assert "s3same" not in done.stderr
    return line


def survey(dsn: str) -> Survey:
    database = StateDatabase(
        Conninfo(dsn), uuid.uuid4(), "test", "test", Timings()
    )
    try:
        return database.survey()
    finally:
        database.close()


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


def test_it_makes_tables_and_fence_and_prints_what_a_worker_needs(
    server: Server, dsn: str
) -> None:
    done = run("init-db", "--ha-postgres-dsn", dsn, "--worker-role", "eda")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"GRANT CONNECT, TEMPORARY ON DATABASE {database_of(dsn)} TO eda;",
        "GRANT USAGE ON SCHEMA public TO eda;",
        "GRANT SELECT, INSERT, UPDATE, DELETE"
        " ON public.drools_ansible_session_state TO eda;",
        "GRANT SELECT, INSERT, UPDATE, DELETE"
        " ON public.drools_ansible_event_record TO eda;",
        "GRANT SELECT, INSERT, DELETE"
        " ON public.drools_ansible_matching_event TO eda;",
        "GRANT SELECT, INSERT, UPDATE"
        " ON public.drools_ansible_action_info TO eda;",
        "GRANT SELECT, INSERT, UPDATE"
        " ON public.drools_ansible_ha_stats TO eda;",
        "GRANT SELECT, INSERT, UPDATE ON public.eda_ha_term TO eda;",
        "GRANT SELECT, INSERT, DELETE ON public.eda_ha_fired TO eda;",
        "GRANT USAGE ON SEQUENCE public.drools_ansible_ha_stats_id_seq,"
        " public.drools_ansible_session_state_id_seq TO eda;",
    ]
    wanted = sorted(state_sql.PRIVILEGES)
    assert tables_of(server, dsn) == [(f"public.{name}",) for name in wanted]
    assert survey(dsn).is_complete
    # It leaves no trace of a cluster.
    for table in wanted:
        assert server.query(f"SELECT * FROM {table}", dsn=dsn) == []


def test_the_printed_grants_are_enough_and_none_is_too_much(
    server: Server, role: Role
) -> None:
    granted = init_db(role.dsn, "--worker-role", role.name)
    server.query("\n".join(granted), dsn=role.dsn)
    found = survey(role.own_dsn)
    assert found.is_complete
    assert not found.may_create
    assert found.obstacle() is None
    # Each by itself is missed, and named.
    for statement in granted:
        match = re.fullmatch(r"GRANT (.*) ON (.*) TO (.*);", statement)
        assert match is not None
        privileges, on, to = match.groups()
        for privilege in privileges.split(", "):
            for each in on.split(", "):
                kind = "SEQUENCE " if "_seq" in each else ""
                target = kind + each.replace("SEQUENCE ", "")
                server.query(
                    f"REVOKE {privilege} ON {target} FROM {to}", dsn=role.dsn
                )
                if privilege == "CONNECT":
                    with pytest.raises(Exception, match="CONNECT"):
                        survey(role.own_dsn)
                else:
                    obstacle = survey(role.own_dsn).obstacle()
                    assert obstacle is not None
                    name = target.rpartition(".")[2].rpartition(" ")[2]
                    assert name in obstacle
                    if "SCHEMA" not in target:
                        assert privilege in obstacle
                server.query(
                    f"GRANT {privilege} ON {target} TO {to}", dsn=role.dsn
                )
    assert survey(role.own_dsn).obstacle() is None


def test_it_may_be_run_again_and_brings_up_to_date(
    server: Server, dsn: str
) -> None:
    first = init_db(dsn, "--worker-role", "eda")
    server.query(
        "INSERT INTO eda_ha_term VALUES ('u', 7, 'w', 'w')"
        "; ALTER TABLE drools_ansible_ha_stats DROP COLUMN ext"
        "; DROP TRIGGER eda_ha_fence ON drools_ansible_event_record"
        "; CREATE OR REPLACE FUNCTION eda_ha_fence() RETURNS trigger"
        "  LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        dsn=dsn,
    )
    assert not survey(dsn).is_complete
    assert init_db(dsn, "--worker-role", "eda") == first
    assert survey(dsn).is_complete
    server.query(
        "INSERT INTO drools_ansible_ha_stats (ha_uuid, ext) VALUES ('v', '{}')"
        "; INSERT INTO drools_ansible_session_state (ha_uuid, rule_set_name,"
        "  rulebook_hash, current_state_sha) VALUES ('v', 'r', 'h', 's')",
        dsn=dsn,
    )
    assert init_db(dsn, "--worker-role", "eda") == first
    rows = server.query(
        "SELECT term FROM eda_ha_term"
        " UNION ALL SELECT count(*) FROM drools_ansible_ha_stats"
        " UNION ALL SELECT count(*) FROM drools_ansible_session_state",
        dsn=dsn,
    )
    assert rows == [(7,), (1,), (1,)]


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
    assert len(found) == len(state_sql.PRIVILEGES)
    assert all(name.startswith("My events.") for (name,) in found)


def test_without_a_role_it_says_whose_name_to_put_in(dsn: str) -> None:
    done = run("init-db", EDA_HA_POSTGRES_DSN=dsn)
    assert done.returncode == 0
    assert all(
        line.endswith(" TO worker;") for line in done.stdout.splitlines()
    )
    assert "--worker-role" in done.stderr
    assert done.stderr.count("\n") == 1


def test_several_at_once(dsn: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(init_db, [dsn, dsn])
    assert first == second
    assert survey(dsn).is_complete


def test_it_waits_for_tables_that_are_in_use(
    server: Server, dsn: str, tmp_path: Any
) -> None:
    init_db(dsn)
    process = ManagedProcess(
        [*COMMAND, "init-db"],
        name="init-db",
        log=tmp_path / "init-db.log",
        env=worker_env({"EDA_HA_POSTGRES_DSN": dsn}),
    )
    with server.connect(dsn) as session, process:
        session.execute("BEGIN")
        session.execute("SELECT * FROM drools_ansible_matching_event")
        waits = (
            "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE application_name = 'eda-init-db' AND NOT granted"
        )
        while not server.query(waits, dsn=dsn):
            assert process.alive, process.tail()
        # Whoever wants them is not kept waiting behind it for long.
        session.execute("SET lock_timeout = '10s'")
        with server.connect(dsn) as leader:
            leader.execute("SET lock_timeout = '10s'")
            leader.execute("DELETE FROM drools_ansible_matching_event")
        assert process.alive
        session.execute("COMMIT")
        assert process.wait_exit(LIMIT) == 0, process.tail()


# -- errors ----------------------------------------------------------------


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
        assert "example" not in error(USAGE, "init-db", *args) or (
            "***" in error(USAGE, "init-db", *args)
        )
    assert "--worker-role" in error(
        USAGE, "init-db", "--worker-role", " ", EDA_HA_POSTGRES_DSN="host=x"
    )


def test_what_the_server_refuses_is_told_in_one_line(
    server: Server, role: Role
) -> None:
    away = make_conninfo(role.own_dsn, port=1)
    assert "onnection" in error(FAILED, "init-db", EDA_HA_POSTGRES_DSN=away)
    assert "CONNECT" in error(
        FAILED, "init-db", EDA_HA_POSTGRES_DSN=role.own_dsn
    )
    role.do("GRANT CONNECT ON DATABASE {database} TO {role}")
    assert "search_path" in error(
        FAILED, "init-db", EDA_HA_POSTGRES_DSN=role.own_dsn
    )
    role.do("GRANT USAGE ON SCHEMA public TO {role}")
    assert "lacks CREATE on schema public" in error(
        FAILED, "init-db", EDA_HA_POSTGRES_DSN=role.own_dsn
    )
    # They are there already, and somebody else's.
    init_db(role.dsn)
    role.do("GRANT CREATE ON SCHEMA public TO {role}")
    assert "owner" in error(
        FAILED, "init-db", EDA_HA_POSTGRES_DSN=role.own_dsn
    )
    wrong = make_conninfo(role.dsn, password=SECRET + "?")
    with pytest.raises(psycopg.Error):  # unless the server trusts everybody
        psycopg.connect(wrong).close()
        pytest.skip("this server asks for no password")
    assert "password" in error(FAILED, "init-db", EDA_HA_POSTGRES_DSN=wrong)


def test_without_a_java_that_works_nothing_is_made(
    server: Server, dsn: str, tmp_path: Any
) -> None:
    said = error(
        FAILED,
        "init-db",
        EDA_HA_POSTGRES_DSN=dsn,
        JAVA_HOME=str(tmp_path),
    )
    assert "Java" in said
    assert tables_of(server, dsn) == []
