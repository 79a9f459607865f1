"""The journal with a real server, which stalls, crashes or falls silent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import time
import uuid
from typing import Any, Callable

import psycopg
import pytest
from clusters import (
    LIMIT,
    Cluster,
    Leader,
    create_tables,
    is_durable,
    until,
)
from psycopg.conninfo import make_conninfo
from rig.proxy import Proxy
from rig.server import EmbeddedRig, Server

from ansible_rulebook.ha.engine.bridge import Answer
from ansible_rulebook.ha.errors import (
    ServerUnavailable,
    StateFenced,
    StateRefused,
)
from ansible_rulebook.ha.state import arrays, journal, sql
from ansible_rulebook.ha.state.changes import Found, Kept
from ansible_rulebook.ha.state.pipeline import classified

SOON = 0.05  # seconds in which what must not happen would have happened


@pytest.fixture
def crashing(
    embedded_server: EmbeddedRig, make_cluster: Callable[[str], Cluster]
) -> Cluster:
    """A cluster on a server that may be crashed."""
    dsn = embedded_server.create_database()
    create_tables(dsn)
    return make_cluster(dsn)


async def is_stuck(cluster: Cluster) -> None:
    """Wait until a write waits for a table that is held."""
    await until(lambda: cluster.waiting("relation"), "the write waits")


# -- what is durable ---------------------------------------------------------


@pytest.mark.asyncio
async def test_what_is_durable_survives_a_crash(
    crashing: Cluster, embedded_server: EmbeddedRig
) -> None:
    leader = Leader(crashing.worker("a"))
    for number in range(5):
        mark = leader.write(number)
    assert not mark.is_known_durable
    assert await is_durable(mark)
    embedded_server.restart("immediate")
    assert crashing.numbers() == [0, 1, 2, 3, 4]
    # Nothing was under way, so it goes on.
    assert await is_durable(leader.write(5))
    assert leader.tries
    assert not leader.failures
    assert crashing.numbers() == [0, 1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_marks_are_answered_in_order_and_share_transactions(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    answered: list[int] = []

    async def wait(number: int) -> None:
        assert await is_durable(leader.write(number))
        answered.append(number)

    waiting = []
    for number in range(300):
        waiting.append(asyncio.ensure_future(wait(number)))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert answered == list(range(300))
    assert cluster.numbers() == answered
    marks = cluster.marks()
    assert marks == list(range(1, len(marks) + 1))
    assert len(marks) < 150
    assert leader.journal.last().is_known_durable


@pytest.mark.asyncio
async def test_changes_of_one_turn_of_the_loop_are_one_transaction(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    marks = [leader.write(number) for number in range(20)]
    assert {mark.number for mark in marks} == {1}
    assert all(await asyncio.gather(*map(is_durable, marks)))
    assert cluster.marks() == [1]
    # Nothing new, nothing written.
    leader.journal.wrote()
    assert leader.journal.last().is_known_durable
    await asyncio.sleep(SOON)
    assert cluster.marks() == [1]


@pytest.mark.asyncio
async def test_what_nobody_waits_for_goes_with_others_or_a_little_later(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    match = uuid.uuid4()
    changes = leader.journal.changes
    changes.found(Found(match.bytes, "rules", "r", "[1]"))
    assert await is_durable(leader.journal.wrote())
    leader.journal.changes.done(match.bytes, has_actions=False)
    leader.journal.wrote_in_passing()
    assert leader.journal.last().is_known_durable  # it keeps nobody waiting
    assert await is_durable(leader.write(1))
    assert cluster.marks() == [1, 2]
    assert not cluster.claim("b").matches

    leader = Leader(cluster.worker("c"))
    leader.journal.changes.event(b"0123456789abcdef")
    leader.journal.wrote_in_passing()
    await until(lambda: leader.journal.durable == 3, "it goes by itself")
    leader.journal.changes.event(b"fedcba9876543210")
    leader.journal.wrote_in_passing()
    await leader.journal.finish(LIMIT)
    assert leader.journal.durable == 4


@pytest.mark.asyncio
async def test_each_change_arrives_and_goes(cluster: Cluster) -> None:
    leader = Leader(cluster.worker("a"))
    one, two = uuid.uuid4(), uuid.uuid4()
    changes = leader.journal.changes
    changes.ruleset("rules", Kept("first", False))
    changes.found(Found(one.bytes, "rules", "r", "[1]"))
    changes.found(Found(two.bytes, "rules", "r", "[2]"))
    changes.action(one.bytes, 0, "started")
    changes.action(two.bytes, 0, "started")
    leader.write(1, 2, 3)
    assert await is_durable(leader.journal.last())

    changes = leader.journal.changes
    changes.ruleset("rules", Kept("second", True))
    changes.action(one.bytes, 0, "done")
    changes.done(two.bytes, has_actions=True)
    leader.write(2, text='{"new": 1}')
    changes.answer("rules", Answer(gone=[1]))
    leader.journal.wrote()
    assert await is_durable(leader.journal.last())
    claim = cluster.claim("b")
    assert claim.rulesets == {"rules": Kept("second", True)}
    assert [match.match for match in claim.matches] == [str(one)]
    assert claim.actions == {(str(one), 0): "done"}
    assert cluster.numbers() == [2, 3]
    assert '{"new": 1}' in claim.records["rules"]

    # Other rules: what was there before goes, what comes with it stays.
    leader = Leader(cluster.worker("c"))
    leader.write(7)
    leader.journal.changes.forget_ruleset("rules")
    leader.journal.wrote()
    assert await is_durable(leader.journal.last())
    assert cluster.numbers() == [7]


@pytest.mark.parametrize(
    "hold", [Proxy.hold_from_server, Proxy.hold_to_server]
)
@pytest.mark.asyncio
async def test_nothing_is_known_durable_before_the_answer(
    cluster: Cluster,
    proxy: Callable[..., Proxy],
    hold: Callable[[Proxy], None],
) -> None:
    network = proxy(cluster.dsn)
    leader = Leader(cluster.worker("a", network.dsn))
    hold(network)
    mark = leader.write(1)
    waiting = asyncio.ensure_future(is_durable(mark))
    if hold is Proxy.hold_from_server:
        await until(cluster.numbers, "it is stored")
    await asyncio.sleep(SOON)
    leader.journal.look()
    assert not mark.is_known_durable
    assert not mark.is_surely_lost
    assert not waiting.done()
    network.hear()
    assert await waiting
    assert mark.is_known_durable
    assert not mark.is_surely_lost


@pytest.mark.asyncio
async def test_one_transaction_at_a_time_is_under_way(
    cluster: Cluster, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(cluster.dsn)
    leader = Leader(cluster.worker("a", network.dsn))
    network.hold_from_server()
    first = leader.write(1)
    await until(cluster.numbers, "it is stored")
    later = [leader.write(2)]
    await asyncio.sleep(SOON)
    later.append(leader.write(3))
    await asyncio.sleep(SOON)
    assert cluster.numbers() == [1]
    assert [mark.number for mark in later] == [first.number + 1] * 2
    network.hear()
    assert await is_durable(later[1])
    assert cluster.numbers() == [1, 2, 3]
    assert cluster.marks() == [1, 2]


@pytest.mark.asyncio
async def test_a_transaction_is_known_durable_before_the_next_one_is_sent(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    first = leader.write(1)
    assert await is_durable(first)
    second = leader.write(2)
    assert not second.is_known_durable
    with cluster.held():
        await is_stuck(cluster)
        third = leader.write(3)
        assert (second.number, third.number) == (2, 3)
        assert not second.is_known_durable
    assert await is_durable(second)
    assert await is_durable(third)


# -- failures ----------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_server_that_crashes_before_its_answer_makes_it_fail(
    crashing: Cluster, embedded_server: EmbeddedRig
) -> None:
    leader = Leader(crashing.worker("a"))
    assert await is_durable(leader.write(1))
    with contextlib.suppress(psycopg.Error), crashing.held():
        first = leader.write(2)
        await is_stuck(crashing)
        second = leader.write(3)
        # A crash of one process; the server ends all and starts them anew.
        os.kill(leader.backend, signal.SIGKILL)
        assert not await is_durable(first)
        assert not await is_durable(second)
    (failure,) = leader.failures
    assert isinstance(failure, ServerUnavailable)
    assert not first.is_surely_lost  # who knows
    assert second.is_surely_lost  # it was never sent
    late = leader.write(4)
    assert not await is_durable(late)
    assert late.is_surely_lost
    assert len(leader.failures) == 1
    embedded_server.restart("immediate")
    assert crashing.numbers() == [1]


@pytest.mark.asyncio
async def test_what_the_server_rolled_back_is_surely_lost(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    match = Found(uuid.uuid4().bytes, "rules", "r", "{}")
    leader.journal.changes.found(match)
    assert await is_durable(leader.journal.wrote())
    leader.journal.changes.found(match)  # such a row is there
    mark = leader.write(1)
    assert not await is_durable(mark)
    (failure,) = leader.failures
    assert isinstance(failure, ServerUnavailable)
    assert "duplicate key" in str(failure)
    assert mark.is_surely_lost
    assert not leader.journal.has_lost(1)
    assert cluster.numbers() == []
    assert cluster.marks() == [1]


@pytest.mark.asyncio
async def test_an_error_of_the_commit_itself_is_one_of_its_transaction(
    dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    create_tables(dsn)
    cluster = make_cluster(dsn)
    cluster.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'not today'; END $$;"
        f"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON {sql.COMMIT}"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION refuse()"
    )
    leader = Leader(cluster.worker("a"))
    mark = leader.write(1)
    assert not await is_durable(mark)
    assert "not today" in str(leader.failures[0])
    assert mark.is_surely_lost
    assert cluster.numbers() == []


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (f"REVOKE INSERT ON {sql.RECORD} FROM current_user", StateRefused),
        (f"DROP TABLE {sql.RECORD}", StateRefused),
        (
            f"ALTER TABLE {sql.RECORD} ADD CHECK (false) NOT VALID",
            ServerUnavailable,
        ),
    ],
)
@pytest.mark.asyncio
async def test_whether_an_operator_has_to_act_is_told(
    server: Server,
    dsn: str,
    make_cluster: Callable[[str], Cluster],
    statement: str,
    kind: type[Exception],
) -> None:
    create_tables(dsn)
    cluster = make_cluster(dsn)
    if "REVOKE" in statement:
        # The superuser lacks no right.
        role = f"writer_{uuid.uuid4().hex[:8]}"
        server.query(f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'")
        for table in sql.PRIVILEGES:
            server.query(f"ALTER TABLE {table} OWNER TO {role}", dsn=dsn)
        cluster.dsn = make_conninfo(dsn, user=role, password="sesame")
    leader = Leader(cluster.worker("a"))
    assert await is_durable(leader.write(1))
    cluster.query(statement)
    mark = leader.write(2)
    assert not await is_durable(mark)
    assert type(leader.failures[0]) is kind
    assert mark.is_surely_lost


@pytest.mark.asyncio
async def test_a_session_that_is_ended_amid_a_transaction_makes_it_fail(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    with cluster.held():
        mark = leader.write(1)
        await is_stuck(cluster)
        cluster.query(f"SELECT pg_terminate_backend({leader.backend})")
        assert not await is_durable(mark)
    (failure,) = leader.failures
    assert isinstance(failure, ServerUnavailable)
    # It might as well have been ended after the commit.
    assert not mark.is_surely_lost


@pytest.mark.asyncio
async def test_a_loop_that_stood_still_is_no_silent_server(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"), limit=0.5)
    mark = leader.write(1)
    time.sleep(0.7)  # noqa: ASYNC251 - before it is even sent
    assert await is_durable(mark)
    assert not leader.failures


@pytest.mark.asyncio
async def test_no_answer_in_time_is_a_failure(
    cluster: Cluster, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(cluster.dsn)
    leader = Leader(cluster.worker("a", network.dsn), limit=0.5)
    assert await is_durable(leader.write(1))
    network.deaf()
    mark = leader.write(2)
    assert not await is_durable(mark)
    (failure,) = leader.failures
    assert isinstance(failure, ServerUnavailable)
    assert "in time" in str(failure)
    assert not mark.is_surely_lost


@pytest.mark.asyncio
async def test_a_lost_write_is_known_before_the_next_one(
    crashing: Cluster, embedded_server: EmbeddedRig
) -> None:
    leader = Leader(crashing.worker("a"))
    with contextlib.suppress(psycopg.Error), crashing.held():
        mark = leader.write(1)
        await is_stuck(crashing)
        leader.journal.look()
        assert not leader.failures
        # The event loop is blocked all the time.
        embedded_server.stop("immediate")
        assert not leader.failures
        leader.journal.look()
        assert len(leader.failures) == 1
        assert leader.journal.is_over
    assert not await is_durable(mark)
    leader.journal.look()
    assert len(leader.failures) == 1


# -- a session that is replaced ----------------------------------------------


async def end_session(leader: Leader) -> None:
    """End it while nothing is under way, and let the journal notice."""
    leader.cluster.query(f"SELECT pg_terminate_backend({leader.backend})")
    await until(lambda: leader.tries, "it notices")


@pytest.mark.asyncio
async def test_a_session_that_ends_when_nothing_is_at_stake_is_replaced(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    assert await is_durable(leader.write(1))
    ended = leader.backend
    await end_session(leader)
    assert await is_durable(leader.write(2))
    assert leader.backend != ended
    assert not leader.failures
    # Again, and before anything was written.
    leader.tries = 0
    await end_session(leader)
    await until(lambda: leader.journal._reopening is None, "it has one")
    assert await is_durable(leader.write(3))
    assert cluster.numbers() == [1, 2, 3]
    assert not leader.failures


@pytest.mark.asyncio
async def test_what_came_meanwhile_goes_out_with_the_other_session(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    leader.may_connect.clear()
    await end_session(leader)
    marks = [leader.write(1)]
    await asyncio.sleep(SOON)
    marks.append(leader.write(2))
    leader.journal.look()
    await asyncio.sleep(SOON)
    assert [mark.number for mark in marks] == [1, 1]
    assert not marks[0].is_known_durable
    leader.may_connect.set()
    assert await is_durable(marks[1])
    assert cluster.numbers() == [1, 2]
    assert cluster.marks() == [1]
    assert not leader.failures


@pytest.mark.asyncio
async def test_a_write_that_waits_for_its_time_is_sent_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Leader(cluster.worker("a"))
    leader.may_connect.clear()
    assert await is_durable(leader.write(1))
    await end_session(leader)
    # It would be sent in a moment, but there is a session before that.
    monkeypatch.setattr(journal, "INTERVAL", 3600.0)
    leader.write(2)
    timer = leader.journal._timer
    assert timer is not None
    with cluster.held():
        leader.may_connect.set()
        await is_stuck(cluster)
        second = leader.write(3)
        if not timer.cancelled():
            timer._run()  # its time has come
        third = leader.write(4)
        assert third.number == second.number
        assert cluster.marks() == [1]
    monkeypatch.undo()
    assert await is_durable(leader.journal.last())
    assert cluster.numbers() == [1, 2, 3, 4]


@pytest.mark.asyncio
async def test_it_tries_again_until_there_is_a_session(
    cluster: Cluster,
    proxy: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "RETRY", 0.01)
    network = proxy(cluster.dsn)
    leader = Leader(cluster.worker("a", network.dsn))
    assert await is_durable(leader.write(1))
    network.refuse()
    network.cut()
    await until(lambda: leader.tries > 3, "it tries again")
    assert not leader.failures
    mark = leader.write(2)
    network.hear()
    assert await is_durable(mark)
    assert not leader.failures
    assert cluster.numbers() == [1, 2]


@pytest.mark.asyncio
async def test_a_write_fails_if_there_is_no_session_in_time(
    cluster: Cluster, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(cluster.dsn)
    leader = Leader(cluster.worker("a", network.dsn), limit=0.5)
    network.refuse()
    network.cut()
    await until(lambda: leader.tries, "it notices")
    mark = leader.write(1)
    assert not await is_durable(mark)
    (failure,) = leader.failures
    assert isinstance(failure, ServerUnavailable)
    assert mark.is_surely_lost
    tries = leader.tries
    await asyncio.sleep(SOON)
    assert leader.tries == tries


@pytest.mark.asyncio
async def test_the_end_of_a_term_ends_the_search_for_a_session(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    leader.may_connect.clear()
    await end_session(leader)
    mark = leader.write(1)
    reopening = leader.journal._reopening
    assert reopening is not None
    assert leader.journal.end() is None
    await asyncio.wait({reopening}, timeout=LIMIT)
    assert reopening.cancelled()
    assert not await is_durable(mark)
    assert mark.is_surely_lost
    assert not leader.failures


# -- the end -----------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_end_waits_for_what_is_under_way(cluster: Cluster) -> None:
    leader = Leader(cluster.worker("a"))
    with cluster.held():
        first = leader.write(1)
        await is_stuck(cluster)
        second = leader.write(2)
        ending = asyncio.ensure_future(leader.journal.finish(LIMIT))
        await asyncio.sleep(SOON)
        assert not ending.done()
    connection = await asyncio.wait_for(ending, LIMIT)
    assert first.is_known_durable
    assert second.is_known_durable
    assert cluster.numbers() == [1, 2]
    late = leader.write(3)
    assert not await is_durable(late)
    assert late.is_surely_lost
    assert not leader.failures
    # Nothing of the pipeline is left.
    assert connection is not None
    with contextlib.closing(connection):
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.asyncio
async def test_the_end_does_not_wait_for_ever(
    cluster: Cluster, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(cluster.dsn)
    leader = Leader(cluster.worker("a", network.dsn))
    assert await is_durable(leader.write(1))
    network.deaf()
    mark = leader.write(2)
    waiting = asyncio.ensure_future(is_durable(mark))
    ending = leader.journal.finish(0.2)
    assert await asyncio.wait_for(ending, LIMIT) is None
    assert not await waiting
    assert not mark.is_surely_lost
    assert not leader.failures


@pytest.mark.asyncio
async def test_the_session_serves_another_term(cluster: Cluster) -> None:
    worker = cluster.worker("a")
    backends, numbers = set(), []
    for number in range(3):
        leader = Leader(worker)
        backends.add(leader.backend)
        assert await is_durable(leader.write(number))
        assert leader.claim.retained == ({"rules": number} if number else {})
        connection = await leader.journal.finish(LIMIT)
        assert connection is not None
        worker.session.give_back(connection)
        numbers.append(number)
        assert cluster.numbers() == numbers
    assert len(backends) == 1


@pytest.mark.asyncio
async def test_an_end_at_once_gives_the_session_back_if_it_is_idle(
    cluster: Cluster,
) -> None:
    idle = Leader(cluster.worker("a"))
    connection = idle.journal.end()
    assert connection is not None
    connection.close()
    busy = Leader(cluster.worker("b"))
    with cluster.held():
        mark = busy.write(1)
        await is_stuck(cluster)
        assert busy.journal.end() is None
        assert not await is_durable(mark)
        assert not mark.is_surely_lost
    assert busy.journal.end() is None


# -- load --------------------------------------------------------------------


@pytest.mark.asyncio
async def test_it_is_behind_when_much_is_not_durable_yet(
    cluster: Cluster,
) -> None:
    leader = Leader(cluster.worker("a"))
    most = journal.MOST_BEHIND
    leader.write(*range(most))
    assert not leader.journal.is_behind
    mark = leader.write(most)
    assert leader.journal.is_behind
    assert await is_durable(mark)
    assert not leader.journal.is_behind
    # What was sent counts until it is answered.
    with cluster.held():
        leader.write(*range(most, 2 * most))
        await is_stuck(cluster)
        assert not leader.journal.is_behind
        mark = leader.write(2 * most)
        assert leader.journal.is_behind
    assert await is_durable(mark)
    assert not leader.journal.is_behind


@pytest.mark.asyncio
async def test_it_is_behind_when_something_is_not_durable_for_long(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LONGEST_BEHIND", 0.05)
    leader = Leader(cluster.worker("a"))
    with cluster.held():
        mark = leader.write(1)
        await until(lambda: leader.journal.is_behind, "it notices")
    assert await is_durable(mark)
    assert not leader.journal.is_behind
    await asyncio.sleep(SOON)
    assert not leader.journal.is_behind


@pytest.mark.asyncio
async def test_a_big_transaction_does_not_block_the_loop(
    cluster: Cluster, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(cluster.dsn)
    leader = Leader(cluster.worker("a", network.dsn))
    network.hold_to_server()
    text = '"' + "x" * 1_000_000 + '"'
    mark = leader.write(*range(30), text=text)
    # More than all buffers take; the loop that this runs on goes on.
    await until(lambda: leader.journal.durable < leader.journal._sent, "sent")
    await asyncio.sleep(SOON)
    assert not mark.is_known_durable
    network.hear()
    assert await is_durable(mark)
    assert cluster.numbers() == list(range(30))
    (found,) = cluster.query(
        f"SELECT pg_catalog.min(body) = %(text)s FROM {sql.RECORD}"
        " WHERE ha_uuid = %(ha_uuid)s",
        text=text,
    )
    assert found == (True,)
    assert await is_durable(leader.write(30))
    assert not leader.failures


@pytest.mark.asyncio
async def test_a_silent_server_amid_a_big_transaction_is_a_failure(
    cluster: Cluster, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(cluster.dsn)
    leader = Leader(cluster.worker("a", network.dsn), limit=0.5)
    network.deaf()
    mark = leader.write(*range(10), text='"' + "x" * 1_000_000 + '"')
    assert not await is_durable(mark)
    assert "in time" in str(leader.failures[0])
    assert not mark.is_surely_lost
    network.hear()
    cluster.claim("b")
    assert cluster.numbers() == []


@pytest.mark.asyncio
async def test_old_transactions_are_forgotten(
    tables: str,
    make_cluster: Callable[[str], Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "TIDY_EVERY", 4)
    monkeypatch.setattr(journal, "REMEMBERED", 8)
    cluster, other = make_cluster(tables), make_cluster(tables)
    leaders = [Leader(each.worker("a")) for each in (cluster, other)]
    assert await is_durable(leaders[1].write(0))
    for number in range(22):
        leaders[0].journal.changes.event(uuid.UUID(int=number).bytes)
        assert await is_durable(leaders[0].write(number))
    assert cluster.marks() == list(range(13, 23))
    assert cluster.numbers() == list(range(22))
    claim = cluster.claim("b")
    assert claim.mark == 22
    assert claim.events == [uuid.UUID(int=n).bytes for n in range(12, 22)]
    assert other.marks() == [1]


# -- arrays ------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
@pytest.mark.parametrize("kind", ["text", "bigint", "uuid"])
def test_the_server_reads_the_arrays_that_we_make(
    cluster: Cluster, kind: str, count: int
) -> None:
    values: list[Any]
    if kind == "text":
        values = ["", '{",\\}', "NULL", " x ", "y" * 70000][:count]
        values += [str(number) for number in range(count - len(values))]
        made = arrays.texts(values)
    elif kind == "bigint":
        values = [-1, 2**63 - 1, -(2**63), 0][:count]
        values += range(count - len(values))
        made = arrays.bigints(values)
    else:
        values = [uuid.UUID(int=2**128 - 1 - n) for n in range(count)]
        made = arrays.uuids([value.bytes for value in values])
    session = cluster.session()
    result = session.pgconn.exec_params(
        f"SELECT $1::{kind}[]::text, pg_catalog.cardinality($1),"
        " pg_catalog.array_lower($1, 1)".encode(),
        [made],
        param_formats=[psycopg.pq.Format.BINARY],
    )
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, (
        result.error_message
    )
    assert result.get_value(0, 1) == str(count).encode()
    assert result.get_value(0, 2) == (b"1" if count else None)
    text = (result.get_value(0, 0) or b"").decode()
    found = session.execute(f"SELECT %s::{kind}[]", (text,)).fetchone()
    assert found == (values,)


def test_the_server_refuses_an_array_of_another_kind(
    cluster: Cluster,
) -> None:
    # What "the server reads" above is worth.
    session = cluster.session()
    for made in (arrays.bigints([1]), struct.pack(">iiI", 0, 0, 20)):
        result = session.pgconn.exec_params(
            b"SELECT $1::text[]",
            [made],
            param_formats=[psycopg.pq.Format.BINARY],
        )
        assert result.status == psycopg.pq.ExecStatus.FATAL_ERROR


def test_a_fence_that_fails_says_so_in_its_error(cluster: Cluster) -> None:
    session = cluster.session()
    result = session.pgconn.exec_params(
        sql.FENCE.encode(), [str(cluster.uuid).encode(), b"1"]
    )
    assert result.status == psycopg.pq.ExecStatus.FATAL_ERROR
    error = psycopg.errors.error_from_result(result)
    assert error.sqlstate == sql.FENCED
    assert isinstance(classified(error.sqlstate, str(error)), StateFenced)
    assert isinstance(classified(sql.FENCED, "other"), StateRefused)
