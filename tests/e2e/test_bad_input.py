"""Input that cannot be used gets one clear line, and secrets stay secret."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable
from urllib.parse import quote

import pytest
from e2e_support import PATIENCE, STAGE, Stage
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier, Literal
from rig.pgbouncer import PgBouncer
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess, script, worker_env

Answer = subprocess.CompletedProcess

UUID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
# Nobody listens there: what is refused has to be refused before it is asked.
DSN = "postgresql://somebody:hidden-word@127.0.0.1:1/nowhere"
AT_ONCE = 2  # commands that run at the same time

USAGE: dict[str, tuple[str, Mapping[str, str]]] = {
    "DSN without UUID": (
        "--ha-uuid",
        {"--ha-postgres-dsn": DSN},
    ),
    "DSN without UUID, by variable": (
        "EDA_HA_UUID",
        {"EDA_HA_POSTGRES_DSN": DSN},
    ),
    "UUID without DSN": (
        "--ha-postgres-dsn",
        {"--ha-uuid": UUID},
    ),
    "UUID without DSN, by variable": (
        "EDA_HA_POSTGRES_DSN",
        {"EDA_HA_UUID": UUID},
    ),
    "no UUID": (
        "--ha-uuid",
        {"--ha-postgres-dsn": DSN, "--ha-uuid": "one-two"},
    ),
    "no DSN": (
        "--ha-postgres-dsn",
        {"--ha-postgres-dsn": "hidden-word of mine", "--ha-uuid": UUID},
    ),
    "DSN with a torn password": (
        "EDA_HA_POSTGRES_DSN",
        {
            "EDA_HA_POSTGRES_DSN": "postgresql://me:hidden-word/@host/db",
            "--ha-uuid": UUID,
        },
    ),
    **{
        f"{option} {text!r}": (
            option,
            {"--ha-postgres-dsn": DSN, "--ha-uuid": UUID, option: text},
        )
        for option, text in (
            ("--ha-poll-interval", "often"),
            ("--ha-poll-interval", "nan"),
            ("--ha-poll-interval", "0"),
            ("--ha-poll-interval", "3601"),
            ("--ha-lease-duration", "inf"),
            ("--ha-lease-duration", "-5"),
            ("--ha-lease-duration", "0.9"),
            ("EDA_HA_POLL_INTERVAL", "1h"),
            ("EDA_HA_LEASE_DURATION", "3600.1"),
            ("--ha-kubernetes-label", "leader"),
            ("EDA_HA_KUBERNETES_LABEL", "role=leader"),  # in no pod
        )
    },
}


def command(given: Mapping[str, str], more: Sequence[str] = ()) -> Answer[str]:
    """The command with these flags (``--``) and variables."""
    flags = [
        f"{name}={value}"
        for name, value in given.items()
        if name.startswith("--")
    ]
    variables = {
        name: value
        for name, value in given.items()
        if not name.startswith("--")
    }
    return subprocess.run(
        [*script(), "--rulebook", str(STAGE), *more, *flags],
        env=worker_env(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, Future[Answer[str]]]]:
    """What the command says to each of them, some run at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            case: pool.submit(command, given)
            for case, (_, given) in USAGE.items()
        }


@pytest.mark.parametrize("case", USAGE)
def test_bad_input_gets_one_line_and_exit_code_2(
    case: str,
    answers: dict[str, Future[Answer[str]]],
) -> None:
    answer = answers[case].result()
    assert answer.returncode == 2, answer.stderr
    (line,) = answer.stderr.splitlines()
    assert USAGE[case][0] in line
    assert "hidden-word" not in line
    assert answer.stdout == ""


def refused(dsn: str) -> str:
    """The one line of a command that is refused at its start."""
    answer = command({"--ha-postgres-dsn": dsn, "--ha-uuid": UUID}, ["-v"])
    assert answer.returncode == 1, answer.stdout + answer.stderr
    (line,) = (
        line
        for line in (answer.stdout + answer.stderr).splitlines()
        if "ERROR" in line
    )
    assert "Traceback" not in answer.stdout + answer.stderr
    assert "Using jar" not in answer.stdout, "the engine was started"
    return line


def test_a_server_that_refuses_ends_the_command(
    embedded_server: EmbeddedRig,
) -> None:
    dsn = embedded_server.dsn
    for words, changes in (
        ("password authentication failed", {"password": "hidden-word"}),
        ("nobody", {"user": "nobody", "password": "hidden-word"}),
        ('"nowhere" does not exist', {"dbname": "nowhere"}),
    ):
        line = refused(make_conninfo(dsn, **changes))
        assert words in line
        assert "hidden-word" not in line


def test_a_transaction_pooler_is_refused(
    dsn: str, pgbouncer: Callable[..., PgBouncer]
) -> None:
    assert "--ha-session-pooler" in refused(pgbouncer(dsn).dsn)


def test_a_password_shows_nowhere(
    worker: Callable[..., WorkerProcess],
    embedded_server: EmbeddedRig,
    ha_uuid: str,
    tmp_path: Path,
) -> None:
    def is_safe(text: str) -> bool:
        return not re.search("Hidden|mine", text)

    password = "Hidden/word@of=mine: 100% 'q\""
    role = f"role_{ha_uuid[:8]}"
    with embedded_server.connect() as connection:
        connection.execute(
            SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                Identifier(role), Literal(password)
            )
        )
    place = f"127.0.0.1:{embedded_server.embedded.port}/postgres"
    uri = f"postgresql://{role}:{quote(password, safe='')}@{place}"
    pairs = make_conninfo("", **conninfo_to_dict(uri))

    stage = Stage(worker, uri, ha_uuid, tmp_path)
    workers = (
        stage.start(verbosity=2),
        stage.start(verbosity=2, dsn=pairs),
        stage.start(verbosity=2, via="env"),
    )
    for each in workers:
        each.wait_for("Following|acquired leadership", PATIENCE)
        title = Path(f"/proc/{each.pid}/cmdline").read_text("utf-8")
        assert "ansible-rulebook" in title
        assert is_safe(title), title
    embedded_server.restart()
    for each in workers:
        each.wait_for("Following|acquired leadership", PATIENCE, count=2)
        assert each.stop(PATIENCE) == 0
        assert is_safe(each.text)
    answer = command({"EDA_HA_POSTGRES_DSN": uri}, ["--help"])
    assert "high availability" in answer.stdout
    assert is_safe(answer.stdout + answer.stderr)
