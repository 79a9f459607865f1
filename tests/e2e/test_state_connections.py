"""State by every way in which libpq can be told where the server is."""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from e2e_support import (
    FOLLOWING,
    PATIENCE,
    RULEBOOKS,
    Stage,
    needs_state,
    until,
)
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rig.server import EmbeddedRig, database_of
from rig.workers import WorkerProcess, wait_leader

pytestmark = needs_state

STATE = RULEBOOKS / "state.yml"
REQUIRED = ("--ha-state", "required")


@pytest.fixture
def sockets() -> Iterator[str]:
    """A folder in which the server may put its socket."""
    with tempfile.TemporaryDirectory(prefix="eda") as folder:
        os.chmod(folder, 0o777)
        yield folder


@pytest.fixture
def made(
    worker: Callable[..., WorkerProcess], ha_uuid: str, tmp_path: Path
) -> Callable[[str], Stage]:
    return lambda dsn: Stage(worker, dsn, ha_uuid, tmp_path)


def survives_a_failover(stage: Stage, env: dict[str, str]) -> None:
    first, second = stage.pair(STATE, args=REQUIRED, env=env)
    stage.post("open", "door")
    stage.say(first, "hello")
    killed_at = first.kill()
    second.wait_leads(PATIENCE, after=killed_at)
    stage.post("close", "door")
    second.wait_for("^open and close door$", PATIENCE)
    assert second.stop(PATIENCE) == 0


def test_by_a_unix_socket_and_a_service_file(
    embedded_factory: Callable[..., EmbeddedRig],
    made: Callable[[str], Stage],
    sockets: str,
    tmp_path: Path,
) -> None:
    server = embedded_factory({"unix_socket_directories": sockets})
    parts: Any = {
        **conninfo_to_dict(server.create_database()),
        "host": sockets,
    }
    services = tmp_path / "services.conf"
    lines = [f"{name}={value}" for name, value in parts.items()]
    services.write_text("\n".join(["[eda]", *lines, ""]), "utf-8")
    stage = made("service=eda")
    survives_a_failover(stage, {"PGSERVICEFILE": str(services)})


def test_in_a_database_without_an_encoding(
    embedded_server: EmbeddedRig, made: Callable[[str], Stage]
) -> None:
    name = f"ascii_{uuid.uuid4().hex[:8]}"
    embedded_server.query(
        f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0"
        " LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    stage = made(make_conninfo(embedded_server.dsn, dbname=name))
    first, second = stage.pair(STATE, args=REQUIRED)
    stage.post("open", "dör")
    stage.say(first, "hallo")
    # Its lease is set on the server, so one that is paused is replaced.
    paused_at = first.pause()
    second.wait_leads(PATIENCE, after=paused_at)
    stage.post("close", "dör")
    second.wait_for("^open and close dör$", PATIENCE)
    assert second.stop(PATIENCE) == 0
    assert not second.find("before 14")


STRANGE = """
- name: "{name}"
  hosts: localhost
  sources:
    - strange:
        folder: "{{{{ INBOX }}}}"
  rules:
    - name: "\u4e2d \U0001f600 {name}"
      condition:
        all:
          - events.one << event.word == "\u4e2d\U0001f600"
          - events.two << event.more is defined
      action:
        debug:
          msg: "strange {{{{ events.one.number }}}}"
"""


def test_names_and_text_that_the_encoding_lacks(
    embedded_server: EmbeddedRig, made: Callable[[str], Stage]
) -> None:
    name = f"latin_{uuid.uuid4().hex[:8]}"
    embedded_server.query(
        f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0"
        " LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    stage = made(make_conninfo(embedded_server.dsn, dbname=name))
    rulebook = STRANGE.format(name=400 * "\u4e2d")
    ids = [f"\u4e2d\U0001f600-{number}" for number in (1, 2)]
    first, second = (
        stage.start(rulebook, args=REQUIRED, worker_id=each) for each in ids
    )
    if wait_leader([first, second], PATIENCE) is second:
        first, second = second, first
    second.wait_for(FOLLOWING, PATIENCE)
    events = stage.inbox / "events"
    events.write_text("1", "utf-8")
    stored = "SELECT count(*) FROM eda_ha_record"
    until(
        lambda: embedded_server.query(stored, dsn=stage.dsn)[0][0] > 0,
        "it is stored",
    )
    killed_at = first.kill()
    second.wait_leads(PATIENCE, after=killed_at)
    (row,) = embedded_server.query(
        "SELECT worker_id FROM eda_ha_cluster", dsn=stage.dsn
    )
    assert row[0].encode().decode("unicode_escape") == second.worker_id
    events.write_text("2", "utf-8")
    second.wait_for("^strange 1$", PATIENCE)
    assert second.stop(PATIENCE) == 0


def test_by_variables_with_a_host_that_is_down(
    embedded_server: EmbeddedRig,
    made: Callable[[str], Stage],
) -> None:
    with socket.socket() as probe:  # nobody listens there
        probe.bind(("127.0.0.1", 0))
        unused_port = probe.getsockname()[1]
    parts = conninfo_to_dict(embedded_server.create_database())
    hosts, port = f"127.0.0.1,{parts['host']}", parts["port"]
    stage = made(make_conninfo(dbname=parts["dbname"]))
    survives_a_failover(
        stage,
        {
            "PGHOST": hosts,
            "PGPORT": f"{unused_port},{port}",
            "PGUSER": str(parts["user"]),
            "PGPASSWORD": str(parts["password"]),
        },
    )


def test_a_password_that_is_changed_in_its_file(
    embedded_server: EmbeddedRig,
    made: Callable[[str], Stage],
    tmp_path: Path,
) -> None:
    owner = embedded_server.create_database()
    role = f"rotated_{uuid.uuid4().hex[:8]}"
    passwords = tmp_path / "pgpass"

    def rotate(password: str) -> None:
        verb = "ALTER" if passwords.exists() else "CREATE"
        embedded_server.query(
            f"{verb} ROLE {role} LOGIN PASSWORD '{password}'"
        )
        passwords.write_text(f"*:*:*:{role}:{password}\n", "utf-8")
        passwords.chmod(0o600)

    rotate("first")
    embedded_server.query(
        f"ALTER DATABASE {database_of(owner)} OWNER TO {role}"
    )
    parts: Any = {**conninfo_to_dict(owner), "user": role}
    del parts["password"]
    stage = made(make_conninfo(**parts))
    env = {"PGPASSFILE": str(passwords)}
    first, second = stage.pair(STATE, args=REQUIRED, env=env)
    stage.post("open", "door")
    stage.say(first, "hello")

    rotate("second")
    for kind in ("eda-ha:%", "eda-state:%"):
        embedded_server.terminate(kind, dsn=owner)
    lost_at = first.wait_lost(PATIENCE).at
    for each in (first, second):
        each.wait_for(
            f"{FOLLOWING}|acquired leadership", PATIENCE, after=lost_at
        )
    stage.post("close", "door")
    leader = first if first.leads else second
    leader.wait_for("^open and close door$", PATIENCE)
    stage.say(leader, "again")
    for each in (first, second):
        assert each.stop(PATIENCE) == 0
        assert "second" not in each.text.replace("seconds", "")
