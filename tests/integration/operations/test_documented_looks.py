"""The commands of the documentation that look at a cluster, run at one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from clusters import create_tables
from command_runs import run
from documented import Command, all_commands
from rig.server import Server
from shown import Shown

from ansible_rulebook.ha.operations.exit_codes import ExitCode

LOOKING = ("status", "leader", "history", "why", "check", "init-db")
COMMANDS = {
    command.words: command
    for command in all_commands()
    if command.words[0] == "ansible-rulebook-ha"
    and command.words[1] in (*LOOKING, "forget", "new-uuid")
}


@pytest.fixture(scope="module")
def shown(server: Server) -> Iterator[Shown]:
    """A cluster with a leader and a follower."""
    dsn = server.create_database()
    with contextlib.ExitStack() as stack:
        create_tables(dsn)
        made = Shown(server, dsn, stack)
        made.leader("eda-b")
        made.follower("eda-a")
        yield made
    server.drop_database(dsn)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=str)
def test_a_command_does_what_it_is_for(shown: Shown, command: Command) -> None:
    _, name, *args = command.words
    done = run(
        name,
        *args,
        EDA_HA_POSTGRES_DSN=shown.dsn,
        EDA_HA_UUID=str(shown.uuid),
    )
    expected = {ExitCode.DONE}
    if name == "check":
        expected.add(ExitCode.DEGRADED)  # it may warn of the test's server
    assert done.code in expected, done
    assert done.stdout or name in ("forget", "history")


def test_there_are_some() -> None:
    assert {words[1] for words in COMMANDS} >= set(LOOKING)
