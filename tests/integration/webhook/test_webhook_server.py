"""The webhook over real connections, with a real inbox behind it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
import ssl
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Callable

import aiohttp
import psycopg
import pytest
from clusters import until
from rig.authority import Authority
from rig.proxy import Proxy
from rig.server import Server
from webhooks import HOST, LIMIT, Hook, head, hook, raw

from ansible_rulebook.ha import connections
from ansible_rulebook.ha.errors import SourceRefused
from ansible_rulebook.ha.webhook import server as webhook_server

EVENT = {"do": "say", "word": "ö"}
SIGNED = json.dumps(EVENT).encode()
SIGNATURE = hmac.new(b"key", SIGNED, "sha256").hexdigest()


@contextlib.asynccontextmanager
async def client(**options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=LIMIT)
    async with aiohttp.ClientSession(timeout=timeout, **options) as made:
        yield made


async def post(
    url: str, content: Any = EVENT, **options: Any
) -> tuple[int, dict[str, Any]]:
    """Status and answer, on a connection of its own."""
    async with (
        client() as http,
        http.post(url, data=json.dumps(content), **options) as response,
    ):
        return response.status, await response.json()


def count(tables: str, ha_uuid: str) -> int:
    with psycopg.connect(tables) as connection:
        found = connection.execute(
            "SELECT count(*) FROM eda_ha_inbox WHERE ha_uuid = %s", (ha_uuid,)
        ).fetchone()
    assert found is not None
    return int(found[0])


# -- what is accepted --------------------------------------------------------


@pytest.mark.asyncio
async def test_what_was_accepted_is_an_event_like_upstreams(
    tables: str, ha_uuid: str
) -> None:
    async with hook(tables, ha_uuid, token="t") as one:
        headers = {
            "Authorization": "Bearer t",
            "Cookie": "a=b",
            "X-Gitlab-Token": "t",
            "X-Kind": "\udcff\udce4".encode("utf-8", "surrogateescape").decode(
                "latin-1"
            ),
        }
        status, answer = await post(one.url + "a/b%20c?d=e", headers=headers)
        assert (status, answer) == (202, {"status": "accepted"})
        event = await one.taken()
    assert event["payload"] == EVENT
    assert event["meta"]["endpoint"] == "a/b c"
    stored = event["meta"]["headers"]
    assert stored["Host"] == f"{HOST}:{one.port}"
    assert "X-Kind" in stored
    assert not {"Authorization", "Cookie", "X-Gitlab-Token"} & set(stored)
    assert set(event) == {"payload", "meta"}
    assert set(event["meta"]) == {"endpoint", "headers"}


@pytest.mark.asyncio
async def test_a_repeated_request_is_known_by_each_worker(
    tables: str, ha_uuid: str
) -> None:
    key = {"X-GitHub-Delivery": str(uuid.uuid4())}
    async with hook(tables, ha_uuid) as one, hook(tables, ha_uuid) as other:
        accepted, duplicate = {"status": "accepted"}, {"status": "duplicate"}
        assert await post(one.url, headers=key) == (202, accepted)
        assert await post(one.url, headers=key) == (202, duplicate)
        assert await post(other.url, headers=key) == (202, duplicate)
        assert await post(other.url + "x", headers=key) == (202, accepted)
        assert await post(one.url) == (202, accepted)
        endpoints = [(await one.taken())["meta"]["endpoint"] for _ in "123"]
    assert endpoints == ["", "x", ""]


@pytest.mark.asyncio
async def test_any_text_is_accepted_raw(tables: str, ha_uuid: str) -> None:
    async with hook(tables, ha_uuid, body="raw") as one, client() as http:
        for body in (b"a=b&c=\x00", "<ä/>".encode(), b""):
            async with http.post(one.url, data=body) as response:
                assert response.status == 202
            assert (await one.taken())["payload"] == body.decode()
        async with http.post(one.url, data=b"\xff") as response:
            assert response.status == 400


# -- what is refused ---------------------------------------------------------


@pytest.mark.asyncio
async def test_what_is_refused_is_not_stored(
    tables: str, ha_uuid: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key\n")
    good = {
        "Authorization": "Bearer t",
        "X-Hub-Signature-256": f"sha256={SIGNATURE}",
    }

    def but(**others: str | None) -> dict[str, str]:
        changed = {
            **good,
            **{k.replace("_", "-"): v for k, v in others.items()},
        }
        return {key: value for key, value in changed.items() if value}

    async with (
        hook(
            tables,
            ha_uuid,
            token="t",
            hmac_secret_file=str(secret),
            max_body=len(SIGNED) + 100,
            health_path="/health",
        ) as one,
        client() as http,
    ):

        async def status(
            method: str = "POST",
            path: str = "",
            body: Any = SIGNED,
            headers: dict[str, str] = good,
        ) -> int:
            async with http.request(
                method, one.url + path, data=body, headers=headers
            ) as response:
                for name in headers:
                    assert headers[name] not in str(response.headers)
                content = await response.text()
                assert "key" not in content
                if response.status == 405:
                    allowed = response.headers["Allow"]
                    assert "POST" in allowed
                    assert ("GET" in allowed) is (path == "health")
                if response.status == 401 and "token" in content:
                    assert response.headers["WWW-Authenticate"] == "Bearer"
                return response.status

        async def chunks(size: int) -> AsyncIterator[bytes]:
            for _ in range(size // 10):
                yield b"x" * 10

        assert await status(headers=but(Authorization=None)) == 401
        assert await status(headers=but(Authorization="Bearer u")) == 401
        assert await status(headers=but(X_Hub_Signature_256=None)) == 401
        assert await status(headers=but(X_Hub_Signature_256="0" * 64)) == 403
        assert await status(body=SIGNED + b" ") == 403
        assert await status(body=b"x" * 1000) == 413
        assert await status(body=chunks(100_000)) == 413
        assert await status(headers=but(Content_Encoding="gzip")) == 415
        for bad in (b"{", b"NaN", b'"\\ud800"', b"[" * 100, b"\xff", b""):
            digest = hmac.new(b"key", bad, "sha256").hexdigest()
            signed = but(X_Hub_Signature_256=digest)
            assert await status(body=bad, headers=signed) == 400
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
            assert await status(method, "x") == 405
        for method in ("PUT", "OPTIONS"):
            assert await status(method, "health") == 405
        for method in ("GET", "HEAD"):
            assert await status(method, "health", headers={}) == 200

        assert count(tables, ha_uuid) == 0
        assert await status() == 202
        assert count(tables, ha_uuid) == 1

        # The secret is replaced, in one step, and with both for a while.
        draft = tmp_path / "draft"
        draft.write_text("new\nkey\n")
        draft.replace(secret)
        assert await status() == 202
        draft.write_text("new\n")
        draft.replace(secret)
        assert await status() == 403
        digest = hmac.new(b"new", SIGNED, hashlib.sha256).hexdigest()
        assert await status(headers=but(X_Hub_Signature_256=digest)) == 202
        secret.unlink()
        assert await status() == 503


@pytest.mark.asyncio
async def test_a_client_that_asks_first_is_told_to_go_on(
    tables: str, ha_uuid: str
) -> None:
    async with hook(tables, ha_uuid, max_body=100) as one:
        async with raw(one.port) as patient:
            patient.writer.write(head(2, "Expect: 100-continue"))
            assert (await patient.answer())[0] == 100
            patient.writer.write(b"{}")
            assert (await patient.answer())[0] == 202
        async with raw(one.port) as patient:
            patient.writer.write(head(101, "Expect: 100-continue"))
            assert (await patient.answer())[0] == 413


# -- when an event cannot be stored ------------------------------------------


@pytest.mark.asyncio
async def test_a_full_inbox_asks_senders_to_come_again(
    tables: str, ha_uuid: str
) -> None:
    async with hook(tables, ha_uuid, most=2) as one, client() as http:
        for _ in range(2):
            assert (await post(one.url))[0] == 202
        async with http.post(one.url, data=b"{}") as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
        for _ in range(2):
            await one.taken()

        async def has_room() -> bool:
            return (await post(one.url))[0] == 202

        await eventually(has_room)


@pytest.mark.asyncio
async def test_an_outage_asks_senders_to_come_again(
    tables: str, ha_uuid: str, proxy: Callable[..., Proxy]
) -> None:
    between = proxy(tables)
    async with hook(between.dsn, ha_uuid) as one, client() as http:

        async def health() -> int:
            async with http.get(one.url) as response:
                return response.status

        assert (await post(one.url))[0] == 202
        assert await health() == 200
        between.refuse()
        between.cut()
        status, answer = await post(one.url)
        assert (status, answer["status"]) == (503, "refused")
        assert await health() == 503
        between.hear()

        async def is_back() -> bool:
            return (await post(one.url))[0] == 202

        await eventually(is_back)
        assert await health() == 200


async def eventually(what: Callable[[], Any]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + LIMIT
    while not await what():
        assert loop.time() < end
        await asyncio.sleep(0.05)


# -- clients that are slow, many, or hostile ---------------------------------


@pytest.mark.asyncio
async def test_slow_clients_are_cut_off_and_others_served(
    tables: str, ha_uuid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_server, "READ_WITHIN", 0.3)
    monkeypatch.setattr(webhook_server, "KEEP_ALIVE", 1000.0)
    async with hook(tables, ha_uuid) as one, contextlib.AsyncExitStack() as s:
        silent, slow_head, slow_body, kept = [
            await s.enter_async_context(raw(one.port)) for _ in range(4)
        ]
        slow_head.writer.write(b"POST / HTTP/1.1\r\nX: ")
        slow_body.writer.write(head(100) + b"{")
        await kept.post({})
        assert (await kept.answer())[0] == 202
        for each in (silent, slow_head, slow_body):
            assert await each.is_ended()
        # One that only waits for its next event is not slow.
        await kept.post({})
        assert (await kept.answer())[0] == 202
        kept.writer.write(b"POST")
        assert await kept.is_ended()
        assert (await post(one.url))[0] == 202


@pytest.mark.asyncio
async def test_a_flood_of_connections_keeps_nobody_out(
    tables: str, ha_uuid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_server, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(webhook_server, "READ_WITHIN", 1000.0)
    async with hook(tables, ha_uuid) as one, contextlib.AsyncExitStack() as s:
        flood = [await s.enter_async_context(raw(one.port)) for _ in range(60)]
        assert (await post(one.url))[0] == 202
        # Those that have been silent for longest have gone.
        for each in flood[:40]:
            assert await each.is_ended()


@pytest.mark.asyncio
async def test_bodies_that_do_not_end_keep_nobody_out(
    tables: str, ha_uuid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_server, "MOST_BYTES_AT_ONCE", 1000)
    monkeypatch.setattr(webhook_server, "READ_WITHIN", 5.0)
    async with (
        hook(tables, ha_uuid, max_body=500) as one,
        raw(one.port) as first,
        raw(one.port) as second,
    ):

        async def is_refused() -> bool:
            return (await post(one.url))[0] == 503

        for each in (first, second):
            each.writer.write(head(500) + b"{")
            await each.writer.drain()
        assert not await is_refused()  # to announce much costs nothing
        for each in (first, second):
            each.writer.write(b"x" * 498)
        await eventually(is_refused)
        for each in (first, second):
            assert await each.is_ended()
        assert (await post(one.url))[0] == 202


HOSTILE = (
    b"\0\xff" * 4096,
    b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    b"POST / HTTP/1.1\r\nX: " + b"x" * 1024 * 1024 + b"\r\n\r\n",
    b"POST /" + b"x" * 64 * 1024 + b" HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"1;"
    + b"x" * 200_000
    + b"\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{" * 2000,
    b"POST /%ff%00 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{",
    b"POST http://[/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: upgrade\r\n\r\n" + b"x" * 300_000,
)


@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_what_is_no_request_harms_nobody(
    tables: str, ha_uuid: str, number: int
) -> None:
    async with hook(tables, ha_uuid, max_body=1000) as one:
        async with raw(one.port) as hostile:
            with contextlib.suppress(ConnectionError):
                hostile.writer.write(HOSTILE[number])
                await hostile.writer.drain()
            with contextlib.suppress(OSError):
                hostile.writer.write_eof()
            assert await hostile.is_ended()
        assert (await post(one.url))[0] == 202
        assert (await one.taken())["payload"] == EVENT


# -- the end -----------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_request_under_way_is_answered_at_the_end(
    tables: str, ha_uuid: str, server: Server
) -> None:
    async with contextlib.AsyncExitStack() as clients:
        with contextlib.ExitStack() as held:
            ending = asyncio.Event()
            ready: asyncio.Future[Hook] = asyncio.Future()

            async def run() -> None:
                async with hook(tables, ha_uuid) as one:
                    ready.set_result(one)
                    await ending.wait()

            running = asyncio.ensure_future(run())
            one = await asyncio.wait_for(ready, LIMIT)
            waits, idle, other = [
                await clients.enter_async_context(raw(one.port))
                for _ in range(3)
            ]
            await idle.post({})
            status, headers, _ = await idle.answer()
            assert (status, headers.get("connection")) == (202, None)

            locker = held.enter_context(psycopg.connect(tables))
            locker.execute("LOCK TABLE eda_ha_inbox IN SHARE MODE")
            await waits.post({"word": "last"})
            await until(
                lambda: server.query(
                    "SELECT 1 FROM pg_locks WHERE NOT granted "
                    "AND relation = 'eda_ha_inbox'::regclass",
                    dsn=tables,
                ),
                "the put waits",
            )
            ending.set()
            await until(lambda: not listens(one.port), "it listens no more")
            assert not running.done()
            # One that is connected is still served, and told to go.
            other.writer.write(b"GET /x HTTP/1.1\r\nHost: eda\r\n\r\n")
            status, headers, _ = await other.answer()
            assert (status, headers["connection"]) == (405, "close")
            locker.rollback()
            status, headers, _ = await waits.answer()
            assert (status, headers["connection"]) == (202, "close")
            for each in (waits, idle, other):
                assert await each.is_ended()
            await asyncio.wait_for(running, LIMIT)
    async with hook(tables, ha_uuid) as again:
        await again.taken()
        assert (await again.taken())["payload"] == {"word": "last"}


@pytest.mark.asyncio
async def test_one_that_cannot_be_stored_does_not_hold_up_the_end(
    tables: str, ha_uuid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_server, "FINISH_WITHIN", 0.2)
    with psycopg.connect(tables) as locker:
        async with contextlib.AsyncExitStack() as clients:
            async with hook(tables, ha_uuid) as one:
                waits = await clients.enter_async_context(raw(one.port))
                locker.execute("LOCK TABLE eda_ha_inbox IN SHARE MODE")
                await waits.post({})
                await until(lambda: one.inbox._writer.waiting, "a put")
            assert await waits.rest() == b""  # nothing was acknowledged


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((HOST, port), 5).close()
        return True
    return False


# -- where it listens --------------------------------------------------------


@pytest.mark.asyncio
async def test_a_busy_port_is_waited_for_and_then_told(
    tables: str, ha_uuid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(webhook_server, "ADDRESS_PATIENCE", 0.0)
        with pytest.raises(SourceRefused) as refused:
            async with hook(tables, ha_uuid, port=port):
                pass
        assert str(refused.value) == (
            f"ha_webhook cannot listen at {HOST}:{port}: "
            "Address already in use"
        )
        monkeypatch.setattr(webhook_server, "ADDRESS_PATIENCE", LIMIT)
        asyncio.get_running_loop().call_later(0.3, other.close)
        async with hook(tables, ha_uuid, port=port) as one:
            assert (await post(one.url))[0] == 202


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a b"])
async def test_an_address_that_is_not_ours_is_told_at_once(
    tables: str, ha_uuid: str, host: str
) -> None:
    with pytest.raises(SourceRefused, match="ha_webhook cannot listen at"):
        async with hook(tables, ha_uuid, host=host):
            pass


# -- TLS ---------------------------------------------------------------------


@pytest.mark.asyncio
async def test_certificates_of_both_sides_and_their_renewal(
    tables: str, ha_uuid: str, tmp_path: Path
) -> None:
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "clients")
    certfile, keyfile = ours.sign("localhost", b"pass")
    password = tmp_path / "password"
    password.write_text("pass\n")

    def context(*certificate: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(ours.file))
        if certificate:
            made.load_cert_chain(*certificate)
        return made

    known = context(*theirs.sign("client"))
    strange = context(*ours.sign("stranger"))
    async with (
        hook(
            tables,
            ha_uuid,
            certfile=certfile,
            keyfile=keyfile,
            password_file=str(password),
            cafile=str(theirs.file),
        ) as one,
        client() as http,
    ):
        url = f"https://localhost:{one.port}/"
        async with http.post(url, json=EVENT, ssl=known) as response:
            assert response.status == 202
        for bad in (context(), strange):
            with pytest.raises(aiohttp.ClientError):
                await http.post(url, json=EVENT, ssl=bad)
        with pytest.raises(aiohttp.ClientError):
            await http.post(one.url, json=EVENT)

        serial = await serial_of(one.port, known)
        ours.sign("localhost", b"pass")

        async def is_renewed() -> bool:
            return await serial_of(one.port, known) != serial

        await eventually(is_renewed)
        # What cannot be used is not used.
        serial = await serial_of(one.port, known)
        certificate = ours.sign("localhost", b"another")
        assert certificate == (certfile, keyfile)
        await asyncio.sleep(2 * connections.SWEEP_EVERY)
        assert await serial_of(one.port, known) == serial
        assert (await one.taken())["payload"] == EVENT
        assert count(tables, ha_uuid) <= 1


async def serial_of(port: int, context: ssl.SSLContext) -> str:
    _, writer = await asyncio.open_connection(
        HOST, port, ssl=context, server_hostname="localhost"
    )
    found = str(writer.get_extra_info("peercert")["serialNumber"])
    writer.close()
    return found


@pytest.mark.asyncio
async def test_certificates_that_cannot_be_used_are_told(
    tables: str, ha_uuid: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certfile, keyfile = authority.sign("localhost", b"pass")
    for args in (
        {"certfile": str(tmp_path / "none"), "keyfile": keyfile},
        {"certfile": certfile, "keyfile": keyfile},  # no terminal is asked
        {"certfile": certfile, "keyfile": keyfile, "password": "other"},
        {
            "certfile": certfile,
            "keyfile": keyfile,
            "password": "pass",
            "cafile": keyfile,
        },
    ):
        with pytest.raises(SourceRefused, match="cannot be used") as refused:
            async with hook(tables, ha_uuid, **args):
                pass
        assert "\n" not in str(refused.value)
