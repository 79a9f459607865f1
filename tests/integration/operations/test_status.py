"""What the commands that only look tell about sessions on a real server."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Tuple

import pytest
from clusters import LIMIT, Cluster, create_tables, state_session, wait_until
from command_runs import COMMAND, WELL, Done, run, start
from psycopg.conninfo import make_conninfo
from rig.proxy import Proxy
from rig.server import EmbeddedRig, Server
from rig.workers import worker_env
from shown import Shown, said

from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.beacon import Beacon
from ansible_rulebook.ha.election.names import PAUSE, application_name
from ansible_rulebook.ha.election.reasons import Reason
from ansible_rulebook.ha.operations.cluster import look
from ansible_rulebook.ha.operations.exit_codes import ExitCode
from ansible_rulebook.ha.state import sql
from ansible_rulebook.ha.state.history import Beginning, History
from ansible_rulebook.ha.state.names import stored

HOSTILE = [
    "\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    "<script>alert(1)</script>[bold]x[/bold]",
    "two\nlines\r\x00\x7f\u202egnp.exe",
    "'; DROP TABLE eda_ha_history; --",
    "*/ SELECT pg_terminate_backend(1); /*",
    "\ud800 :smile: %s {x}",
]
PATIENT = "30"  # seconds, on a busy machine
Kept = Tuple[Shown, Cluster, History]


@pytest.fixture
def shown(server: Server, dsn: str) -> Iterator[Shown]:
    with contextlib.ExitStack() as stack:
        yield Shown(server, dsn, stack)


def ask(shown: Shown, command: str, *args: str, dsn: str = "") -> Done:
    return run(
        command,
        *("--timeout", PATIENT, *args),
        EDA_HA_POSTGRES_DSN=dsn or shown.dsn,
        EDA_HA_UUID=str(shown.uuid),
    )


def cluster_of(done: Done) -> Any:
    (cluster,) = done.json["clusters"]
    return cluster


def is_plain(text: str) -> bool:
    """Nothing but lines of text that any terminal shows as they are."""
    return all(line.isprintable() for line in text.split("\n"))


# -- status --------------------------------------------------------------


def test_who_leads_and_who_stands_by(shown: Shown) -> None:
    shown.leader("w1")
    shown.follower("w2")
    shown.follower("w3")
    done = ask(shown, "status")
    assert (done.code, done.stderr) == (ExitCode.DONE, "")
    head, table, footer = done.stdout.split("\n\n")
    assert f"Cluster  {shown.uuid}" in head
    assert "Lease    15.0 s" in head
    assert "Term     7" in head
    assert "no tables" in head
    heads, *rows = table.splitlines()
    assert heads.split() == [
        *("WORKER", "ROLE", "STATE", "HOST", "PID", "SINCE", "LAST-SEEN"),
        *("VERSION", "PRIORITY", "HTTP"),
    ]
    assert [row.split()[:5] for row in rows] == [
        ["w1", "leader", "leading", "host-of-w1", "4711"],
        ["w2", "follower", "contending", "host-of-w2", "4711"],
        ["w3", "follower", "contending", "host-of-w3", "4711"],
    ]
    assert "2026-09-21 14:13:20Z" in rows[0]
    assert "Reserve          2 followers" in footer
    assert "w1 leads since" in footer
    assert done.stdout.isascii()
    assert is_plain(done.stdout)


def test_without_beacons_the_locks_tell_the_roles(shown: Shown) -> None:
    shown.hold(shown.session("w1"))
    shown.wait(shown.session("w2"))
    shown.session("w3")  # is about to contend
    told = cluster_of(ask(shown, "status", "--json"))
    assert told["leader"] == "w1"
    assert told["followers"] == 2
    assert [
        (each["worker"], each["role"], each["state"])
        for each in told["workers"]
    ] == [
        ("w1", "leader", "holding"),
        ("w2", "follower", "waiting"),
        ("w3", "follower", "connected"),
    ]
    assert ask(shown, "leader").stdout == "w1\n"


def test_json_has_a_version_and_what_is_known(shown: Shown) -> None:
    shown.leader("w1")
    done = ask(shown, "status", "--json")
    assert done.json["v"] == 1
    assert (done.json["command"], done.json["exit"]) == ("status", 0)
    told = cluster_of(done)
    assert told["ha_uuid"] == str(shown.uuid)
    assert (told["lease"], told["term"]) == (15.0, 7)
    assert told["state"]["tables"] == "absent"
    (worker,) = told["workers"]
    assert worker["leads"] is True
    assert worker["http"] == "10.0.0.1:8080"
    assert (worker["priority"], worker["pid"]) == (100, 4711)
    assert worker["last_seen_seconds"] >= 0
    assert not worker["hidden"]


def test_nobody_leads(shown: Shown) -> None:
    done = ask(shown, "status")
    assert done.code == ExitCode.REFUSED
    assert "NOT WELL: nobody leads" in done.stdout
    shown.session("w2")
    assert ask(shown, "status").code == ExitCode.REFUSED
    done = ask(shown, "leader")
    assert (done.code, done.stdout) == (ExitCode.REFUSED, "")
    assert "nobody leads" in done.stderr


def test_locks_of_others_are_not_ours(shown: Shown, server: Server) -> None:
    # The same key in another database, and another key in this one.
    elsewhere = server.create_database()
    try:
        namesake = application_name(shown.key, "w9", "99999999")
        other = shown.named(namesake, elsewhere)
        shown.hold(other)
        mine = shown.session("w1")
        mine.execute("SELECT pg_advisory_lock(%s)", (shown.key ^ 1,))
        # Two 32-bit keys make another lock.
        high, low = (shown.key % 2**64) >> 32, shown.key % 2**32
        signed = [(half ^ 2**31) - 2**31 for half in (high, low)]
        mine.execute("SELECT pg_advisory_lock(%s, %s)", signed)
        assert ask(shown, "leader").code == ExitCode.REFUSED
    finally:
        other.pgconn.finish()
        server.drop_database(elsewhere)


def test_a_session_that_is_no_worker_holds_the_lock(shown: Shown) -> None:
    shown.hold(shown.named("psql"))
    shown.follower("w2")
    done = ask(shown, "status")
    assert done.code == ExitCode.REFUSED
    assert "the session psql" in done.stdout
    assert cluster_of(ask(shown, "status", "--json"))["held_by"] == "psql"


def test_a_pause_is_shown_everywhere(shown: Shown) -> None:
    shown.hold(shown.session("alice", PAUSE))
    shown.follower("w2")
    done = ask(shown, "status")
    assert done.code == ExitCode.DEGRADED
    assert "PAUSED BY  alice since 20" in done.stdout
    told = cluster_of(ask(shown, "status", "--json"))
    assert (told["paused_by"], told["held_by"]) == ("alice", None)
    assert [each["role"] for each in told["workers"]] == ["follower"]
    assert ask(shown, "leader").code == ExitCode.DEGRADED
    why = ask(shown, "why")
    assert why.code == ExitCode.DEGRADED
    assert "paused by alice" in why.stdout


@pytest.mark.parametrize("required, code", [(0, 0), (1, 0), (2, 3)])
def test_followers_may_be_required(
    shown: Shown, required: int, code: int
) -> None:
    shown.leader("w1")
    shown.follower("w2")
    done = ask(shown, "status", "--require-followers", str(required))
    assert done.code == code
    assert ("1 follower where 2 are required" in done.stdout) == bool(code)


def test_a_process_counts_once(shown: Shown) -> None:
    shown.leader("w1")
    # The server has not noticed yet that these were lost.
    for _ in range(3):
        shown.session("w1", process=f"{1:08x}")
    first = shown.session("w2", process="aaaaaaaa")
    shown.session("w2", process="aaaaaaaa")
    told = cluster_of(ask(shown, "status", "--json"))
    names = [(each["worker"], each["role"]) for each in told["workers"]]
    assert names.count(("w2", "follower")) == 1
    # And the one that holds the lock is the one that counts.
    leader = shown.session("w9", process="bbbbbbbb")
    assert told["leader"] == "w1"
    del first, leader


def test_a_leader_that_gives_no_sign_is_suspicious(shown: Shown) -> None:
    beacon = said("w1", role="leader", state="leading", lease=0.05)
    shown.leader("w1", beacon)
    wait_until(
        lambda: ask(shown, "status").code == ExitCode.DEGRADED, "it is silent"
    )
    assert "no sign" in ask(shown, "status").stdout
    assert "no sign" in ask(shown, "why").stdout


def test_all_clusters_of_the_database(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> None:
    create_tables(dsn)
    with contextlib.ExitStack() as stack:
        known, unknown = Shown(server, dsn, stack), Shown(server, dsn, stack)
        resting = make_cluster(dsn)
        resting.claim("old")
        kept = make_cluster(dsn)
        kept.claim("w1")
        known.uuid, known.key = kept.uuid, kept.key
        known.leader("w1")
        unknown.leader("x1")
        done = run("status", "--all", "--json", EDA_HA_POSTGRES_DSN=dsn)
        names = {each["ha_uuid"]: each for each in done.json["clusters"]}
        assert set(names) == {str(kept.uuid), None}
        assert names[None]["key"] == f"{unknown.key % 2**64:016x}"
        assert names[str(kept.uuid)]["leader"] == "w1"
        assert done.code == ExitCode.DONE
        unknown.session("x2")
        text = run("status", "--all", EDA_HA_POSTGRES_DSN=dsn).stdout
        assert text.count("Cluster  ") == 2


def test_all_of_a_database_without_any(dsn: str) -> None:
    done = run("status", "--all", EDA_HA_POSTGRES_DSN=dsn)
    assert done.code == ExitCode.REFUSED
    assert "No cluster" in done.stdout


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_harm_neither_terminal_nor_json(
    shown: Shown, text: str
) -> None:
    names = ("version", "worker", "state", "host", "http")
    values: dict[str, Any] = dict.fromkeys(names, text)
    beacon = said("w1")._replace(**values)
    shown.leader("w1", beacon)
    shown.follower("w2", beacon)
    shown.named(f"eda-ha:{text[:20]}".replace("\0", "").replace("\ud800", ""))
    for command in ("status", "leader", "why"):
        done = ask(shown, command)
        assert done.code == ExitCode.DONE
        assert is_plain(done.stdout), done.stdout
        done.stdout.encode()
        done = ask(shown, command, "--json")
        assert done.stdout.isascii()
        assert is_plain(done.stdout)
    assert cluster_of(ask(shown, "status", "--json"))["leader"] == text
    check = ask(shown, "check")
    assert check.code == ExitCode.DEGRADED  # two with one id
    assert is_plain(check.stdout)


def test_statements_that_are_not_ours_are_not_shown(shown: Shown) -> None:
    session = shown.session("w1")
    session.execute("SELECT 'a secret', '/* eda-ha {} */'")
    forged = shown.session("w2")
    forged.execute('/* eda-ha {"v":1,"pid":[1],"worker":{}} */ SELECT 1')
    long = shown.session("w3")
    long.execute("/* eda-ha " + "{" * 5000 + " */ SELECT 1")
    for args in ((), ("--json",)):
        done = ask(shown, "status", *args)
        assert done.code == ExitCode.REFUSED
        assert "secret" not in done.stdout
    told = cluster_of(ask(shown, "status", "--json"))
    assert [each["worker"] for each in told["workers"]] == ["w1", "w2", "w3"]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_encodings_of_databases(server: Server, encoding: str) -> None:
    name = f"rig_{uuid.uuid4().hex[:8]}"
    server.query(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C'"
        " LC_CTYPE 'C' TEMPLATE template0"
    )
    dsn = make_conninfo(server.dsn, dbname=name)
    try:
        with contextlib.ExitStack() as stack:
            shown = Shown(server, dsn, stack)
            shown.leader("w1", said("wörker \U0001f600", lease=15.0))
            rude = shown.named(
                application_name(shown.key, "rude", "12345678"),
                make_conninfo(dsn, client_encoding=encoding),
            )
            # Bytes that are no text in any other encoding.
            rude.pgconn.exec_(b"/* eda-ha {\xff\xfe} */ SELECT 1")
            done = ask(shown, "status", "--json")
            assert done.code == ExitCode.DONE, done
            assert cluster_of(done)["leader"] == "wörker \U0001f600"
            assert ask(shown, "status").code == ExitCode.DONE
    finally:
        server.query(f"DROP DATABASE {name} WITH (FORCE)")


def test_another_role_sees_roles_and_is_told_what_is_hidden(
    shown: Shown, server: Server
) -> None:
    create_tables(shown.dsn)
    role = f"reader_{uuid.uuid4().hex[:8]}"
    server.query(f"CREATE ROLE {role} LOGIN PASSWORD 'x'", dsn=shown.dsn)
    try:
        shown.leader("w1")
        shown.follower("w2")
        dsn = make_conninfo(shown.dsn, user=role, password="x")
        done = ask(shown, "status", dsn=dsn)
        assert done.code == ExitCode.DONE
        assert "GRANT pg_read_all_stats" in done.stdout
        assert "may not read" in done.stdout
        told = cluster_of(ask(shown, "status", "--json", dsn=dsn))
        assert (told["leader"], told["followers"]) == ("w1", 1)
        assert told["state"]["tables"] == "forbidden"
        assert "may not read" in ask(shown, "why", dsn=dsn).stdout
        assert "may not read" in ask(shown, "history", dsn=dsn).stdout
        server.query(f"GRANT pg_read_all_stats TO {role}", dsn=shown.dsn)
        assert "GRANT" not in ask(shown, "status", dsn=dsn).stdout
    finally:
        server.query(f"DROP ROLE {role}", dsn=shown.dsn)


def test_a_hundred_workers_are_told_in_half_a_second(
    embedded_factory: Callable[..., EmbeddedRig],
) -> None:
    rig = embedded_factory({"max_connections": 130})
    dsn = rig.create_database()
    with contextlib.ExitStack() as stack:
        shown = Shown(rig, dsn, stack)
        beacon = said("w0", role="leader", state="leading", lease=3600.0)
        shown.leader("w0", beacon)
        for number in range(1, 100):
            shown.follower(f"w{number}")
        where = Conninfo(dsn)
        took = []
        for _ in range(5):
            began = time.monotonic()
            (cluster,) = look(where, shown.uuid, LIMIT)
            took.append(time.monotonic() - began)
            assert len(cluster.followers) == 99
        print(f"100 workers: {min(took) * 1000:.1f} ms at best")
        assert min(took) < 0.5
        done = ask(shown, "status", "--require-followers", "99")
        assert done.code == ExitCode.DONE


# -- history and why -----------------------------------------------------


@pytest.fixture
def kept(
    server: Server, dsn: str, make_cluster: Callable[[str], Cluster]
) -> Iterator[Kept]:
    """A cluster with state, whose history can be written."""
    create_tables(dsn)
    cluster = make_cluster(dsn)
    with contextlib.ExitStack() as stack:
        shown = Shown(server, dsn, stack)
        shown.uuid, shown.key = cluster.uuid, cluster.key
        session = stack.enter_context(contextlib.closing(state_session(dsn)))
        yield shown, cluster, History(session, str(cluster.uuid))


def test_why_explains_a_failover(kept: Kept) -> None:
    shown, cluster, history = kept
    cluster.claim("w1")
    history.begin_term(1, Beginning())
    cluster.claim("w2")
    history.begin_term(
        2,
        Beginning(
            replaces="w1",
            reason=Reason.KILLED,
            evidence="its session ended",
            gap=0.25,
            records=1,
            matches=3,
        ),
    )
    shown.leader("w2", said("w2", state="leading", term=2, since=0.0))
    done = ask(shown, "why")
    assert done.code == ExitCode.DONE
    lines = done.stdout.splitlines()
    assert lines[0].startswith("w2 leads since 20")
    assert lines[0].endswith("in term 2.")
    assert lines[1].startswith("It replaced w1")
    assert lines[2:] == [
        f"w1 {Reason.KILLED.words}.",
        "Evidence: its session ended.",
        "Nobody led for 250 ms.",
        "Recovered: 1 event or fact, and 3 matches whose actions had not "
        "all run.",
        f"What to do: {Reason.KILLED.advice}",
        "Nobody would take over: start another worker.",
    ]
    told = ask(shown, "why", "--json").json
    assert (told["v"], told["sentences"][1:]) == (1, lines[1:])
    status = ask(shown, "status")
    assert (
        f"after w1, which {Reason.KILLED.words}; nobody led for 250 ms"
        in status.stdout
    )
    transition = cluster_of(ask(shown, "status", "--json"))["last_transition"]
    assert transition["reason"] == "killed"
    assert (transition["replaces"], transition["gap"]) == ("w1", 0.25)


def test_why_nobody_leads(kept: Kept) -> None:
    shown, cluster, history = kept
    cluster.claim("w1")
    history.end_term(1, Reason.STOPPED)
    done = ask(shown, "why")
    assert done.code == ExitCode.REFUSED
    assert "Nobody leads." in done.stdout
    assert "The last leader was w1, in term 1" in done.stdout
    assert Reason.STOPPED.words in done.stdout
    assert "start one" in done.stdout


def test_why_without_tables_says_where_else_to_look(shown: Shown) -> None:
    shown.leader("w1")
    shown.follower("w2")
    done = ask(shown, "why")
    assert done.code == ExitCode.DONE
    assert "no history is kept" in done.stdout
    assert "1 follower could take over." in done.stdout
    done = ask(shown, "history")
    assert done.code == ExitCode.DONE
    assert "no history" in done.stdout
    assert ask(shown, "history", "--json").json["terms"] == []


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("killed", "It replaced w1.|w1 ended without a word."),
        ("paused", "The cluster was paused until then."),
        ("first", "It is the first leader, or nobody had led for a while."),
        ("\x1b[2J", "It replaced w1.|w1 no longer leads, and nobody"),
    ],
)
def test_why_without_tables_tells_what_the_leader_says(
    shown: Shown, cause: str, words: str
) -> None:
    replaces = "w1" if "w1" in words else ""
    told = said("w2", role="leader", state="leading")
    told = told._replace(cause=cause, replaces=replaces, gap=0.25)
    shown.leader("w2", told)
    done = ask(shown, "why")
    assert done.code == ExitCode.DONE
    for each in words.split("|"):
        assert each in done.stdout
    assert "Nobody led for 250 ms." in done.stdout
    assert "It says so itself: no history is kept" in done.stdout
    assert "\x1b" not in done.stdout
    found = cluster_of(ask(shown, "status", "--json"))["last_transition"]
    assert (found["replaces"], found["gap"]) == (replaces, 0.25)
    assert found["reason"] == (cause if cause.isalpha() else "unknown")


def test_history_shows_the_last_terms(kept: Kept) -> None:
    shown, cluster, history = kept
    for number, name in enumerate(["w1", "w2", "w3"], 1):
        cluster.claim(name)
        history.begin_term(
            number, Beginning(replaces="w0", gap=1.5, reason=Reason.KILLED)
        )
    history.end_term(2, Reason.SWITCHOVER, events=70, actions=50)
    shown.leader("w3", said("w3", state="leading", term=3))
    heads, *rows = ask(shown, "history").stdout.splitlines()
    assert heads.split()[:2] == ["TERM", "WORKER"]
    assert [row.split()[:2] for row in rows] == [
        ["3", "w3"],
        ["2", "w2"],
        ["1", "w1"],
    ]
    assert "leads" in rows[0]
    assert "1.5 s" in rows[0]
    assert rows[1].split()[-4:] == ["switchover", "70", "50", "-"]
    assert "killed" in rows[2]
    told = ask(shown, "history", "-n", "2", "--json").json
    assert [each["term"] for each in told["terms"]] == [3, 2]
    assert told["terms"][1]["ended"] == "switchover"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_history_harms_neither_terminal_nor_json(
    kept: Kept, text: str
) -> None:
    shown, cluster, history = kept
    cluster.claim("w1")
    cluster.claim("w2")
    cluster.query(
        f"UPDATE {sql.HISTORY} SET worker_id = %(name)s"
        " WHERE ha_uuid = %(ha_uuid)s",
        name=stored(text),
    )
    history.begin_term(2, Beginning(text, Reason.KILLED, text, gap=0.0))
    cluster.query(
        f"UPDATE {sql.HISTORY} SET ended = %(text)s, worker_id = %(text)s"
        " WHERE ha_uuid = %(ha_uuid)s AND term = 1",
        text=text.replace("\0", "").replace("\ud800", "\\"),
    )
    for command in ("status", "why", "history"):
        assert is_plain(ask(shown, command).stdout)
        done = ask(shown, command, "--json")
        assert is_plain(done.stdout)
        assert done.stdout.isascii()
    first = ask(shown, "history", "--json").json["terms"][0]
    assert (first["worker"], first["evidence"]) == (text, text)
    assert Reason.UNKNOWN.words in ask(shown, "why").stdout


def test_what_waits_in_inboxes_is_shown(kept: Kept) -> None:
    shown, cluster, _ = kept
    shown.leader("w1")
    assert "Inbox" not in ask(shown, "status").stdout
    assert cluster_of(ask(shown, "status", "--json"))["inboxes"] == []
    for number in range(3):
        cluster.query(
            f"INSERT INTO {sql.INBOX} (ha_uuid, inbox, arrived, body) VALUES"
            " (%(ha_uuid)s, 'posts', now() - %(age)s * interval '1 s', '{}')",
            age=number * 50 + 20,
        )
    (told,) = cluster_of(ask(shown, "status", "--json"))["inboxes"]
    assert (told["inbox"], told["events"]) == ("posts", 3)
    assert 120 <= told["age"] < 120 + LIMIT
    text = ask(shown, "status").stdout
    assert re.search(r"Inbox posts\W+3 events, the oldest for 2", text), text


def test_tables_of_the_first_version_are_read(
    kept: Kept,
) -> None:
    shown, cluster, _ = kept
    cluster.claim("w1")
    cluster.query(
        f"ALTER TABLE {sql.HISTORY} DROP until, DROP ended, DROP gap,"
        " DROP replaces, DROP evidence, DROP records, DROP matches,"
        " DROP events, DROP actions"
    )
    cluster.query(f"DROP TABLE {sql.INBOX}")
    shown.leader("w1", said("w1", state="leading", term=1))
    (term,) = ask(shown, "history", "--json").json["terms"]
    assert (term["worker"], term["ended"], term["gap"]) == ("w1", None, None)
    assert ask(shown, "why").code == ExitCode.DONE


# -- it never hangs, and says it where it cannot ask -----------------------


@pytest.mark.parametrize(
    "command", ["status", "leader", "history", "why", "check", "init-db"]
)
def test_a_server_that_says_nothing_is_given_up(command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        began = time.monotonic()
        done = start(
            *(command, "--timeout", "1"),
            EDA_HA_POSTGRES_DSN=f"host=127.0.0.1 port={port} user=x",
            EDA_HA_UUID=str(uuid.uuid4()),
        )
        assert time.monotonic() - began < 20
    assert done.code == ExitCode.UNASKED, done
    assert "no answer within 1 s" in done.stdout + done.stderr


def test_a_server_that_freezes_is_given_up(
    shown: Shown, proxy: Callable[..., Proxy]
) -> None:
    network = proxy(shown.dsn)
    shown.leader("w1")
    network.hold_from_server()
    done = start(
        *("status", "--timeout", "1", "--json"),
        EDA_HA_POSTGRES_DSN=network.dsn,
        EDA_HA_UUID=str(shown.uuid),
    )
    assert done.code == ExitCode.UNASKED
    assert done.json["v"] == 1
    assert done.json["exit"] == ExitCode.UNASKED
    assert "no answer" in done.json["error"]


def test_a_statement_that_waits_is_given_up(kept: Kept) -> None:
    shown, cluster, _ = kept
    with cluster.held(sql.CLUSTER):
        done = ask(shown, "status", "--timeout", "0.5")
    assert done.code == ExitCode.UNASKED
    assert "no answer within 0.5 s" in done.stderr


def test_a_server_that_is_not_there(shown: Shown) -> None:
    away = make_conninfo(shown.dsn, port=1, password="s3same-word")
    for command in ("status", "leader", "history", "why"):
        done = ask(shown, command, dsn=away)
        assert (done.code, done.stdout) == (ExitCode.UNASKED, "")
        assert done.stderr.count("\n") == 1
        assert "s3same" not in done.stderr


def test_a_standby_is_not_asked(
    embedded_server: EmbeddedRig, standby_of: Callable[..., EmbeddedRig]
) -> None:
    standby = standby_of(embedded_server)
    done = run(
        "status",
        EDA_HA_POSTGRES_DSN=make_conninfo(
            standby.dsn, target_session_attrs="any"
        ),
        EDA_HA_UUID=str(uuid.uuid4()),
    )
    assert done.code == ExitCode.UNASKED
    assert "standby" in done.stderr


def test_wrong_usage(shown: Shown) -> None:
    for args in (
        ("--timeout", "0"),
        ("--timeout", "nan"),
        ("--timeout", "x"),
        ("--watch", "-1"),
        ("--require-followers", "1.5"),
        ("--require-followers", "-1"),
    ):
        done = ask(shown, "status", *args)
        assert done.code == ExitCode.USAGE, args
    assert ask(shown, "history", "-n", "0").code == ExitCode.USAGE
    assert run("status", EDA_HA_POSTGRES_DSN="host=x").code == ExitCode.USAGE
    done = run(
        *("status", "--json"), EDA_HA_POSTGRES_DSN="host=x", EDA_HA_UUID="x"
    )
    assert done.code == ExitCode.USAGE
    assert done.json["exit"] == ExitCode.USAGE


def test_nothing_is_changed_and_no_setting_stays(
    shown: Shown, server: Server
) -> None:
    shown.leader("w1")
    create_tables(shown.dsn)
    before = server.query(
        "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del"
        " FROM pg_stat_user_tables ORDER BY 1",
        dsn=shown.dsn,
    )
    for command in ("status", "leader", "history", "why"):
        assert ask(shown, command).code == ExitCode.DONE
    assert ask(shown, "check").code == WELL
    assert before == server.query(
        "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del"
        " FROM pg_stat_user_tables ORDER BY 1",
        dsn=shown.dsn,
    )


# -- terminals, pipes and watching -----------------------------------------


def on_terminal(shown: Shown, *args: str, **variables: str) -> str:
    """What a terminal gets, until the command ends."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [*COMMAND, *args],
        env=worker_env(
            {
                "EDA_HA_POSTGRES_DSN": shown.dsn,
                "EDA_HA_UUID": str(shown.uuid),
                "TERM": "xterm-256color",
                "COLUMNS": "200",
                **variables,
            }
        ),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    got = b""
    try:
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    more = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
                got += more
        command.wait(LIMIT)
    finally:
        command.kill()
        command.wait()
        os.close(ours)
    return got.decode()


def test_a_terminal_gets_a_table_in_colours_that_say_nothing_more(
    shown: Shown,
) -> None:
    shown.leader("w1")
    shown.follower("w2", said("w2", host="[red]\x1b[31mx"))
    got = on_terminal(shown, "status", PYTHONIOENCODING="utf-8")
    assert "┃" in got
    assert "\x1b[1;32m" in got  # rich's
    assert "\x1b[31m" not in got  # the worker's
    assert "[red]\\x1b[31mx" in got
    # A narrow one breaks no word; a dumb one gets no controls.
    plain = on_terminal(shown, "status", COLUMNS="80", TERM="dumb")
    assert "\x1b" not in plain
    assert "WORKER  ROLE      STATE " in plain
    for word in ("leader", "follower", "leading"):
        assert word in got
        assert word in plain


def test_a_very_narrow_terminal_gets_a_block_for_each_row(
    shown: Shown,
) -> None:
    shown.leader("w1")
    got = on_terminal(shown, "status", COLUMNS="40")
    lines = [line.rstrip() for line in got.splitlines()]
    assert f"Cluster  {shown.uuid}" in lines  # can be copied
    assert "WORKER     w1" in lines
    assert "ROLE       leader" in lines
    assert all(
        len(line) <= 40 for line in lines if str(shown.uuid) not in line
    )


def test_a_terminal_that_knows_only_ascii_is_not_the_end(
    shown: Shown,
) -> None:
    shown.leader("wörker", said("wörker"))
    environ = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert "w\\xf6rker" in on_terminal(shown, "leader", **environ)
    done = start(
        "leader",
        EDA_HA_POSTGRES_DSN=shown.dsn,
        EDA_HA_UUID=str(shown.uuid),
        **environ,
    )
    assert (done.code, done.stdout) == (ExitCode.DONE, "w\\xf6rker\n")


def test_a_reader_that_goes_away_is_no_error(shown: Shown) -> None:
    shown.leader("w1")
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*COMMAND, "status"],
        env=worker_env(
            {"EDA_HA_POSTGRES_DSN": shown.dsn, "EDA_HA_UUID": str(shown.uuid)}
        ),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        timeout=LIMIT,
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


def test_watching_shows_a_change_and_ends_with_ctrl_c(
    shown: Shown, tmp_path: Path
) -> None:
    leader = shown.leader("w1")
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = subprocess.Popen(
            [*COMMAND, "status", "--watch", "0.1", "--json"],
            env=worker_env(
                {
                    "EDA_HA_POSTGRES_DSN": shown.dsn,
                    "EDA_HA_UUID": str(shown.uuid),
                }
            ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            # A shell has what it runs in the background ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def leaders() -> list[str | None]:
        lines = log.read_text().splitlines(keepends=True)
        told = [json.loads(each) for each in lines if each.endswith("\n")]
        return [each["clusters"][0]["leader"] for each in told]

    try:
        wait_until(lambda: leaders()[-1:] == ["w1"], "w1 leads")
        leader.close()
        wait_until(lambda: leaders()[-1:] == [None], "nobody leads")
        shown.leader("w3")
        wait_until(lambda: leaders()[-1:] == ["w3"], "w3 leads")
        command.send_signal(signal.SIGINT)
        _, stderr = command.communicate(timeout=LIMIT)
    finally:
        command.kill()
        command.wait()
    assert command.returncode == ExitCode.INTERRUPTED
    assert stderr == b""


# -- new-uuid and --version ------------------------------------------------


def test_a_new_uuid_is_new() -> None:
    first, second = run("new-uuid"), run("new-uuid", "--json")
    assert (first.code, second.code) == (0, 0)
    made = {uuid.UUID(first.stdout.strip()), uuid.UUID(second.json["ha_uuid"])}
    assert len(made) == 2


def test_versions_of_all_parts() -> None:
    done = run("--version")
    assert done.code == ExitCode.DONE
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == [
        "ansible-rulebook-ha",
        "ansible-rulebook",
        "psycopg",
        "Python",
    ]


def test_a_beacon_survives_what_workers_send() -> None:
    """The statements of the election, with a beacon at their heads."""
    from ansible_rulebook.ha.election.sql import PROVE, WAIT_LOCK

    beacon = said("w1 {x} %s")
    for statement in (
        WAIT_LOCK.format(key=1, high=0, low=1),
        PROVE.format(high=0, low=1),
    ):
        assert Beacon.parse(f"{beacon.text()} {statement}") == beacon
