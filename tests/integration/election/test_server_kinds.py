"""Standbys, poolers, several hosts, refusals, and what a role may set."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
import uuid
from typing import Any

import psycopg
import pytest
from elections import (
    LEASE,
    LIMIT,
    Referee,
    follows,
    leads,
    lock_rows,
    make,
    pair,
    running,
    session_of,
    until,
)
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rig.history import assert_one_leader
from rig.ports import free_port
from rig.server import TEST_BIN, both_dsn
from rig.tls import system_binaries

from ansible_rulebook.ha import ServerRefused
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election import clock
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.lock import AdvisoryLock
from ansible_rulebook.ha.errors import ServerUnavailable
from ansible_rulebook.ha.state.session import StateSession


async def in_thread(work, *args):
    """Run what blocks beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *args)


@pytest.fixture
def role(server, dsn):
    """Make a role, with settings of its own; returns its DSN."""
    made: list[str] = []

    def make_role(*settings: str, options: str = "LOGIN") -> str:
        name = f"rig_{uuid.uuid4().hex[:8]}"
        server.query(f"CREATE ROLE {name} {options} PASSWORD 'zq''xjk'")
        made.append(name)
        for setting in settings:
            server.query(f"ALTER ROLE {name} SET {setting}")
        return make_conninfo(dsn, user=name, password="zq'xjk")

    yield make_role
    for name in made:
        server.terminate("%", dsn=dsn)
        server.query(f"DROP ROLE {name}")


def lock_of(dsn: str, ha_uuid: str, **options) -> AdvisoryLock:
    return AdvisoryLock(
        Conninfo(dsn), uuid.UUID(ha_uuid), "w1", Timings(0.4, LEASE), **options
    )


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage()
        for each in caplog.records
        if each.levelno >= logging.WARNING
    ]


# -- refused -------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "zqxjk"}, "password authentication failed"),
        ({"user": "nobody_here"}, "authentication failed|does not exist"),
        ({"dbname": "no_such_db"}, '"no_such_db" does not exist'),
    ],
)
async def test_what_only_an_operator_can_mend_is_refused_at_the_start(
    dsn, ha_uuid, server, change, words, caplog
):
    if "password" in change and server.kind == "external":
        pytest.skip("that server may ask for no password")
    election = make(make_conninfo(dsn, **change), ha_uuid)
    with pytest.raises(ServerRefused, match=words) as caught:
        await election.start()
    told = str(caught.value)
    assert "\n" not in told
    for secret in ("zqxjk", conninfo_to_dict(dsn).get("password") or "zqxjk"):
        assert secret not in told + caplog.text + repr(election)


@pytest.mark.asyncio
async def test_no_password_at_all_is_refused(dsn, ha_uuid, monkeypatch):
    params: Any = conninfo_to_dict(dsn)
    if not params.pop("password", None):
        pytest.skip("that server asks for no password")
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    with pytest.raises(ServerRefused, match="no password"):
        await make(make_conninfo(**params), ha_uuid).start()


@pytest.mark.asyncio
async def test_a_password_file_is_as_good_as_a_password(
    dsn, ha_uuid, monkeypatch, tmp_path
):
    params: Any = conninfo_to_dict(dsn)
    password = params.pop("password", None)
    if not password:
        pytest.skip("that server asks for no password")
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:*:{password}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    election = make(make_conninfo(**params), ha_uuid)
    async with running(election):
        await leads(election)


@pytest.mark.asyncio
async def test_a_role_that_may_not_connect_is_refused(
    dsn, ha_uuid, server, role
):
    name = conninfo_to_dict(dsn)["dbname"]
    server.query(f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC')
    with pytest.raises(ServerRefused, match="permission denied"):
        await make(role(), ha_uuid).start()


@pytest.mark.asyncio
async def test_a_role_that_may_only_connect_can_lead(ha_uuid, role):
    first, second = (make(role(), ha_uuid, name) for name in ("w1", "w2"))
    async with pair(first, second):
        await first.stop()
        await leads(second)


@pytest.mark.asyncio
async def test_a_role_that_may_not_wait_does_not_hammer_the_server(
    dsn, ha_uuid, server, role, caplog
):
    # Taken together: a try that is answered, and a wait that is refused.
    server.query("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC", dsn=dsn)
    caplog.set_level(logging.DEBUG, "ansible_rulebook.ha")
    first = make(dsn, ha_uuid, "w1")
    second = make(role(), ha_uuid, "w2", poll_interval=1.0)
    async with running(first):
        await leads(first)
        async with running(second):
            await asyncio.sleep(1.2)
            said = [r for r in caplog.records if "w2" in r.getMessage()]
            assert len(said) < 30


@pytest.mark.asyncio
async def test_nobody_listening_is_no_refusal(ha_uuid, caplog):
    dsn = f"host=127.0.0.1 port={free_port()} user=eda password=zqxjk"
    election = make(dsn, ha_uuid)
    await election.check_server()
    async with running(election):
        assert not election.is_leader()
        assert election.follower_event.is_set()
    (warning,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "retrying" in warning.getMessage()
    assert "zqxjk" not in caplog.text


# -- standbys and several hosts ------------------------------------------


@pytest.mark.asyncio
async def test_a_standby_is_never_locked_on_and_leads_once_promoted(
    embedded_factory, standby_of, ha_uuid
):
    primary = await in_thread(embedded_factory)
    standby = await in_thread(standby_of, primary)
    # Also by somebody who insists on any server.
    dsns = [
        standby.dsn,
        make_conninfo(standby.dsn, target_session_attrs="any"),
    ]
    crowd = [make(dsn, ha_uuid, f"w{n}") for n, dsn in enumerate(dsns)]
    with pytest.raises(ServerUnavailable):
        await lock_of(dsns[0], ha_uuid).open()
    with pytest.raises(ServerUnavailable, match="standby"):
        await lock_of(dsns[1], ha_uuid).open()
    main = make(both_dsn(standby.dsn, primary.dsn), ha_uuid, "main")
    with Referee(main, *crowd):
        async with running(main, *crowd):
            await leads(main)
            await asyncio.sleep(0.5)  # a few tries of the others
            assert lock_rows(standby, main) == {}
            assert lock_rows(primary, main) == {"main": True}
            # The primary dies, the standby takes its place.
            await in_thread(primary.stop, "immediate")
            await until(lambda: not main.is_leader())
            assert lock_rows(standby, main) == {}
            await in_thread(standby.promote)
            await until(
                lambda: sum(one.is_leader() for one in [main, *crowd]) == 1
            )


@pytest.mark.asyncio
async def test_a_first_host_that_is_down_is_passed_over(dsn, ha_uuid, server):
    dead = make_conninfo(dsn, host="127.0.0.1", port=free_port())
    both = both_dsn(dead, dsn)
    election = make(both, ha_uuid)
    async with running(election):
        await leads(election)
        server.terminate(session_of(election), dsn=dsn)
        await until(lambda: election.is_leader() and election.term.number > 1)


@pytest.mark.asyncio
async def test_of_two_hosts_one_that_refuses_does_not_stop_the_other(
    dsn, ha_uuid, embedded_server
):
    # Another server, where neither password nor database are known.
    params = conninfo_to_dict(embedded_server.dsn)
    other = make_conninfo(dsn, host=params["host"], port=params["port"])
    election = make(both_dsn(other, dsn), ha_uuid)
    async with running(election):
        await leads(election)


@pytest.mark.parametrize("place", ["variables", "service"])
@pytest.mark.asyncio
async def test_of_two_hosts_from_elsewhere_one_may_refuse(
    ha_uuid, dsn, embedded_server, monkeypatch, tmp_path, place
):
    refusing = conninfo_to_dict(embedded_server.dsn)
    params: Any = conninfo_to_dict(dsn)
    params["host"] = f"127.0.0.1,{refusing['host']}"
    params["port"] = f"{free_port()},{refusing['port']}"
    if place == "service":
        lines = [f"{name}={value}" for name, value in params.items()]
        text = "\n".join(["[eda]", *lines, ""])
        (tmp_path / "services").write_text(text, "utf-8")
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        given = "service=eda"
    else:
        monkeypatch.setenv("PGHOST", params.pop("host"))
        monkeypatch.setenv("PGPORT", params.pop("port"))
        given = make_conninfo("", **params)
    # One refuses, but the other is only down, for now.
    assert not await make(given, ha_uuid).check_server()


# -- poolers -------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_transaction_pooler_is_refused(dsn, ha_uuid, pgbouncer):
    pooler = await in_thread(pgbouncer, dsn, "transaction")
    election = make(pooler.dsn, ha_uuid)
    with pytest.raises(ServerRefused, match=r"pooler.*--ha-session-pooler"):
        await election.start()


@pytest.mark.asyncio
async def test_a_session_pooler_works_for_who_vouches_for_it(
    dsn, ha_uuid, server, pgbouncer
):
    pooler = await in_thread(pgbouncer, dsn, "session")
    with pytest.raises(ServerRefused):
        await make(pooler.dsn, ha_uuid).check_server()
    first, second = (
        make(pooler.dsn, ha_uuid, name, session_pooler=True)
        for name in ("w1", "w2")
    )
    with Referee(first, second):
        async with pair(first, second):
            await first.step_down()
            await leads(second)
            await follows(first)
            server.terminate(session_of(second), dsn=dsn)
            await leads(first)


@pytest.mark.asyncio
async def test_a_pooler_that_hands_sessions_on_is_found_out_all_the_same(
    dsn, ha_uuid, pgbouncer
):
    # The operator vouched for it, and was wrong.
    pooler = await in_thread(
        lambda: pgbouncer(dsn, "transaction", server_round_robin=1)
    )
    with contextlib.ExitStack() as stack:
        others = [
            stack.enter_context(psycopg.connect(pooler.dsn)) for _ in range(3)
        ]
        for other in others:
            other.execute("SELECT 1")  # each has a session of the server
        for other in others:
            other.commit()
    with pytest.raises(ServerRefused, match="each transaction another"):
        await lock_of(pooler.dsn, ha_uuid, session_pooler=True).open()


@pytest.mark.asyncio
async def test_options_that_a_pooler_refuses_are_no_outage(
    dsn, ha_uuid, pgbouncer
):
    pooler = await in_thread(
        lambda: pgbouncer(
            dsn, "session", ignore_startup_parameters="extra_float_digits"
        )
    )
    given = make_conninfo(pooler.dsn, options="-c search_path=eda")
    election = make(given, ha_uuid, session_pooler=True)
    with pytest.raises(ServerRefused, match="ignore_startup_parameters") as e:
        await election.start()
    assert "\n" not in str(e.value)


@pytest.mark.asyncio
@pytest.mark.parametrize("pooled", [False, True])
async def test_what_options_ask_for_is_set_though_a_pooler_drops_it(
    dsn, ha_uuid, pgbouncer, pooled, caplog
):
    options = (
        '-c search_path="eda\\ state",public -c statement_timeout=7s'
        " -c TimeZone=Europe/Paris"
    )
    if pooled:
        dsn = (await in_thread(pgbouncer, dsn, "session")).dsn
    given = make_conninfo(dsn, options=options)
    found = await settings_of(given, ha_uuid, session_pooler=True)
    assert found["search_path"] == '"eda state",public'
    assert found["TimeZone"] == "Europe/Paris"
    assert found["statement_timeout"] == "0"  # which the lock needs
    session = StateSession(Conninfo(given), "eda-state:x", Timings())
    with session.transaction() as connection:
        row = connection.execute(
            "SELECT current_setting('search_path'),"
            " current_setting('statement_timeout')"
        ).fetchone()
    session.close()
    assert row[0] == '"eda state",public'
    assert row[1] == "7s"
    assert not warnings_in(caplog)


@pytest.mark.asyncio
async def test_a_pooler_that_drops_settings_is_warned_of_once(
    dsn, ha_uuid, pgbouncer, caplog
):
    pooler = await in_thread(
        lambda: pgbouncer(
            dsn,
            "transaction",
            pool_size=1,
            server_reset_query="DISCARD ALL",
            server_reset_query_always=1,
        )
    )
    lock = lock_of(pooler.dsn, ha_uuid, session_pooler=True)
    for _ in range(2):
        session = await lock.open()
        await session.close()
    (warning,) = warnings_in(caplog)
    assert "did not take effect" in warning
    assert "idle_session_timeout is 0: a leader that is paused" in warning
    for name in ("lock_timeout", "client_connection_check_interval"):
        assert f"{name} is " in warning
    # What it passes on by itself is not among them.
    assert "client_encoding" not in warning
    caplog.clear()
    server_default = make_conninfo(
        pooler.dsn, options="-c default_transaction_isolation=serializable"
    )
    state = StateSession(Conninfo(server_default), "eda-state:x", Timings())
    for _ in range(2):
        state.keep_open()
        state.close()
    state.another().keep_open()
    # It asks for the server's own default: that is there all the same.
    assert not warnings_in(caplog)


@pytest.mark.asyncio
async def test_the_state_warns_of_a_setting_that_a_pooler_drops(
    ha_uuid, pgbouncer, role, caplog
):
    strict = role("default_transaction_isolation = 'serializable'")
    pooler = await in_thread(
        lambda: pgbouncer(
            strict, "transaction", pool_size=1, server_reset_query_always=1
        )
    )
    state = StateSession(Conninfo(pooler.dsn), "eda-state:x", Timings())
    for session in (state, state, state.another()):
        session.keep_open()
        session.close()
    (warning,) = warnings_in(caplog)
    assert "default_transaction_isolation is serializable: " in warning


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "commands",
    ["KILL {0}; RESUME {0}", "KILL {0}; wait; RESUME {0}", "RELOAD"],
)
async def test_after_what_is_said_to_a_pooler_somebody_leads(
    dsn, ha_uuid, pgbouncer, commands
):
    # It waits for that long after a session that it has cut off itself.
    pooler = await in_thread(
        lambda: pgbouncer(dsn, "session", server_login_retry=1)
    )
    first, second = (
        make(pooler.dsn, ha_uuid, name, session_pooler=True)
        for name in ("w1", "w2")
    )
    with Referee(first, second):
        async with pair(first, second):
            for command in commands.format(pooler.database).split("; "):
                if command == "wait":
                    await until(lambda: "pause mode" in pooler.log)
                    await until(lambda: not first.is_leader())
                else:
                    await in_thread(pooler.tell, command)
            # A third of PgBouncer's own default of server_login_retry.
            await until(
                lambda: first.is_leader() or second.is_leader(), limit=10.0
            )


# -- two with the same id ------------------------------------------------

SAME_ID = "has the same id"


@pytest.mark.asyncio
async def test_two_workers_with_the_same_id_are_told_apart(
    dsn, ha_uuid, server, caplog
):
    first, second = (make(dsn, ha_uuid, "twin") for _ in range(2))
    async with pair(first, second):
        await until(lambda: SAME_ID in caplog.text)
        (warning,) = warnings_in(caplog)
        assert first._lock.name in warning
        names = {
            each.application_name
            for each in server.sessions(session_of(first), dsn=dsn)
        }
        assert names == {first._lock.name, second._lock.name}
        # Not at a reconnect.
        server.terminate(f"{second._lock.name}", dsn=dsn)
        await until(lambda: second._log.in_outage)
        await follows(second)
        await asyncio.sleep(LEASE + 0.5)
        assert sum(SAME_ID in each for each in warnings_in(caplog)) == 1


@pytest.mark.asyncio
async def test_what_an_earlier_process_has_left_is_nobody_with_the_same_id(
    dsn, ha_uuid, contender, caplog
):
    # Its kernel still answers, so its session lives until the lease ends.
    earlier = contender(dsn, "twin", poll=0.4, lease=LEASE)
    earlier.wait_role("leader")
    earlier.pause()
    election = make(dsn, ha_uuid, "twin")
    async with running(election):
        await until(lambda: election._namesakes.task is not None)
        assert not election._namesakes.task.done()
        await leads(election)
        await until(lambda: election._namesakes.task.done())
        assert SAME_ID not in caplog.text


# -- settings of a role or of the server ---------------------------------


async def settings_of(dsn: str, ha_uuid: str, **options) -> dict[str, str]:
    session = await lock_of(dsn, ha_uuid, **options).open()
    try:
        rows = await session.fetch(
            "SELECT name, setting FROM pg_catalog.pg_settings"
        )
        return {**dict(rows), "lease": str(session.timings.lease_duration)}
    finally:
        await session.close()


@pytest.mark.asyncio
async def test_the_session_is_a_lease(dsn, ha_uuid, caplog):
    found = await settings_of(dsn, ha_uuid)
    assert not warnings_in(caplog)
    assert found["idle_session_timeout"] == str(int(LEASE * 1000))
    assert found["tcp_user_timeout"] == str(int(LEASE * 1000))
    assert found["lock_timeout"] == "400"
    assert found["statement_timeout"] == "0"
    assert found["client_connection_check_interval"] != "0"
    assert int(found["tcp_keepalives_idle"]) <= LEASE
    assert float(found["lease"]) == LEASE


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_the_session_is_a_lease_in_any_encoding(
    dsn, ha_uuid, server, monkeypatch, caplog, encoding
):
    name = f"rig_{uuid.uuid4().hex[:8]}"
    server.query(
        f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0"
        " LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    monkeypatch.setenv("PGCLIENTENCODING", encoding)
    made = make_conninfo(dsn, dbname=name)
    try:
        found = await settings_of(made, ha_uuid)
        assert found["idle_session_timeout"] == str(int(LEASE * 1000))
        assert found["client_encoding"] == "UTF8"
        assert not warnings_in(caplog)
    finally:
        server.query(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.asyncio
async def test_a_lease_that_the_role_makes_shorter_is_trusted_for_less(
    ha_uuid, role, caplog
):
    strict = role("idle_session_timeout = '1200ms'", "tcp_user_timeout = 1500")
    election = make(strict, ha_uuid, lease_duration=30, poll_interval=5)
    async with running(election):
        await leads(election)
        assert election.timings.lease_duration == pytest.approx(1.2)
        assert not warnings_in(caplog)
        left = election.term.trusted_until - clock.now()
        assert left <= 0.8
        # It renews in time for that: the term goes on.
        term = election.term
        renewed = term.trusted_until
        await until(lambda: term.trusted_until > renewed + 1.3)
        assert election.is_leader() and election.term is term


@pytest.mark.asyncio
async def test_limits_of_a_role_do_not_break_the_wait(ha_uuid, role):
    hasty = role(
        "statement_timeout = '100ms'",
        "lock_timeout = '50ms'",
        "idle_in_transaction_session_timeout = '100ms'",
        "client_min_messages = 'error'",
        "default_transaction_isolation = 'serializable'",
        "search_path = ''",
    )
    first = make(hasty, ha_uuid, "w1", poll_interval=1.0)
    second = make(hasty, ha_uuid, "w2", poll_interval=1.0)
    async with pair(first, second):
        found = await settings_of(hasty, ha_uuid)
        assert found["statement_timeout"] == "0"
        await asyncio.sleep(1.5)
        assert not second._log.in_outage
        await first.stop()
        await leads(second)


@pytest.mark.asyncio
async def test_a_server_that_logs_waits_is_not_made_to_log_each_poll(
    embedded_factory, ha_uuid
):
    server = await in_thread(
        embedded_factory, {"log_lock_waits": "on", "deadlock_timeout": "100ms"}
    )
    first, second = (
        make(server.dsn, ha_uuid, name, poll_interval=0.2)
        for name in ("w1", "w2")
    )
    async with pair(first, second):
        await until(lambda: "still waiting" in server.log)
        await asyncio.sleep(1.0)  # many polls
        lines = re.findall(r"still waiting|ERROR:|FATAL:", server.log)
        assert lines == ["still waiting"]
        await first.stop()
        await leads(second)


@pytest.mark.asyncio
async def test_notices_that_something_eats_do_not_elect_nobody(
    dsn, ha_uuid, monkeypatch
):
    from ansible_rulebook.ha.election.session import LockSession

    monkeypatch.setattr(LockSession, "_noticed", lambda *_: None)
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        await first.stop()
        await leads(second)


@pytest.mark.asyncio
async def test_a_server_that_refuses_a_setting_is_put_up_with(
    dsn, ha_uuid, monkeypatch, caplog
):
    from ansible_rulebook.ha.election import lock, settings

    # No server lets a session change this one.
    wanted = settings.lock_limits
    monkeypatch.setattr(
        lock,
        "lock_limits",
        lambda timings: {**wanted(timings), "max_connections": 5},
    )
    election = make(dsn, ha_uuid)
    async with running(election):
        await leads(election)
        assert election.timings.lease_duration == LEASE
    assert any(
        "max_connections is" in record.getMessage()
        and "cannot be changed" in record.getMessage()
        for record in caplog.records
    )
    found = await settings_of(dsn, ha_uuid)
    assert found["idle_session_timeout"] == str(int(LEASE * 1000))


@pytest.mark.asyncio
async def test_a_second_holder_waits_until_a_silent_one_is_ended(
    dsn, ha_uuid, server
):
    # The server's half of the lease, with no help from the client.
    lock = lock_of(dsn, ha_uuid)
    silent = await lock.open()
    assert await silent.try_acquire()
    assert await silent.prove()
    second = make(dsn, ha_uuid, "w2")
    async with running(second):
        await leads(second)
        assert silent.is_over()
    await silent.close()


@pytest.mark.asyncio
async def test_a_prepared_transaction_may_hold_the_lock(
    embedded_factory, ha_uuid
):
    # It has no session, so nobody can be said to lead.
    server = embedded_factory({"max_prepared_transactions": "2"})
    lock = lock_of(server.dsn, ha_uuid)
    with psycopg.connect(server.dsn, autocommit=True) as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_advisory_xact_lock(%s)", (lock.key,))
        other.execute("PREPARE TRANSACTION 'rig'")
        session = await lock.open()
        assert await session.holder() is None
        assert not await session.try_acquire()
        assert not await session.wait_acquire()
        assert session.seen is None
        election = make(server.dsn, ha_uuid)
        async with running(election):
            await until(lambda: len(lock_rows(server, election)) == 1)
            other.execute("ROLLBACK PREPARED 'rig'")
            await leads(election)
        await session.close()


# -- TLS -----------------------------------------------------------------


@pytest.fixture
def tls_dsn(embedded_factory):
    """The DSN of a server to which only TLS leads."""
    if not (os.environ.get(TEST_BIN) or system_binaries()):
        pytest.skip("there is no PostgreSQL with TLS; Debian's has it")
    return embedded_factory(tls=True).dsn


def end_session(dsn: str, worker_id: str) -> Any:
    with psycopg.connect(dsn) as session:
        return session.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name LIKE %s",
            (f"eda-ha:%:{worker_id}:%",),
        ).fetchone()[0]


@pytest.mark.asyncio
async def test_over_tls_a_term_ends_and_is_handed_over_as_well(
    tls_dsn, ha_uuid
):
    first, second = make(tls_dsn, ha_uuid, "w1"), make(tls_dsn, ha_uuid, "w2")
    with Referee(first, second):
        async with pair(first, second):
            assert first._session._connection.pgconn.ssl_in_use
            assert await in_thread(end_session, tls_dsn, "w1") == 1
            await leads(second)
            await follows(first)
            await asyncio.wait_for(second.step_down(), LIMIT)
            await leads(first)


def test_over_tls_an_ended_session_is_seen_while_the_loop_is_blocked(
    tls_dsn, contender
):
    first = contender(tls_dsn, poll=0.5, lease=60.0)
    first.wait_role("leader")
    second = contender(tls_dsn, poll=0.5, lease=60.0)
    second.wait_for("Following")
    blocked = time.monotonic()
    first.block(2.5)
    while not first.record.commands:
        time.sleep(0.005)
    assert end_session(tls_dsn, "c1") == 1
    second.wait_role("leader", after=blocked)
    first.wait_role("follower", after=blocked)
    assert_one_leader([first.record, second.record])
