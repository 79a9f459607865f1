"""``init-db``: creates the tables for the state before workers start.

The role that runs it owns the tables. Workers then need no right to create
anything. The rights that they do need are printed as GRANT statements, for
psql::

    ansible-rulebook-ha init-db --worker-role eda | psql
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ...errors import OptionError, StateRefused
from ...state import schema
from ...state.session import StateSession
from ..exit_codes import ExitCode
from ..output import print_json
from . import common

SOME_ROLE = "worker"  # stands in the statements unless a role is named


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "init-db",
        help="create the tables for the rules' state",
        description="Creates the tables for the rules' state, or brings "
        "them up to date, and prints the GRANT statements for the workers' "
        "role, without executing them. Run it as the role that is to own the "
        "tables, and again after each upgrade.",
    )
    command.add_argument(
        "--worker-role",
        metavar="ROLE",
        help=f"the role to name in the statements, default {SOME_ROLE}",
    )
    command.add_argument(
        "--post-role",
        metavar="ROLE",
        help="print what this role needs to post events to an inbox by the "
        "SQL function eda_ha_post, too",
    )
    common.add_dsn(command, common.LONG_TIMEOUT)
    common.add_json(command)
    command.set_defaults(begin=common.on_server(run))
    return command


def run(args: argparse.Namespace, session: StateSession) -> ExitCode:
    """Create what is missing, and bring up to date what is there.

    A cluster may be running meanwhile.

    :raises StateRefused: if that is not possible, with the reason.
    :raises ServerUnavailable: if the server cannot be asked, or the tables
        stay in use.
    """
    role, poster = args.worker_role, args.post_role
    for flag, name in (("--worker-role", role), ("--post-role", poster)):
        if name is not None and not name.strip():
            raise OptionError(f"{flag}: the name is empty")
    found = schema.survey(session)
    if found.place is None and found.schema is None:
        raise StateRefused(
            f"no schema of the search_path {found.search_path} exists, or "
            f"role {found.role} may use none of them"
        )
    if not found.is_complete and not found.may_create:
        raise StateRefused(
            f"role {found.role} lacks CREATE on schema {found.schema}"
        )
    schema.create(session)
    obstacle = schema.survey(session).obstacle()
    if obstacle is not None:
        raise StateRefused(obstacle)
    granted = schema.grants(session, role or SOME_ROLE)
    if poster is not None:
        granted += schema.post_grants(session, poster)
    if args.json:
        print_json("init-db", exit=int(ExitCode.DONE), grants=granted)
        return ExitCode.DONE
    for line in granted:
        print(line)
    if role is None:
        print(
            "ansible-rulebook-ha: grant these to the role of your workers "
            f"instead of {SOME_ROLE} (--worker-role names it)",
            file=sys.stderr,
        )
    return ExitCode.DONE
