"""State by the rights of the role: enough of them, and one too few."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
from e2e_support import (
    PATIENCE,
    READY,
    Stage,
    needs_old,
    needs_state,
    until,
)
from rig.proxy import Proxy
from rig.server import Server
from roles import PASSWORD, REQUIRED, RULEBOOK, WITHOUT, Role

COMMANDS = "ansible_rulebook.ha.operations.commands"


def relations(server: Server, dsn: str) -> list[str]:
    """What somebody has made in the database."""
    rows = server.query(
        "SELECT relname FROM pg_class WHERE oid >= 16384"
        " UNION ALL SELECT proname FROM pg_proc WHERE oid >= 16384",
        dsn=dsn,
    )
    return [name for (name,) in rows]


@needs_state
def test_the_printed_grants_are_all_that_a_worker_needs(
    stage: Stage, role: Role, tmp_path: Path
) -> None:
    role.give_what_init_db_prints()
    stage.dsn = role.dsn
    first, second = stage.pair(RULEBOOK, args=REQUIRED)
    stage.post("after", "all")
    first.wait_for("^once after all$", PATIENCE)
    stage.post("first", "a")
    stage.post("learn", "it")
    first.wait_for("^learned it$", PATIENCE)
    stage.post("steps", "x")
    stage.wait_journal(f"begin {first.worker_id} x")
    killed_at = first.kill()
    second.wait_leads(PATIENCE, after=killed_at)
    stage.wait_journal(f"begin {second.worker_id} x")
    stage.let_go()
    second.wait_for("^after x$", PATIENCE)
    assert not second.find("^before x$")
    stage.post("ask", "it")
    second.wait_for("^knows it$", PATIENCE)
    stage.post("second", "b")
    second.wait_for("^pair a b$", PATIENCE)
    assert second.stop(PATIENCE) == 0

    # Another rulebook by the same name: its predecessor's state goes.
    other = tmp_path / "other.yml"
    other.write_text(RULEBOOK.replace('"pair', '"another pair'), "utf-8")
    third = stage.start(other, args=REQUIRED)
    stage.say(third, "hello")
    assert third.stop(PATIENCE) == 0
    for worker in (first, second, third):
        assert not worker.find("permission denied|must be owner"), (
            worker.tail()
        )


@needs_state
@pytest.mark.parametrize(
    ("grants", "revoke", "named"),
    [
        (False, "", "CREATE on schema public"),
        (True, "DELETE ON eda_ha_record", ""),
        (True, "USAGE ON SCHEMA public", "public"),
    ],
)
def test_required_ends_with_the_missing_privilege(
    stage: Stage, role: Role, grants: bool, revoke: str, named: str
) -> None:
    if grants:
        role.give_what_init_db_prints()
        what = revoke.format(database=role.database)
        role.do(f"REVOKE {what} FROM {role.name}")
        named = named or revoke.replace(" ON ", " on ")
    else:
        role.may_connect()
    worker = stage.start(RULEBOOK, dsn=role.dsn, args=REQUIRED)
    assert worker.wait_exit(PATIENCE) == 1
    (line,) = worker.find("--ha-state required")
    assert named in line.text
    assert PASSWORD not in worker.text
    assert not worker.find("Traceback")


@needs_state
def test_auto_says_so_once_and_elects_without_state(
    stage: Stage, role: Role, server: Server
) -> None:
    role.may_connect()
    stage.dsn = role.dsn
    before = relations(server, role.owner)
    first, second = stage.pair(RULEBOOK)
    stage.post("first", "a")
    stage.say(first, "one")
    killed_at = first.kill()
    second.wait_leads(PATIENCE, after=killed_at)
    stage.post("second", "b")
    stage.say(second, "two")
    assert not second.find("^pair")
    for worker in (first, second):
        (line,) = worker.find(WITHOUT)
        assert "lacks CREATE on schema public" in line.text
    assert second.stop(PATIENCE) == 0
    assert relations(server, role.owner) == before


@needs_state
def test_auto_says_so_later_if_the_server_was_away(
    stage: Stage, role: Role, proxy: Callable[..., Proxy]
) -> None:
    role.may_connect()
    network = proxy(role.dsn)
    network.refuse()
    worker = stage.start(RULEBOOK, dsn=network.dsn)
    worker.wait_for("No session with PostgreSQL", PATIENCE)
    worker.wait_for(READY, PATIENCE)
    assert not worker.find(WITHOUT)
    network.hear()
    worker.wait_leads(PATIENCE)
    stage.say(worker, "one")
    stage.say(worker, "two")
    assert len(worker.find(WITHOUT)) == 1
    assert worker.stop(PATIENCE) == 0


@needs_state
def test_off_makes_nothing(stage: Stage, server: Server) -> None:
    before = relations(server, stage.dsn)
    worker = stage.start(RULEBOOK, args=("--ha-state", "off"))
    stage.say(worker, "hello")

    def names() -> set[str]:
        return {
            session.application_name.partition(":")[0]
            for session in server.sessions(dsn=stage.dsn)
        }

    until(lambda: "eda-ha-ear" in names(), "the session that listens")
    assert names() == {"eda-ha", "eda-ha-ear"}
    assert worker.stop(PATIENCE) == 0
    assert not worker.find(WITHOUT)
    assert relations(server, stage.dsn) == before


@needs_old
def test_an_upstream_that_is_too_old_is_named(
    stage: Stage, server: Server
) -> None:
    before = relations(server, stage.dsn)
    worker = stage.start()
    stage.say(worker, "hello")
    (line,) = worker.find(WITHOUT)
    assert "1.3" in line.text
    assert worker.stop(PATIENCE) == 0

    worker = stage.start(args=REQUIRED)
    assert worker.wait_exit(PATIENCE) == 1
    (line,) = worker.find("--ha-state required")
    assert "1.3" in line.text
    assert relations(server, stage.dsn) == before
    assert until(lambda: not server.sessions(dsn=stage.dsn), "no session left")
