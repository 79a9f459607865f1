"""What the commands that steer do to real elections on a real server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, Callable

import pytest
from command_runs import COMMAND, Done, start
from elections import (
    LIMIT,
    Referee,
    follows,
    leads,
    make,
    one_leads,
    pair,
    running,
    until,
)
from psycopg.conninfo import make_conninfo
from rig.proxy import Proxy
from rig.server import Server
from rig.workers import worker_env

from ansible_rulebook.ha.election.requests import Request
from ansible_rulebook.ha.operations.exit_codes import ExitCode

pytestmark = pytest.mark.asyncio

HOSTILE = "\x1b[2J\x1b]0;owned\x07<b>\n'; DROP TABLE x; --*/ /* %s {x}"
DEAF_FOR = "3"  # seconds until a command that waits in vain gives up


@pytest.fixture
def stranger(server: Server) -> Iterator[Callable[[str], str]]:
    """The DSN of a role that may only connect."""
    name = f"r{uuid.uuid4().hex[:8]}"
    server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame'")
    yield lambda dsn: make_conninfo(dsn, user=name, password="sesame")
    server.query(f"DROP ROLE {name}")


async def ask(dsn: str, ha_uuid: str, command: str, *args: str) -> Done:
    return await asyncio.to_thread(
        start,
        command,
        *args,
        EDA_HA_POSTGRES_DSN=dsn,
        EDA_HA_UUID=ha_uuid,
    )


async def status(dsn: str, ha_uuid: str) -> Any:
    done = await ask(dsn, ha_uuid, "status", "--json", "--timeout", "30")
    (cluster,) = done.json["clusters"]
    return cluster


class Pausing:
    """The command ``pause``, which runs."""

    def __init__(self, dsn: str, ha_uuid: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "pause", *args],
            env=worker_env(
                {"EDA_HA_POSTGRES_DSN": dsn, "EDA_HA_UUID": ha_uuid}
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    async def said(self) -> str:
        """Its first line: it holds the lock."""
        assert self.process.stdout is not None
        return await asyncio.wait_for(
            asyncio.to_thread(self.process.stdout.readline), LIMIT
        )

    async def done(self) -> Done:
        stdout, stderr = await asyncio.to_thread(
            self.process.communicate, timeout=LIMIT
        )
        return Done(self.process.returncode, stdout, stderr)


@contextlib.asynccontextmanager
async def pausing(
    dsn: str, ha_uuid: str, *args: str
) -> AsyncIterator[Pausing]:
    made = Pausing(dsn, ha_uuid, *args)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()


# -- switchover ----------------------------------------------------------


async def test_a_switchover_says_who_leads(dsn: str, ha_uuid: str) -> None:
    workers = [make(dsn, ha_uuid, f"w{n}") for n in range(3)]
    with Referee(*workers):
        async with running(workers[0]):
            await leads(workers[0])
            async with running(*workers[1:]):
                for each in workers[1:]:
                    await follows(each)
                done = await ask(
                    dsn,
                    ha_uuid,
                    "switchover",
                    *("--yes", "--to", "w2", "--reason", HOSTILE),
                )
                assert done.code == ExitCode.DONE, done
                assert "w2 leads now, after w0. Nobody led for" in done.stdout
                assert workers[2].is_leader()
                done = await ask(dsn, ha_uuid, "switchover", "--yes", "--json")
                assert done.code == ExitCode.DONE, done
                told = done.json
                assert (told["v"], told["exit"]) == (1, 0)
                assert told["before"] == "w2"
                assert told["leader"] in ("w0", "w1")
                assert 0 <= told["gap"] < LIMIT


async def test_what_cannot_be_done_is_refused(
    server: Server,
    dsn: str,
    ha_uuid: str,
    stranger: Callable[[str], str],
) -> None:
    async def refused(*args: str, by: str = dsn) -> str:
        done = await ask(by, ha_uuid, *args)
        assert done.code == ExitCode.REFUSED, done
        assert done.stdout == ""
        return done.stderr

    for command in ("switchover", "drill"):
        assert "nobody leads" in await refused(command, "--yes")
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with running(first):
        await leads(first)
        told = await refused("switchover", "--yes")
        assert "no worker is there" in told
        for kind in ([], ["--kill"]):
            told = await refused("drill", "--yes", *kind)
            assert "no worker stands by to take over from w1" in told
        async with running(second):
            await follows(second)
            told = await refused("switchover", "--yes", "--to", "w7\x1b[2J")
            assert r"no worker w7\x1b[2J is there" in told
            told = await refused("switchover", "--yes", "--to", "w1")
            assert "w1 leads already" in told
            strange = stranger(dsn)
            for args in (["switchover"], ["drill"]):
                told = await refused(*args, "--yes", by=strange)
                assert "may not end the leader's session" in told
            told = await refused("drill", "--kill", "--yes", by=strange)
            # PostgreSQL's own words, which are others from 16 on.
            old = "must be a superuser"
            assert (
                "permission denied" if server.version >= 16 else old
            ) in told
            told = await refused("pause", by=strange)
            assert "may not end the leader's session" in told
            assert first.is_leader()
            assert first.term is not None
            assert first.term.number == 1


async def test_without_a_terminal_yes_has_to_be_said(
    dsn: str, ha_uuid: str
) -> None:
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        for command in ("switchover", "drill"):
            done = await ask(dsn, ha_uuid, command)
            assert done.code == ExitCode.USAGE
            assert "say --yes" in done.stderr
        assert first.is_leader()


def on_terminal(dsn: str, ha_uuid: str, answer: bytes) -> int:
    """Switchover, with its question answered."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "switchover"],
        env=worker_env({"EDA_HA_POSTGRES_DSN": dsn, "EDA_HA_UUID": ha_uuid}),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        question = b""
        while not question.endswith(b"[y/N] "):
            found = os.read(process.stderr.fileno(), 1000)
            assert found, question
            question += found
        assert question == b"Have w1 hand over to another worker? [y/N] "
        os.write(ours, answer)
        process.communicate(timeout=LIMIT)
        return process.returncode
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


async def test_on_a_terminal_it_asks(dsn: str, ha_uuid: str) -> None:
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        for answer in (b"\n", b"no\n", b"\x04"):
            code = await asyncio.to_thread(on_terminal, dsn, ha_uuid, answer)
            assert code == ExitCode.REFUSED
            assert first.is_leader()
        code = await asyncio.to_thread(on_terminal, dsn, ha_uuid, b"y\n")
        assert code == ExitCode.DONE
        assert second.is_leader()


@pytest.mark.parametrize("command", ["switchover", "drill", "pause"])
async def test_a_drain_that_takes_too_long_is_told(
    dsn: str, ha_uuid: str, command: str
) -> None:
    asked: list[Request] = []
    first = make(dsn, ha_uuid, "w1", on_request=asked.append)
    yes = [] if command == "pause" else ["--yes"]
    async with pair(first, make(dsn, ha_uuid, "w2")):
        done = await ask(
            dsn, ha_uuid, command, "--timeout", DEAF_FOR, "--json", *yes
        )
        assert done.code == ExitCode.TIMED_OUT, done
        assert "w1 leads now, and hands over when its" in done.json["error"]
        assert len(asked) == 1


@pytest.mark.parametrize("command", ["switchover", "drill", "pause"])
async def test_a_server_that_is_away_cannot_be_asked(
    dsn: str, ha_uuid: str, command: str, proxy: Callable[[str], Proxy]
) -> None:
    away = proxy(dsn)
    away.refuse()
    yes = [] if command == "pause" else ["--yes"]
    done = await ask(away.reroute(dsn), ha_uuid, command, *yes)
    assert done.code == ExitCode.UNASKED, done


# -- pause ---------------------------------------------------------------


async def test_a_pause_is_seen_by_everybody(
    dsn: str, ha_uuid: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    with Referee(first, second):
        async with (
            pair(first, second),
            pausing(
                dsn, ha_uuid, "--reason", HOSTILE, "--for", "10m"
            ) as pause,
        ):
            said = await pause.said()
            assert said.startswith("Paused until 2")
            assert said.endswith(", after w1. Nobody leads.\n")
            assert not first.is_leader()
            assert not second.is_leader()
            told = await status(dsn, ha_uuid)
            assert told["exit"] == ExitCode.DEGRADED
            by = told["paused_by"]
            assert by.endswith(f"-{pause.process.pid}")
            assert "@" in by
            assert told["pause"]["reason"] == HOSTILE
            assert told["pause"]["until"] == pytest.approx(
                told["pause"]["since"] + 600, abs=LIMIT
            )
            for args in (["status"], ["status", "--all"], ["why"]):
                done = await ask(dsn, ha_uuid, *args)
                assert done.code == ExitCode.DEGRADED
                assert f"{by} since 2" in done.stdout, args
                assert " until 2" in done.stdout
                assert "\\x1b[2J\\x1b]0;owned\\x07<b>\\n'; D" in done.stdout
                assert "\x1b" not in done.stdout
            await until(
                lambda: (
                    "Following (ha_uuid" in caplog.text
                    and "leader=eda-ha-pause:" in caplog.text
                ),
                "a worker says whom it follows",
            )
            await until(
                lambda: all(each.view().pause for each in (first, second)),
                "the workers know why nobody leads",
            )
            for command in ("switchover", "drill"):
                done = await ask(dsn, ha_uuid, command, "--yes")
                assert done.code == ExitCode.REFUSED
                assert "the cluster is paused by" in done.stderr
            done = await ask(dsn, ha_uuid, "pause")
            assert done.code == ExitCode.REFUSED
            (line,) = done.stderr.splitlines()
            assert "the cluster is paused by" in line
            assert not first.is_leader()
            assert not second.is_leader()
            assert pause.process.returncode is None
            pause.process.send_signal(signal.SIGTERM)
            await until(
                lambda: not any(each.view().pause for each in (first, second)),
                "the workers know that the pause is over",
            )


def asked_to(number: signal.Signals) -> Callable[[Pausing, Any], object]:
    return lambda pause, _: pause.signal(number)


def ended_by(dsn: str, server: Server) -> object:
    assert server.terminate("eda-ha-pause:%", dsn=dsn) == 1
    return None


@pytest.mark.parametrize(
    "end, code",
    [
        (asked_to(signal.SIGINT), ExitCode.DONE),
        (asked_to(signal.SIGTERM), ExitCode.DONE),
        (asked_to(signal.SIGKILL), -signal.SIGKILL),
        (asked_to(signal.SIGSTOP), ExitCode.REFUSED),
        (lambda _, proxy: proxy.deaf(), ExitCode.REFUSED),
        (lambda _, proxy: proxy.cut(), ExitCode.REFUSED),
        (None, ExitCode.DONE),  # its time
    ],
    ids=["ctrl-c", "term", "kill", "stop", "deaf", "cut", "for"],
)
async def test_workers_lead_again_when_a_pause_ends(
    dsn: str,
    ha_uuid: str,
    proxy: Callable[[str], Proxy],
    end: Callable[[Pausing, Any], object] | None,
    code: int,
) -> None:
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    between = proxy(dsn)
    args = ["--for", "3s"] if end is None else []
    with Referee(first, second):
        async with (
            pair(first, second),
            pausing(between.reroute(dsn), ha_uuid, *args) as pause,
        ):
            await pause.said()
            assert not (first.is_leader() or second.is_leader())
            # It holds for longer than a lease of theirs.
            if end is not None:
                await asyncio.sleep(2.5)
                assert not (first.is_leader() or second.is_leader())
                end(pause, between)
            leader = await one_leads([first, second])
            pause.signal(signal.SIGCONT)
            done = await pause.done()
            assert done.code == code, done
            if code == ExitCode.REFUSED:
                assert "the pause was lost, and workers" in done.stderr
            assert leader.is_leader()


async def test_a_session_that_is_ended_ends_the_pause(
    dsn: str, ha_uuid: str, server: Server
) -> None:
    worker = make(dsn, ha_uuid, "w1")
    async with pausing(dsn, ha_uuid) as pause:
        # Nobody led, so nobody is asked.
        assert await pause.said() == "Paused until Ctrl-C. Nobody leads.\n"
        async with running(worker):
            await follows(worker)
            assert server.terminate("eda-ha-pause:%", dsn=dsn) == 1
            await leads(worker)
            done = await pause.done()
            assert done.code == ExitCode.REFUSED
            assert "the pause was lost" in done.stderr
            assert worker.is_leader()


async def test_of_two_pauses_at_once_one_is_refused(
    dsn: str, ha_uuid: str
) -> None:
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with (
        pair(first, second),
        pausing(dsn, ha_uuid) as one,
        pausing(dsn, ha_uuid) as other,
    ):
        said = await asyncio.gather(one.said(), other.said())
        assert sorted(map(bool, said)) == [False, True]
        loser = one if said[1] else other
        done = await loser.done()
        assert done.code == ExitCode.REFUSED, done
        assert "paused by" in done.stderr


# -- drill ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [[], ["--kill"]], ids=["orderly", "kill"])
async def test_a_drill_measures_how_long_nobody_leads(
    dsn: str, ha_uuid: str, kind: list[str]
) -> None:
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    with Referee(first, second):
        async with pair(first, second):
            done = await ask(
                dsn, ha_uuid, "drill", "--yes", "--json", "--max", "30", *kind
            )
            assert done.code == ExitCode.DONE, done
            told = done.json
            assert told["kind"] == ("kill" if kind else "switchover")
            assert (told["before"], told["leader"]) == ("w1", "w2")
            assert 0 <= told["gap"] <= told["max"]
            await follows(first)
            done = await ask(dsn, ha_uuid, "drill", "--yes", *kind)
            assert done.code == ExitCode.DONE
            assert "w1 leads now, after w2: " in done.stdout
            assert "Nobody led for" in done.stdout


@pytest.mark.parametrize("kind", [[], ["--kill"]], ids=["orderly", "kill"])
async def test_a_drill_that_takes_too_long_fails(
    dsn: str, ha_uuid: str, kind: list[str]
) -> None:
    async def slowly(_: object) -> None:
        await asyncio.sleep(1)

    first = make(dsn, ha_uuid, "w1")
    second = make(dsn, ha_uuid, "w2", on_promotion=slowly)
    async with pair(first, second):
        done = await ask(dsn, ha_uuid, "drill", "--yes", "--max", "0.2", *kind)
        assert done.code == ExitCode.REFUSED, done
        assert "TOO LONG: 200 ms are allowed" in done.stdout
        assert second.is_leader()
