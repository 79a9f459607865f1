"""``check``: every host, settings, rights, workers and this installation."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from clusters import create_tables
from command_runs import WELL, Done, run, start
from e2e_support import needs_old
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rig.pgbouncer import PgBouncer
from rig.server import EmbeddedRig, Server
from shown import Shown, said

from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.operations import check as checks
from ansible_rulebook.ha.operations.exit_codes import ExitCode
from ansible_rulebook.ha.operations.finding import Level
from ansible_rulebook.ha.operations.host import split

PATIENT = "60"  # seconds, on a busy machine
STATELESS = "keeps no state of the rules"


@pytest.fixture
def role(server: Server, dsn: str) -> Iterator[str]:
    """Its name, in quotes: it would clear the terminal."""
    name = f'"\x1b[2J{uuid.uuid4().hex[:8]}"'
    server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'x'", dsn=dsn)
    yield name
    server.query(f"DROP OWNED BY {name}", dsn=dsn)
    server.query(f"DROP ROLE {name}", dsn=dsn)


def check(dsn: str, *args: str) -> Done:
    return run("check", "--timeout", PATIENT, *args, EDA_HA_POSTGRES_DSN=dsn)


def as_role(dsn: str, role: str) -> str:
    return make_conninfo(dsn, user=role.strip('"'), password="x")


def bad(done: Done) -> list[Any]:
    """What is not well. Each says what to do.

    That upstream is too old for state has a test of its own.
    """
    found = [each for each in done.json["findings"] if each["level"] != "ok"]
    assert all(each["advice"].endswith(".") for each in found)
    return [each for each in found if STATELESS not in each["words"]]


def only(done: Done, level: Level, words: str) -> None:
    """Exactly one thing is not well."""
    (found,) = bad(done)
    assert found["level"] == level.value.lower()
    assert words in found["words"]


def test_all_is_well(dsn: str) -> None:
    create_tables(dsn)
    done = check(dsn, "--json")
    assert (done.code, bad(done)) == (WELL, [])
    text = check(dsn)
    assert text.code == WELL
    is_encrypted = "sslrootcert" in dsn
    way = "encrypted with TLS" if is_encrypted else "not leave this machine"
    for words in (
        *("It is a primary", way),
        *("may take the lock", "a lease of 15 s take effect"),
        *("State can be kept", "has the --ha-"),
    ):
        assert words in text.stdout
    lines = text.stdout.splitlines()
    if WELL == ExitCode.DONE:
        assert all(line.startswith("ok") for line in lines)
    assert text.stdout.isascii()


@needs_old
def test_an_upstream_that_keeps_no_state_is_noticed(dsn: str) -> None:
    create_tables(dsn)
    done = check(dsn, "--json")
    found = [each for each in done.json["findings"] if each["level"] != "ok"]
    assert [each["level"] for each in found] == ["warning"]
    assert STATELESS in found[0]["words"]
    assert "1.3 or later" in found[0]["advice"]


def test_a_host_that_is_away_is_a_fault_and_the_others_are_looked_at(
    dsn: str,
) -> None:
    where = conninfo_to_dict(dsn)
    both = make_conninfo(
        dsn, host="127.0.0.1,127.0.0.1", port=f"{where['port']},1"
    )
    done = check(both, "--json")
    assert done.code == ExitCode.REFUSED
    only(done, Level.FAULT, "cannot be asked")
    (found,) = bad(done)
    assert found["about"] == "127.0.0.1:1"
    done = check(make_conninfo(dsn, port=1, password="s3same-x"))
    assert done.code == ExitCode.UNASKED
    assert "s3same" not in done.stdout
    assert "FAULT   127.0.0.1:1: It cannot be asked" in done.stdout
    assert "What to do: " in done.stdout


def test_one_server_by_two_names_is_one_primary(dsn: str) -> None:
    where = conninfo_to_dict(dsn)
    both = make_conninfo(
        dsn, host="127.0.0.1,localhost", port=f"{where['port']}"
    )
    assert check(both, "--json").code == WELL


def test_two_primaries_are_told_loudly(
    embedded_factory: Callable[..., EmbeddedRig],
    standby_of: Callable[..., EmbeddedRig],
) -> None:
    primary = embedded_factory()
    standby = standby_of(primary)
    first, second = (conninfo_to_dict(each.dsn) for each in (primary, standby))
    both = make_conninfo(
        primary.dsn,
        host=f"{first['host']},{second['host']}",
        port=f"{first['port']},{second['port']}",
    )
    done = check(both, "--json")
    assert done.code == WELL, bad(done)
    words = [each["words"] for each in done.json["findings"]]
    assert any("a standby" in each for each in words)
    standby.promote()
    done = check(both, "--json")
    assert done.code == ExitCode.REFUSED
    only(done, Level.FAULT, "TWO PRIMARIES")
    assert "TWO PRIMARIES" in check(both).stdout


def test_a_standby_alone_cannot_elect(
    embedded_server: EmbeddedRig, standby_of: Callable[..., EmbeddedRig]
) -> None:
    done = check(standby_of(embedded_server).dsn, "--json")
    assert done.code == ExitCode.REFUSED
    only(done, Level.FAULT, "None of the hosts is a primary")


def test_a_pooler_is_noticed_and_keeps_no_setting(
    server: Server, dsn: str, pgbouncer: Callable[..., PgBouncer]
) -> None:
    pool = pgbouncer(dsn, "transaction")
    done = check(pool.dsn, "--json")
    assert done.code == ExitCode.DEGRADED
    assert "pooler" in bad(done)[0]["words"]


def test_a_limit_of_the_role_shortens_the_lease(
    server: Server, dsn: str, role: str
) -> None:
    server.query(f"GRANT ALL ON SCHEMA public TO {role}", dsn=dsn)
    server.query(f"ALTER ROLE {role} SET idle_session_timeout = '5s'", dsn=dsn)
    done = check(as_role(dsn, role), "--json")
    assert done.code == ExitCode.DEGRADED
    only(done, Level.WARNING, "shortens the lease to 5 s")


def tried(done: Done) -> str:
    """The lease that was tried."""
    words = (each["words"] for each in done.json["findings"])
    (found,) = (each for each in words if "The settings of a lease" in each)
    return str(found)


def test_the_lease_of_the_workers_is_tried(server: Server, dsn: str) -> None:
    with contextlib.ExitStack() as stack:
        shown = Shown(server, dsn, stack)
        shown.leader("w1", said("w1", lease=6.0))
        shown.follower("w2", said("w2", lease=8.0))
        shown.follower("w3", said("w3", lease=1e9))  # nobody has that
        assert "a lease of 8 s" in tried(check(dsn, "--json"))
        given = ("--json", "--ha-lease-duration", "30")
        assert "a lease of 30 s" in tried(check(dsn, *given))
    done = run(
        *("check", "--timeout", PATIENT, "--json"),
        EDA_HA_POSTGRES_DSN=dsn,
        EDA_HA_LEASE_DURATION="20",
    )
    assert "a lease of 20 s" in tried(done)
    done = check(dsn, "--ha-lease-duration", "x")
    assert done.code == ExitCode.USAGE
    assert "--ha-lease-duration (EDA_HA_LEASE_DURATION): 'x'" in done.stderr


def test_a_role_without_rights_is_told_what_it_lacks(
    server: Server, dsn: str, role: str
) -> None:
    server.query("REVOKE ALL ON SCHEMA public FROM PUBLIC", dsn=dsn)
    server.query(f"GRANT USAGE ON SCHEMA public TO {role}", dsn=dsn)
    done = check(as_role(dsn, role), "--json")
    assert done.code == ExitCode.DEGRADED
    only(done, Level.WARNING, "lacks CREATE on schema public")
    assert done.stdout.isascii()
    text = check(as_role(dsn, role)).stdout
    assert "Role \\x1b[2J" in text
    assert "\x1b" not in text
    server.query(
        f"ALTER ROLE {role} SET default_transaction_read_only = on", dsn=dsn
    )
    done = check(as_role(dsn, role), "--json")
    assert done.code == ExitCode.REFUSED
    assert "may only read" in bad(done)[0]["words"]


def test_workers_that_do_not_agree(server: Server, dsn: str) -> None:
    with contextlib.ExitStack() as stack:
        shown = Shown(server, dsn, stack)
        shown.leader("w1", said("w1", state="leading"))
        shown.follower("w2", said("w2", lease=30.0))
        shown.follower("w2", said("w2", version="0.2.0"))
        done = check(dsn, "--json", "--ha-uuid", str(shown.uuid))
        assert done.code == ExitCode.DEGRADED
        words = " ".join(each["words"] for each in bad(done))
        assert "one id: w2" in words
        assert "unequal leases: 15 s, 30 s" in words
        assert "several versions: 0.1.0, 0.2.0" in words
        assert len(bad(done)) == 3
        # Without a UUID, all clusters of the database are looked at.
        assert bad(check(dsn, "--json")) != []


def test_a_python_that_reads_no_pth_file_is_noticed(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checks.hook_findings(60)[0].level is Level.OK
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    found = checks.hook_findings(60)[0]
    assert found.level is Level.FAULT
    assert "ansible_rulebook_ha.pth" in found.words


def test_a_silent_host_does_not_hold_up_the_others(dsn: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        where = conninfo_to_dict(dsn)
        both = make_conninfo(
            dsn,
            host="127.0.0.1,127.0.0.1",
            port=f"{where['port']},{deaf.getsockname()[1]}",
        )
        done = start(
            *("check", "--timeout", "8", "--json"), EDA_HA_POSTGRES_DSN=both
        )
    assert done.code == ExitCode.REFUSED
    only(done, Level.FAULT, "cannot be asked")


def test_each_host_has_a_connection_string_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hosts(dsn: str) -> list[tuple[Any, ...]]:
        return [
            tuple(each.get(name) for name in ("host", "hostaddr", "port"))
            for each in split(Conninfo(dsn))
        ]

    assert hosts("host=a,b port=1,2") == [
        ("a", None, "1"),
        ("b", None, "2"),
    ]
    assert hosts("host=a,b port=3") == [("a", None, "3"), ("b", None, "3")]
    assert hosts("postgresql://a:1,b:2/db") == [
        ("a", None, "1"),
        ("b", None, "2"),
    ]
    assert hosts("host=a,b hostaddr=1.1.1.1,2.2.2.2") == [
        ("a", "1.1.1.1", None),
        ("b", "2.2.2.2", None),
    ]
    assert hosts("dbname=x") == [(None, None, None)]
    monkeypatch.setenv("PGHOST", "c,d")
    monkeypatch.setenv("PGPORT", "4,5")
    assert hosts("dbname=x") == [("c", None, "4"), ("d", None, "5")]
