"""The rig does what its names say, on a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from clusters import wait_until
from rig.history import assert_one_leader, overlaps
from rig.process import ManagedProcess, ProcessError
from rig.proxy import Proxy
from rig.server import both_dsn
from rig.tls import plain
from rig.workers import WorkerProcess, leader_of, wait_leader

SILENCE = 0.3  # seconds for which nothing has to come


def connect(dsn: str, **options: Any) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True, connect_timeout=2, **options)


def ask(connection: psycopg.Connection, sql: str = "SELECT 1") -> object:
    return connection.execute(sql).fetchone()[0]


class Asking(threading.Thread):
    """Asks in the background; `answer` is there when it came."""

    def __init__(self, connection: psycopg.Connection, sql: str = "SELECT 1"):
        super().__init__(daemon=True)
        self.connection, self.sql = connection, sql
        self.answer: object = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = ask(self.connection, self.sql)
        except psycopg.Error as exc:
            self.error = exc


# Server


def test_each_database_has_advisory_locks_of_its_own(server, dsn):
    other = server.create_database()
    try:
        with connect(dsn) as one, connect(other) as two:
            assert ask(one, "SELECT pg_try_advisory_lock(7)")
            assert ask(two, "SELECT pg_try_advisory_lock(7)")
    finally:
        server.drop_database(other)

    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connect(other)


def test_terminate_ends_the_sessions_of_that_name_only(server, dsn):
    with (
        connect(dsn, application_name="rig:a:1") as hit,
        connect(dsn, application_name="rig:b:1") as missed,
    ):
        names = [s.application_name for s in server.sessions("rig:%")]
        assert names == ["rig:a:1", "rig:b:1"]

        assert server.terminate("rig:a:%", dsn=dsn) == 1

        with pytest.raises(psycopg.OperationalError):
            ask(hit)
        assert ask(missed) == 1


def test_a_restart_is_a_new_postmaster_on_the_same_port(embedded_server):
    before = embedded_server.pid
    connection = connect(embedded_server.dsn)

    embedded_server.restart("immediate")

    assert embedded_server.pid != before
    with pytest.raises(psycopg.OperationalError):
        ask(connection)
    with connect(embedded_server.dsn) as again:
        assert ask(again) == 1


def test_a_stopped_server_refuses_until_it_is_started(embedded_server):
    embedded_server.stop()
    assert embedded_server.pid is None
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(embedded_server.dsn)

    embedded_server.start()

    with connect(embedded_server.dsn) as connection:
        assert ask(connection) == 1


def test_a_standby_is_in_recovery_until_promoted(embedded_server, standby_of):
    standby = standby_of(embedded_server)
    writable = both_dsn(
        standby.dsn, embedded_server.dsn, target_session_attrs="read-write"
    )
    assert standby.in_recovery()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        standby.query("CREATE TABLE t ()")
    with connect(writable) as connection:
        assert connection.info.port == embedded_server.embedded.port

    standby.promote()

    assert not standby.in_recovery()
    with connect(writable) as connection:
        assert connection.info.port == standby.embedded.port


# Proxy


def test_the_proxy_forwards_and_counts(dsn, proxy):
    way = proxy(plain(dsn))
    with connect(way.dsn) as connection:
        assert ask(connection, "SELECT length(repeat('x', 300000))") == 300000
        assert ask(connection, "SELECT repeat('x', 300000)") == "x" * 300000
        assert (way.accepted, way.open) == (1, 1)
    # It counts what it has sent, so a moment later.
    wait_until(lambda: way.bytes_to_client > 300000, "the count")
    wait_until(lambda: way.bytes_to_server > 0, "the count")
    assert way.bytes_to_server < 2000


def test_a_deaf_proxy_is_silent_and_keeps_the_sockets(server, dsn, proxy):
    way = proxy(dsn)
    connection = connect(way.dsn, application_name="rig:deaf")
    way.deaf()
    sent = way.bytes_to_server

    asking = Asking(connection)
    asking.join(SILENCE)

    assert asking.is_alive(), "an answer came through"
    assert way.bytes_to_server == sent, "the question went through"
    assert way.open == 1
    (session,) = server.sessions("rig:deaf")
    assert (session.state, session.query) == ("idle", "")
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        connect(way.dsn)

    way.hear()
    asking.join(5)
    assert asking.answer == 1


def test_a_deaf_proxy_tells_nobody_that_the_other_end_closed(
    server, dsn, proxy
):
    way = proxy(dsn)
    connection = connect(way.dsn, application_name="rig:gone")
    way.deaf()

    server.terminate("rig:gone")
    asking = Asking(connection)
    asking.join(SILENCE)

    assert asking.is_alive(), "the client learned of it"
    way.hear()
    asking.join(5)
    assert isinstance(asking.error, psycopg.OperationalError)

    connection = connect(way.dsn, application_name="rig:left")
    way.deaf()
    connection.close()
    time.sleep(SILENCE)
    assert len(server.sessions("rig:left")) == 1, "the server learned of it"


def test_with_answers_held_the_server_still_does_the_work(dsn, proxy):
    way = proxy(dsn)
    connection = connect(way.dsn)
    way.hold_from_server()

    asking = Asking(connection, "SELECT pg_try_advisory_lock(1)")
    asking.join(SILENCE)

    assert asking.is_alive()
    with connect(dsn) as other:
        assert not ask(other, "SELECT pg_try_advisory_lock(1)")
    way.hear()
    asking.join(5)
    assert asking.answer is True


def test_with_requests_held_notices_still_arrive(server, dsn, proxy):
    way = proxy(dsn)
    connection = connect(way.dsn, application_name="rig:notice")
    way.hold_to_server()

    server.terminate("rig:notice")

    with pytest.raises(psycopg.OperationalError, match="terminating"):
        ask(connection)


def test_refuse_is_for_newcomers_and_cut_for_the_others(dsn, proxy):
    way = proxy(plain(dsn))
    connection = connect(way.dsn)
    way.refuse()
    assert ask(connection) == 1
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(way.dsn)

    way.cut()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        ask(connection)
    assert way.open == 0

    way.hear()
    connection = connect(way.dsn)
    assert ask(connection) == 1
    way.cut(reset=True)
    with pytest.raises(psycopg.OperationalError):
        ask(connection)


def test_delay_is_there_in_both_directions(dsn, proxy):
    way = proxy(dsn)
    connection = connect(way.dsn)
    way.delay(0.1)
    started = time.monotonic()
    ask(connection)
    assert time.monotonic() - started >= 0.2
    way.delay(0)
    started = time.monotonic()
    ask(connection)
    assert time.monotonic() - started < 0.1


def test_a_closed_proxy_leaves_no_thread_and_no_port(dsn):
    before = threading.active_count()
    way = Proxy.for_dsn(dsn).start()
    connection = connect(way.dsn)
    way.deaf()

    way.close()
    way.close()

    assert threading.active_count() == before
    with pytest.raises(psycopg.OperationalError):
        ask(connection)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(way.dsn)


def test_a_server_that_is_away_resets_the_client(embedded_server, proxy):
    way = proxy(embedded_server.dsn)
    embedded_server.stop()

    with pytest.raises(psycopg.OperationalError):
        connect(way.dsn)

    assert way.open == 0


# Pooler


def server_pids(pooler) -> set[object]:
    """The server sessions that one client meets, with others about."""
    sql = "SELECT pg_backend_pid()"
    with connect(pooler.dsn, prepare_threshold=None) as client:
        pids = {ask(client, sql)}
        # Another one's transaction holds the session that the client had.
        other = connect(pooler.dsn, prepare_threshold=None)
        with other, other.transaction():
            ask(other, sql)
            pids.add(ask(client, sql))
    return pids


def test_in_transaction_mode_a_client_meets_several_sessions(dsn, pgbouncer):
    assert len(server_pids(pgbouncer(dsn, "transaction"))) == 2


def test_in_session_mode_a_client_keeps_its_session(dsn, pgbouncer):
    assert len(server_pids(pgbouncer(dsn, "session"))) == 1


# Processes

CHILD = """
import os, subprocess, sys, time
print("2024-05-06 07:08:09,123 - a - INFO - hello", flush=True)
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print("child", child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def child(tmp_path: Path):
    argv = [sys.executable, "-c", CHILD]
    with ManagedProcess(argv, name="child", log=tmp_path / "c.log") as made:
        yield made


def test_lines_carry_two_times_on_one_clock(child):
    hello = child.wait_for("hello")

    assert 0 <= time.monotonic() - hello.at < 5
    stamp = time.mktime((2024, 5, 6, 7, 8, 9, 0, 0, -1)) + 0.123
    assert hello.own == pytest.approx(
        stamp - time.time() + time.monotonic(), abs=0.01
    )
    assert child.wait_for("child").own is None


def test_a_log_line_amid_a_printed_one_is_a_line_of_its_own(tmp_path: Path):
    script = "print('printed2024-05-06 07:08:09,123 - a - INFO - logged\\n')"
    argv = [sys.executable, "-c", script]
    with ManagedProcess(argv, name="torn", log=tmp_path / "t.log") as torn:
        torn.wait_for("^printed$")
        assert torn.wait_for("logged$").own is not None


def test_close_ends_a_child_in_another_session(child):
    pid = int(child.wait_for(r"child \d+").text.split()[1])
    child.kill()
    assert child.wait_exit(5) == -signal.SIGKILL
    assert child.descendants() == [pid], "SIGKILL is for the process alone"

    child.close()

    assert child.descendants() == []


FORGETFUL = """
import os, time
if os.fork() == 0:
    # As a program does that gives itself another title.
    os.execve("/bin/sleep", ["sleep", "60"], {})
print("ready", flush=True)
time.sleep(60)
"""


def test_one_that_is_killed_does_nothing_from_then_on(child):
    child.wait_for("child")
    assert child.powerless_at is None
    before = child.kill()
    child.wait_exit(5)
    # A machine may take seconds to be rid of it.
    assert before <= child.powerless_at <= child.exited_at
    assert child.twin("another").powerless_at is None


def test_one_that_ends_does_nothing_from_then_on(child):
    child.wait_for("child")
    child.signal(signal.SIGTERM)
    child.wait_exit(5)
    assert child.powerless_at == child.exited_at


def test_close_ends_an_orphan_that_lost_its_mark(tmp_path: Path):
    argv = [sys.executable, "-c", FORGETFUL]
    with ManagedProcess(argv, name="f", log=tmp_path / "f.log") as made:
        made.wait_for("ready", 5)
        made.kill()
        made.wait_exit(5)
        assert len(made.descendants()) == 1

    assert made.descendants() == []


def test_a_paused_process_stands_still(child):
    child.wait_for("child")
    child.pause()
    child.signal(signal.SIGTERM)
    with pytest.raises(ProcessError, match=r"did not exit within 0\.2 s"):
        child.wait_exit(0.2)

    child.resume()

    assert child.wait_exit(5) == -signal.SIGTERM


def test_a_failed_wait_shows_the_end_of_the_log(child):
    child.wait_for("child")
    with pytest.raises(ProcessError, match=r"(?s)0.1 s.*nope.*\| child"):
        child.wait_for("nope", 0.1)

    child.kill()

    with pytest.raises(ProcessError, match="ended with exit code -9"):
        child.wait_for("nope", 60)


class Pretender(WorkerProcess):
    """Says what a worker would say."""

    def __init__(self, tmp_path: Path, name: str, *lines: str) -> None:
        said = "\n".join(lines)
        program = f"import time; print({said!r}, flush=True); time.sleep(60)"
        ManagedProcess.__init__(
            self,
            [sys.executable, "-c", program],
            name=name,
            log=tmp_path / f"{name}.log",
        )


def test_the_leader_is_who_acquired_last_and_lost_nothing(tmp_path: Path):
    def acquired(name: str, second: int) -> str:
        when = f"2024-05-06 07:08:{second:02},000 - x - INFO"
        return f"{when} - Worker {name}: Successfully acquired leadership (a)"

    lost = "Worker b: Lost leadership (why)"
    with (
        Pretender(tmp_path, "a", acquired("a", 1)) as a,
        Pretender(tmp_path, "b", acquired("b", 2), lost) as b,
        Pretender(tmp_path, "c", acquired("c", 3)) as c,
    ):
        b.wait_lost(5)
        c.wait_leads(5)
        assert wait_leader([a, b, c], 5) is c
        c.kill()
        c.wait_exit(5)
        assert wait_leader([a, b, c], 5) is a
        assert leader_of([b, c]) is None
        with pytest.raises(ProcessError, match=r"nobody led within 0\.1 s"):
            wait_leader([b, c], 0.1)


# Contenders: a fake election that answers true as it is told by a file

FAKE = """
import asyncio, os, pathlib

class Told:
    def __init__(self, dsn, ha_uuid, *, worker_id, on_promotion,
                 on_demotion, **options):
        self.leader_event = asyncio.Event()
        self.follower_event = asyncio.Event()
        self.shutdown_event = asyncio.Event()
        self.follower_event.set()
        self.path = pathlib.Path(dsn, worker_id)
        self.on_promotion, self.on_demotion = on_promotion, on_demotion

    def is_leader(self):
        return self.path.exists()

    async def step_down(self):
        self.path.unlink()

    async def __aenter__(self):
        self.task = asyncio.ensure_future(self.follow())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()

    async def follow(self):
        while True:
            if self.is_leader() and not self.leader_event.is_set():
                await self.on_promotion()
                self.follower_event.clear()
                self.leader_event.set()
            if not self.is_leader() and self.leader_event.is_set():
                self.leader_event.clear()
                self.follower_event.set()
                await self.on_demotion()
            await asyncio.sleep(0.001)
"""


@pytest.fixture
def told(tmp_path: Path, contender):
    (tmp_path / "told.py").write_text(FAKE)

    def make(name: str):
        made = contender(
            str(tmp_path),
            name,
            election="told:Told",
            env={
                "PYTHONPATH": os.pathsep.join(
                    (str(tmp_path), str(Path(__file__).parents[2] / "tools"))
                )
            },
        )
        made.wait_role("follower", 20)
        return made

    return make


def test_an_overlap_of_two_processes_is_found(told, tmp_path: Path):
    one, two = told("one"), told("two")
    (tmp_path / "one").touch()
    one.wait_role("leader", 5)
    assert_one_leader([one.record, two.record])

    from_ = time.monotonic_ns()
    (tmp_path / "two").touch()
    two.wait_role("leader", 5)
    time.sleep(0.05)
    one.step_down()
    one.wait_for("done step_down", 5)
    until = time.monotonic_ns()
    one.wait_role("follower", 5, after=one.wait_for("role leader").at)
    two.ask_stop()
    assert two.wait_exit(5) == 0

    found = overlaps([one.record, two.record])
    assert from_ <= found[0].start and found[-1].end <= until
    assert sum(overlap.seconds for overlap in found) > 0.03
    (span, *_) = one.record.spans
    assert [c.what for c in one.record.callbacks] == ["promotion", "demotion"]
    assert [c.what for c in one.record.commands] == ["step_down"]
    assert [c.what for c in two.record.roles] == [
        "follower",
        "leader",
        "shutdown",
    ]
    assert two.record.exited is not None
    assert span.seconds < 60


def test_a_blocked_loop_is_sampled_and_a_stopped_process_claims_nothing(
    told, tmp_path: Path
):
    one = told("one")
    (tmp_path / "one").touch()
    one.wait_role("leader", 5)
    blocked = time.monotonic_ns()
    one.block(0.2)
    one.wait_for("done block", 5)
    during = [
        s.seconds for s in one.record.spans if s.end > blocked + 50_000_000
    ]
    assert sum(during) > 0.1

    one.pause()
    paused = time.monotonic_ns()
    time.sleep(0.2)
    resumed = time.monotonic_ns()
    one.resume()
    time.sleep(0.1)
    one.kill()
    assert one.wait_exit(5) == -signal.SIGKILL

    spans = one.record.spans
    assert not [s for s in spans if s.end > paused and s.start < resumed]
    assert spans[-1].start >= resumed, "it answers again after that"


def test_a_real_election_leaves_a_record_without_overlaps(dsn, contender):
    one = contender(dsn, poll=0.5)
    one.wait_role("leader", 20)
    two = contender(dsn, poll=0.5)
    two.wait_role("follower", 20)

    killed = one.kill()

    assert two.wait_role("leader", 20) >= killed
    two.stop(10)
    assert_one_leader([one.record, two.record])
    assert one.record.spans and two.record.spans
    assert uuid.UUID(one.argv[one.argv.index("--uuid") + 1])
