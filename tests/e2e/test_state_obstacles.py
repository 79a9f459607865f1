"""A worker that cannot keep the state of a cluster that has one."""

from __future__ import annotations

import time

import pytest
from e2e_support import (
    FOLLOWING,
    PATIENCE,
    POLL,
    STATE_SESSION,
    Stage,
    needs_state,
    until,
)
from psycopg.conninfo import make_conninfo
from rig.server import Server
from rig.workers import LOST
from roles import REQUIRED, RULEBOOK, WITHOUT, Role

from ansible_rulebook.ha.state.schema import VERSION

pytestmark = needs_state

CANNOT = "This worker follows and does not lead"
CAN_AGAIN = "The state can be kept again"
INSERT = "INSERT ON eda_ha_record"
LOCKS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def test_it_follows_until_it_can(
    stage: Stage, role: Role, server: Server
) -> None:
    role.give_what_init_db_prints()
    first = stage.start(RULEBOOK, dsn=role.dsn)
    stage.post("first", "a")
    stage.say(first, "hello")
    role.do(f"REVOKE {INSERT} FROM {role.name}")
    second = stage.start(RULEBOOK, dsn=role.dsn)
    second.wait_for(CANNOT, PATIENCE)
    first.kill()
    time.sleep(3 * POLL)
    assert not second.acquired
    assert not second.find(WITHOUT)

    role.do(f"GRANT {INSERT} TO {role.name}")
    second.wait_for(CAN_AGAIN, PATIENCE)
    second.wait_leads(PATIENCE)
    stage.post("second", "b")
    second.wait_for("^pair a b$", PATIENCE)
    assert len(second.find(CANNOT)) == 1
    assert second.stop(PATIENCE) == 0


def test_a_right_that_is_revoked_while_it_leads(
    stage: Stage, role: Role, server: Server
) -> None:
    role.give_what_init_db_prints()
    leader = stage.start(RULEBOOK, dsn=role.dsn)
    stage.post("first", "a")
    stage.say(leader, "hello")
    role.do(f"REVOKE {INSERT} FROM {role.name}")
    stage.post("first", "b")
    lost_at = leader.wait_lost(PATIENCE).at
    leader.wait_for(CANNOT, PATIENCE, after=lost_at)
    # No endless alternation: it does not even try.
    time.sleep(5 * POLL)
    assert len(leader.find(LOST)) == 1
    assert len(leader.find(CANNOT)) == 1
    assert len(leader.acquired) == 1

    role.do(f"GRANT {INSERT} TO {role.name}")
    leader.wait_leads(PATIENCE, after=lost_at)
    stage.post("second", "c")
    until(lambda: len(leader.find("^pair [ab] c$")) == 2, "nothing is lost")
    assert leader.stop(PATIENCE) == 0


def test_completions_that_cannot_be_recorded_end_the_lead(
    stage: Stage, role: Role, server: Server
) -> None:
    role.give_what_init_db_prints()
    leader = stage.start(RULEBOOK, dsn=role.dsn)
    stage.say(leader, "hello")
    role.do(f"REVOKE DELETE ON eda_ha_match FROM {role.name}")
    for number in range(20):
        stage.post("say", f"word {number}")
    lost_at = leader.wait_lost(PATIENCE).at
    leader.wait_for(CANNOT, PATIENCE, after=lost_at)
    role.do(f"GRANT DELETE ON eda_ha_match TO {role.name}")
    leader.wait_leads(PATIENCE, after=lost_at)
    for number in range(20):
        leader.wait_for(f"^says word {number}$", PATIENCE)
    stage.say(leader, "all")
    # Not more than were under way.
    again = len(leader.find("^says word")) - 20
    assert again < 20
    assert leader.stop(PATIENCE) == 0


def test_required_ends_when_a_right_is_revoked(
    stage: Stage, role: Role, server: Server
) -> None:
    role.give_what_init_db_prints()
    leader = stage.start(RULEBOOK, dsn=role.dsn, args=REQUIRED)
    stage.say(leader, "hello")
    role.do(f"REVOKE {INSERT} FROM {role.name}")
    stage.post("first", "b")
    assert leader.wait_exit(PATIENCE) == 1
    (line,) = leader.find("--ha-state required")
    assert "eda_ha_record" in line.text
    assert not leader.find("Traceback")


def test_a_role_that_may_only_read_by_default(
    stage: Stage, role: Role, server: Server
) -> None:
    role.give_what_init_db_prints()
    role.do(f"ALTER ROLE {role.name} SET default_transaction_read_only = on")
    dsn = make_conninfo(role.dsn, target_session_attrs="primary")
    worker = stage.start(RULEBOOK, dsn=dsn, args=REQUIRED)
    assert worker.wait_exit(PATIENCE) == 1
    (line,) = worker.find("--ha-state required")
    assert "read-only" in line.text

    # Nobody has kept any state here, so it may do without.
    worker = stage.start(RULEBOOK, dsn=dsn)
    worker.wait_leads(PATIENCE)
    stage.say(worker, "hello")
    assert len(worker.find(WITHOUT)) == 1
    assert worker.stop(PATIENCE) == 0


NO_STATE = """
CREATE FUNCTION no_state() RETURNS {returns} LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('application_name') LIKE 'eda-state:%' THEN
        RAISE 'no state today';
    END IF;
    RETURN;
END $$
"""
AT_LOGIN = "CREATE EVENT TRIGGER no_state ON login EXECUTE FUNCTION no_state()"


def test_a_state_session_that_is_never_to_be_had(
    stage: Stage, server: Server
) -> None:
    # The election has no outage meanwhile, so this is none either.
    if server.query("SHOW server_version_num") < [("170000",)]:
        pytest.skip("no triggers at login before PostgreSQL 17")
    server.query(NO_STATE.format(returns="event_trigger"), dsn=stage.dsn)
    server.query(AT_LOGIN, dsn=stage.dsn)
    worker = stage.start(RULEBOOK, args=REQUIRED)
    assert worker.wait_exit(2 * PATIENCE) == 1
    (line,) = worker.find("--ha-state required")
    assert "no state today" in line.text
    assert not worker.find("Traceback")

    worker = stage.start(RULEBOOK)
    worker.wait_for(CANNOT, 2 * PATIENCE)
    failed = len(worker.find("Promotion failed"))
    time.sleep(5 * POLL)
    assert len(worker.find("Promotion failed")) <= failed + 1
    assert len(worker.find(CANNOT)) == 1
    server.query("DROP EVENT TRIGGER no_state", dsn=stage.dsn)
    worker.wait_for(CAN_AGAIN, PATIENCE)
    worker.wait_leads(PATIENCE)
    stage.say(worker, "hello")
    assert worker.stop(PATIENCE) == 0


def test_a_trigger_that_refuses_every_write(
    stage: Stage, role: Role, server: Server
) -> None:
    role.give_what_init_db_prints()
    body = NO_STATE.format(returns="trigger").replace("RETURN;", "")
    role.do(body.replace("END IF;", "END IF; RETURN NEW;"))
    role.do(
        "CREATE TRIGGER no_state BEFORE INSERT ON eda_ha_record"
        " FOR EACH ROW EXECUTE FUNCTION no_state()"
    )
    worker = stage.start(RULEBOOK, dsn=role.dsn, args=REQUIRED)
    assert worker.wait_exit(PATIENCE) == 1
    (line,) = worker.find("--ha-state required")
    assert "no state today" in line.text


def test_a_worker_of_an_older_version_leaves_the_lead_to_newer_ones(
    stage: Stage, role: Role, server: Server
) -> None:
    role.give_what_init_db_prints()
    first, second = stage.pair(RULEBOOK, dsn=role.dsn)
    stage.post("first", "a")
    stage.say(first, "hello")
    role.do("UPDATE eda_ha_schema SET version = 99, oldest = 99")
    killed_at = first.kill()
    second.wait_for(CANNOT, PATIENCE, after=killed_at)
    (line,) = second.find(CANNOT)
    assert "newer" in line.text
    assert not second.acquired
    until(lambda: not server.query(LOCKS, dsn=role.owner), "the lock is free")
    role.do(f"UPDATE eda_ha_schema SET version = {VERSION}, oldest = 1")
    second.wait_leads(PATIENCE, after=killed_at)
    stage.post("second", "b")
    second.wait_for("^pair a b$", PATIENCE)
    assert second.stop(PATIENCE) == 0


def test_workers_hold_one_session_for_each_purpose(
    stage: Stage, server: Server
) -> None:
    first, second = stage.pair(RULEBOOK)
    stage.say(first, "hello")
    until(
        lambda: len(server.sessions(STATE_SESSION, dsn=stage.dsn)) == 2,
        "the follower is connected, too",
    )
    # One for the lock and one for the state each; the leader hears, too.
    until(lambda: len(server.sessions(dsn=stage.dsn)) == 5, "five sessions")
    assert len(server.sessions("eda-ha-ear:%", dsn=stage.dsn)) == 1
    assert second.find(FOLLOWING)
