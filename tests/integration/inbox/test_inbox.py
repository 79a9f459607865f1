"""An inbox on a real server, which crashes or falls silent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from typing import Any, AsyncIterator, Callable

import psycopg
import pytest
from clusters import LIMIT, Cluster, create_tables, until
from psycopg.conninfo import make_conninfo
from rig.pgbouncer import PgBouncer
from rig.server import EmbeddedRig, Server

from ansible_rulebook.ha import (
    Delivery,
    EventRefused,
    HaError,
    Inbox,
    InboxFull,
    OptionError,
    ServerUnavailable,
    StateRefused,
)
from ansible_rulebook.ha.election import listener
from ansible_rulebook.ha.inbox import inbox as inbox_module
from ansible_rulebook.ha.inbox import taker, writer
from ansible_rulebook.ha.inbox.inbox import key_bytes
from ansible_rulebook.ha.state import sql

NAME = "posts"


@contextlib.asynccontextmanager
async def opened(cluster: Cluster, **options: Any) -> AsyncIterator[Inbox]:
    name = options.pop("name", NAME)
    async with Inbox(cluster.dsn, cluster.uuid, name, **options) as inbox:
        yield inbox


def numbers(cluster: Cluster) -> list[int]:
    """The events that are stored, in their order."""
    found = cluster.query(
        f"SELECT (body::json->>'n')::int FROM {sql.INBOX}"
        " WHERE ha_uuid = %(ha_uuid)s ORDER BY id"
    )
    return [number for (number,) in found]


async def taken(inbox: Inbox) -> Delivery:
    return await asyncio.wait_for(inbox.take(), LIMIT)


async def put_all(inbox: Inbox, *events: int) -> list[bool]:
    return await asyncio.gather(*(inbox.put({"n": n}) for n in events))


# -- put, take, done ---------------------------------------------------------


@pytest.mark.asyncio
async def test_what_is_put_is_stored_and_taken_in_order(
    cluster: Cluster,
) -> None:
    async with opened(cluster) as inbox, opened(cluster) as other:
        assert await put_all(inbox, *range(100)) == [True] * 100
        assert numbers(cluster) == list(range(100))
        for number in range(100):
            delivery = await taken(other)
            assert delivery.event == {"n": number}
            other.done(delivery)
        await until(lambda: not numbers(cluster), "all are deleted")
        # It waits to be told of the next one, which somebody else puts.
        taking = asyncio.ensure_future(taken(other))
        await inbox.put({"n": 100})
        assert (await taking).event == {"n": 100}


@pytest.mark.asyncio
async def test_what_was_not_done_comes_again(cluster: Cluster) -> None:
    async with opened(cluster) as inbox:
        await put_all(inbox, 1, 2)
        inbox.done(await taken(inbox))
        assert (await taken(inbox)).event == {"n": 2}
    assert numbers(cluster) == [2]
    async with opened(cluster) as inbox:
        assert (await taken(inbox)).event == {"n": 2}


@pytest.mark.asyncio
async def test_an_event_that_became_visible_late_is_taken(
    cluster: Cluster,
) -> None:
    insert = (
        f"INSERT INTO {sql.INBOX} (ha_uuid, inbox, body)"
        " VALUES (%s, %s, '{\"n\": 1}')"
    )
    with contextlib.closing(cluster.session()) as slow:
        async with opened(cluster) as inbox:
            with slow.transaction():
                slow.execute(insert, (cluster.uuid, NAME))
                await inbox.put({"n": 2})
                assert (await taken(inbox)).event == {"n": 2}
            await inbox.put({"n": 3})  # somebody says that there is more
            assert (await taken(inbox)).event == {"n": 1}
            assert (await taken(inbox)).event == {"n": 3}


@pytest.mark.asyncio
async def test_an_inbox_has_its_own_events_and_keys(
    cluster: Cluster, make_cluster: Callable[[str], Cluster]
) -> None:
    foreign = make_cluster(cluster.dsn)
    async with (
        opened(cluster) as inbox,
        opened(cluster, name="other") as other,
        opened(foreign) as stranger,
    ):
        for each, number in ((inbox, 1), (other, 2), (stranger, 3)):
            assert await each.put({"n": number}, "key")
        for each, number in ((inbox, 1), (other, 2), (stranger, 3)):
            assert (await taken(each)).event == {"n": number}


@pytest.mark.asyncio
async def test_no_cancellation_is_lost_as_news_comes(cluster: Cluster) -> None:
    async with opened(cluster) as inbox, opened(cluster) as other:
        await inbox.put({"n": 0})
        await taken(inbox)
        looks = inbox._taker
        assert looks is not None
        taking = asyncio.ensure_future(inbox.take())
        await until(lambda: not looks._has_news, "it listens")
        hears = looks._listener
        assert hears is not None
        hears._heard = lambda notify: (taking.cancel(), None)[1]
        await other.put({"n": 1})
        await asyncio.wait({taking}, timeout=LIMIT)
        assert taking.cancelled()
        assert (await taken(inbox)).event == {"n": 1}
        looks.end()
        with pytest.raises(asyncio.CancelledError):
            await looks.take()


@pytest.mark.asyncio
async def test_only_so_many_are_in_hand(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taker, "MOST_IN_HAND", 3)
    async with opened(cluster) as inbox:
        await put_all(inbox, *range(5))
        first = [await taken(inbox) for _ in range(3)]
        fourth = asyncio.ensure_future(taken(inbox))
        # It looks again and again, and finds room only when one is done.
        await inbox.put({"n": 5})
        assert not fourth.done()
        inbox.done(first[1])
        assert (await fourth).event == {"n": 3}


# -- keys --------------------------------------------------------------------


@pytest.mark.asyncio
async def test_of_events_with_one_key_one_is_stored(cluster: Cluster) -> None:
    async with opened(cluster) as inbox, opened(cluster) as other:
        results = await asyncio.gather(
            *(
                each.put({"n": number}, f"k{number}")
                for number in range(50)
                for each in (inbox, other, inbox)
            )
        )
        assert results.count(True) == 50
        assert sorted(numbers(cluster)) == list(range(50))
        # Also when it has been processed.
        delivery = await taken(inbox)
        inbox.done(delivery)
        key = f"k{delivery.event['n']}"
        await until(lambda: len(numbers(cluster)) == 49, "it is gone")
        assert not await other.put(delivery.event, key)
        # A day later it is a new one.
        cluster.query(
            f"UPDATE {sql.INBOX_KEY} SET seen = seen - interval '25 hours'"
            " WHERE ha_uuid = %(ha_uuid)s"
        )
        assert await other.put(delivery.event, key)


@pytest.mark.asyncio
async def test_old_keys_are_deleted(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taker, "TIDY_EVERY", 0.0)
    monkeypatch.setattr(taker, "TIDY_PORTION", 2)
    count = f"SELECT count(*) FROM {sql.INBOX_KEY} WHERE ha_uuid = %(ha_uuid)s"
    async with opened(cluster) as inbox:
        for number in range(5):
            await inbox.put({"n": number}, str(number))
        cluster.query(
            f"UPDATE {sql.INBOX_KEY} SET seen = seen - interval '25 hours'"
            " WHERE ha_uuid = %(ha_uuid)s"
        )
        await inbox.put({"n": 5}, "5")
        for number in range(6):  # also while events come
            assert (await taken(inbox)).event == {"n": number}
        taking = asyncio.ensure_future(taken(inbox))
        await until(lambda: cluster.query(count) == [(1,)], "one is left")
        taking.cancel()
        await asyncio.wait({taking})


@pytest.mark.asyncio
async def test_writers_with_the_same_keys_do_not_block_each_other(
    cluster: Cluster,
) -> None:
    def put(inbox: Inbox, keys: str) -> asyncio.Future[list[bool]]:
        return asyncio.gather(*(inbox.put({}, key) for key in keys))

    async with opened(cluster) as one, opened(cluster) as two:
        await put(one, "1")
        await put(two, "2")
        with contextlib.closing(cluster.session()) as somebody:
            somebody.execute("BEGIN")
            somebody.execute(
                f"INSERT INTO {sql.INBOX_KEY} VALUES (%s, %s, %s, now())",
                (cluster.uuid, NAME, uuid.UUID(bytes=key_bytes("z"))),
            )
            # In one transaction each, in this order.
            putting = [put(one, "xzy"), put(two, "yzx")]
            await until(lambda: len(cluster.waiting()) == 2, "both wait")
            somebody.execute("ROLLBACK")
        results = [await each for each in putting]
        assert sum(results[0]) + sum(results[1]) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "key", ["", "\0", "é\U0001f600", "\udcff", "x" * 100_000, "'; --"]
)
async def test_any_text_is_a_key(cluster: Cluster, key: str) -> None:
    async with opened(cluster) as inbox:
        assert await inbox.put({}, key)
        assert not await inbox.put({}, key)


# -- what is refused ---------------------------------------------------------


@pytest.mark.asyncio
async def test_a_full_inbox_takes_nothing_until_there_is_room(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(cluster, most=3) as inbox:
        await put_all(inbox, 1, 2, 3)
        with pytest.raises(InboxFull) as full:
            await inbox.put({"n": 4})
        assert full.value.retry_after > 0
        assert numbers(cluster) == [1, 2, 3]
        inbox.done(await taken(inbox))

        async def fits() -> bool:
            try:
                return await inbox.put({"n": 5})
            except InboxFull:
                return False

        deadline = asyncio.get_running_loop().time() + LIMIT
        while not await fits():
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        assert numbers(cluster) == [2, 3, 5]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "event",
    [
        *([], "text", None),
        *({"x": float("nan")}, {"x": object()}, {"x": b""}),
        *({"meta": 5}, {"meta": None}),
    ],
)
async def test_what_is_no_json_object_is_refused(
    cluster: Cluster, event: Any
) -> None:
    async with opened(cluster) as inbox:
        with pytest.raises(EventRefused):
            await inbox.put(event)
        assert numbers(cluster) == []


@pytest.mark.parametrize("name", ["", "a b", "é", "a'b", "x" * 101, "-a", 7])
def test_a_name_that_cannot_be(name: Any) -> None:
    with pytest.raises(OptionError, match="name of an inbox"):
        Inbox("host=x", uuid.uuid4(), name)


@pytest.mark.parametrize("most", [0, -1, True, "5", 1.5])
def test_a_limit_that_cannot_be(most: Any) -> None:
    with pytest.raises(OptionError, match="most"):
        Inbox("host=x", uuid.uuid4(), NAME, most)


@pytest.mark.asyncio
async def test_any_json_comes_back_as_it_was(cluster: Cluster) -> None:
    event = {"é\U0001f600\0": ["\udcff", 10**40, -0.5, None, {"": True}]}
    async with opened(cluster) as inbox:
        await inbox.put(event)
        assert (await taken(inbox)).event == event


# -- a server that fails -----------------------------------------------------


@pytest.mark.asyncio
async def test_what_was_acknowledged_survives_a_crash(
    embedded_server: EmbeddedRig, make_cluster: Callable[[str], Cluster]
) -> None:
    dsn = embedded_server.create_database()
    # A role that does not care for what is lost with a crash.
    embedded_server.query(
        "ALTER DATABASE "
        + dsn.rsplit("dbname=")[1].split()[0]
        + " SET synchronous_commit = off"
    )
    create_tables(dsn)
    cluster = make_cluster(dsn)
    acknowledged: list[int] = []
    async with opened(cluster) as inbox:

        async def post(number: int) -> None:
            with contextlib.suppress(ServerUnavailable):
                await inbox.put({"n": number})
                acknowledged.append(number)

        posts = []
        for number in range(300):
            posts.append(asyncio.ensure_future(post(number)))
            await asyncio.sleep(0)
            if number == 150:
                await until(lambda: acknowledged, "some are")
                await asyncio.to_thread(embedded_server.restart, "immediate")
        await asyncio.gather(*posts)
        assert set(acknowledged) <= set(numbers(cluster))
        assert await inbox.put({"n": 300})
        # Those that waited for the server were stored when it was there.
        assert len(acknowledged) > 150


@pytest.mark.asyncio
async def test_a_server_that_is_silent_is_not_waited_for(
    embedded_server: EmbeddedRig,
    make_cluster: Callable[[str], Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dsn = embedded_server.create_database()
    create_tables(dsn)
    cluster = make_cluster(dsn)
    async with opened(cluster) as inbox:
        await inbox.put({"n": 0})
        monkeypatch.setattr(writer, "ANSWER_WITHIN", 0.5)
        with cluster.held(sql.INBOX), pytest.raises(ServerUnavailable):
            await asyncio.wait_for(inbox.put({"n": 1}), LIMIT)
        monkeypatch.setattr(writer, "ANSWER_WITHIN", LIMIT)
        assert await inbox.put({"n": 2})
    assert 2 in numbers(cluster)


@pytest.mark.asyncio
async def test_it_opens_without_a_server_and_waits_for_it(
    embedded_server: EmbeddedRig, make_cluster: Callable[[str], Cluster]
) -> None:
    cluster = make_cluster(embedded_server.create_database())
    embedded_server.stop("immediate")
    async with opened(cluster) as inbox:
        putting = asyncio.ensure_future(inbox.put({"n": 1}))
        taking = asyncio.ensure_future(taken(inbox))
        await asyncio.to_thread(embedded_server.start)
        assert await putting  # into tables that it has made
        assert (await taking).event == {"n": 1}


@pytest.mark.asyncio
async def test_an_ended_session_loses_nothing(cluster: Cluster) -> None:
    async with opened(cluster) as inbox:
        await inbox.put({"n": 0})
        assert (await taken(inbox)).event == {"n": 0}
        taking = asyncio.ensure_future(taken(inbox))
        ended = cluster.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'eda-inbox:%%'"
            " AND datname = current_database()"
        )
        assert ended == [(True,), (True,)]
        while True:
            with contextlib.suppress(ServerUnavailable):
                await inbox.put({"n": 1}, "key")
                break
        assert (await taking).event == {"n": 1}


@pytest.mark.asyncio
async def test_a_session_that_falls_silent_alone_is_replaced(
    embedded_server: EmbeddedRig,
    make_cluster: Callable[[str], Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "ANSWER_WITHIN", 1.0)
    monkeypatch.setattr(taker, "LOOK_AGAIN", 0.5)
    dsn = embedded_server.create_database()
    create_tables(dsn)
    cluster = make_cluster(dsn)
    async with opened(cluster) as inbox:
        await inbox.put({"n": 1})
        await taken(inbox)
        ((backend,),) = cluster.query(
            "SELECT pid FROM pg_stat_activity WHERE query LIKE '%%measured%%'"
            " AND application_name LIKE 'eda-inbox:%%'"
        )
        os.kill(backend, signal.SIGSTOP)
        try:
            taking = asyncio.ensure_future(taken(inbox))
            await inbox.put({"n": 2})
            event = (await taking).event
            while event == {"n": 1}:  # it was not done
                event = (await taken(inbox)).event
            assert event == {"n": 2}
        finally:
            os.kill(backend, signal.SIGCONT)


@pytest.mark.asyncio
async def test_a_key_that_somebody_keeps_to_himself_piles_nothing_up(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOCK_WITHIN", 0.2)
    async with opened(cluster) as inbox:
        with contextlib.closing(cluster.session()) as somebody:
            somebody.execute("BEGIN")
            somebody.execute(
                f"SELECT {sql.POST}(%s, %s, '{{}}', 'key')",
                (cluster.uuid, NAME),
            )
            for number in range(2):
                with pytest.raises(ServerUnavailable):
                    await inbox.put({"n": number}, "key")
            assert cluster.waiting() == []
            assert await inbox.put({"n": 2}, "another")
            somebody.execute("ROLLBACK")
        # What was not acknowledged in time is not stored later, either.
        assert await inbox.put({"n": 3}, "key")
    assert numbers(cluster) == [2, 3]


@pytest.mark.asyncio
async def test_little_is_in_memory_however_much_waits(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "MOST_BYTES_WAITING", 3000)
    monkeypatch.setattr(taker, "PORTION_BYTES", 3000)
    text = "x" * 1000
    async with opened(cluster) as inbox:
        with cluster.held(sql.INBOX):
            putting = [
                asyncio.ensure_future(inbox.put({"n": number, "text": text}))
                for number in range(5)
            ]
            done, waiting = await asyncio.wait(
                putting, return_when=asyncio.FIRST_COMPLETED
            )
            for each in done:
                assert isinstance(each.exception(), InboxFull)
            assert len(waiting) == 2
        assert await asyncio.gather(*waiting) == [True, True]
        for number in range(2, 9):
            await inbox.put({"n": number, "text": text})
        for number in range(9):
            assert (await taken(inbox)).event["n"] == number
            assert inbox._taker is not None
            assert len(inbox._taker._ready) < 3


@pytest.mark.asyncio
async def test_what_is_deleted_is_not_looked_at_each_time(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taker, "SLOW_LOOK", -1.0)  # each is slow
    monkeypatch.setattr(taker, "SLOW_LOOKS_SHARE", 1e-9)
    monkeypatch.setattr(taker, "LOOK_AGAIN", 0.5)
    insert = (
        f"INSERT INTO {sql.INBOX} (ha_uuid, inbox, body)"
        " VALUES (%s, %s, '{\"n\": -1}')"
    )
    with contextlib.closing(cluster.session()) as slow:
        async with opened(cluster) as inbox:
            with slow.transaction():
                slow.execute(insert, (cluster.uuid, NAME))
                for number in range(200):
                    await inbox.put({"n": number})
                    delivery = await taken(inbox)
                    assert delivery.event == {"n": number}
                    inbox.done(delivery)
                looks = inbox._taker
                assert looks is not None
                assert looks._first > 0
                # A million rows took half a second a portion, sorted.
                assert looks._listener is not None
                shown = await looks._listener.fetch("SHOW enable_bitmapscan")
                assert shown == [("off",)]
            # What became visible late is not forgotten.
            assert (await taken(inbox)).event == {"n": -1}


@pytest.mark.asyncio
async def test_a_full_inbox_is_not_counted_for_each_that_is_refused(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(cluster, most=1) as inbox:
        await inbox.put({})
        loop, counted = asyncio.get_running_loop(), 0
        pipeline = inbox._open()._pipeline
        assert pipeline is not None
        send = pipeline.send

        def count(statements: Any) -> None:
            nonlocal counted
            counted += 1
            send(statements)

        monkeypatch.setattr(pipeline, "send", count)
        began = loop.time()
        for _ in range(100):
            with pytest.raises(InboxFull):
                await inbox.put({})
            await asyncio.sleep(0.001)
        assert counted <= loop.time() - began + 1


# -- tables and rights -------------------------------------------------------


@pytest.mark.asyncio
async def test_the_tables_are_made(
    dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    cluster = make_cluster(dsn)
    async with opened(cluster) as inbox, opened(cluster) as other:
        assert await inbox.put({"n": 1})
        assert (await taken(other)).event == {"n": 1}


@pytest.mark.asyncio
async def test_a_pooler_may_drop_the_search_path(
    server: Server,
    dsn: str,
    make_cluster: Callable[[str], Cluster],
    pgbouncer: Callable[..., PgBouncer],
) -> None:
    server.query("CREATE SCHEMA eda", dsn=dsn)
    own_schema = {"options": "-csearch_path=eda"}
    create_tables(make_conninfo(dsn, **own_schema))
    pooler = pgbouncer(
        dsn,
        "session",
        ignore_startup_parameters="options,extra_float_digits",
    )
    cluster = make_cluster(make_conninfo(pooler.dsn, **own_schema))
    async with opened(cluster) as inbox:
        assert await inbox.put({"n": 1})
        assert (await taken(inbox)).event == {"n": 1}


@pytest.mark.asyncio
async def test_a_role_that_may_not_make_them_is_told(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    server.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC", dsn=dsn)
    name = f"poor_{uuid.uuid4().hex[:8]}"
    server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'", dsn=dsn)
    poor = make_conninfo(dsn, user=name, password="secret")
    try:
        with pytest.raises(StateRefused, match="lacks CREATE"):
            async with opened(make_cluster(poor)):
                raise AssertionError("it is open")
    finally:
        server.query(f"DROP ROLE {name}", dsn=dsn)


# -- eda_ha_post -------------------------------------------------------------


@pytest.mark.asyncio
async def test_any_program_may_post(
    server: Server, tables: str, cluster: Cluster
) -> None:
    name = f"poster_{uuid.uuid4().hex[:8]}"
    server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'", dsn=tables)
    dsn = make_conninfo(tables, user=name, password="secret")
    post = f"SELECT {sql.POST}(%s, %s, %s, %s)"
    try:
        with contextlib.closing(psycopg.connect(dsn, autocommit=True)) as it:
            values = (cluster.uuid, NAME, '{"n": 1}', "é-key")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                it.execute(post, values)
            server.query(
                f"GRANT EXECUTE ON FUNCTION {sql.POST} TO {name}", dsn=tables
            )
            async with opened(cluster) as inbox:
                taking = asyncio.ensure_future(taken(inbox))
                assert it.execute(post, values).fetchone() == (True,)
                assert (await taking).event == {"n": 1}
                # The keys are those of put().
                assert it.execute(post, values).fetchone() == (False,)
                assert not await inbox.put({"n": 1}, "é-key")
                assert await inbox.put({"n": 2}, "another")
                again = (cluster.uuid, NAME, '{"n": 2}', "another")
                assert it.execute(post, again).fetchone() == (False,)
            # It can do nothing else.
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                it.execute(f"SELECT * FROM {sql.INBOX}")
    finally:
        server.query(f"DROP OWNED BY {name}", dsn=tables)
        server.query(f"DROP ROLE {name}", dsn=tables)


@pytest.mark.parametrize(
    ("inbox", "event"),
    [
        ("a b", "{}"),
        ("x" * 101, "{}"),
        (None, "{}"),
        (NAME, "[]"),
        (NAME, "7"),
        (NAME, None),
        (NAME, '{"meta": null}'),
        (NAME, '{"x": "%s"}' % ("x" * sql.LARGEST)),
    ],
)
def test_a_post_that_cannot_be_is_refused(
    cluster: Cluster, inbox: str | None, event: str | None
) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=sql.POST):
        cluster.query(
            f"SELECT {sql.POST}(%(ha_uuid)s, %(inbox)s, %(event)s)",
            inbox=inbox,
            event=event,
        )


@pytest.mark.asyncio
async def test_a_post_cannot_hold_up_the_others(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    name = f"ascii_{uuid.uuid4().hex[:8]}"
    server.query(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII'"
        " LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    found = make_conninfo(dsn, dbname=name)
    create_tables(found)
    cluster = make_cluster(found)
    latin = """SELECT eda_ha_post(%(ha_uuid)s, 'posts',
        (chr(123) || '"n": "' || chr(233) || '"' || chr(125))::json)"""
    try:
        with pytest.raises(psycopg.errors.CharacterNotInRepertoire):
            cluster.query(latin)
        cluster.query(latin.replace("chr(233)", "chr(195) || chr(169)"))
        async with opened(cluster) as inbox:
            assert (await taken(inbox)).event == {"n": "é"}
    finally:
        server.query(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.asyncio
async def test_the_worker_says_where_an_event_comes_from(
    cluster: Cluster,
) -> None:
    async with opened(cluster) as inbox:
        await inbox.put({"meta": {"source": {"name": {}}, "x": 1}})
        assert (await taken(inbox)).event == {"meta": {"x": 1}}


def test_what_is_closed_says_so(cluster: Cluster) -> None:
    inbox = Inbox(cluster.dsn, cluster.uuid, NAME)
    with pytest.raises(HaError, match="not open"):
        asyncio.run(inbox.put({}))
