"""``switchover``: the leader hands over in good order."""

from __future__ import annotations

import argparse
import asyncio
import uuid
from typing import Any

from ...conninfo import Conninfo
from ...election.requests import Request
from ..asking import in_time
from ..exit_codes import ExitCode
from ..output import Printer, print_json
from ..plain import duration
from ..switchover import Handed, Refused, Switchover
from . import common

SLACK = 15.0  # seconds, to connect and for the last answer


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "switchover",
        help="have the leader hand over in good order",
        description="Asks the leader to take no more events, to let its "
        "actions end, and to leave the lead to another worker. It does so for "
        "a role that could end its session. Exit code 0 when another worker "
        "leads, 1 if the leader refuses, 5 if it takes too long.",
    )
    command.add_argument(
        "--to",
        default="",
        metavar="WORKER",
        help="the worker that is to lead next; default any",
    )
    common.add_change(command)
    common.add_cluster(command, common.CHANGE_TIMEOUT)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Ask for it, and wait until it is done.

    :raises Refused: it is not done, or another worker leads than is asked for.
    :raises HaError: if it cannot be done.
    """
    where, ha_uuid = common.conninfo(args), common.ha_uuid(args)
    leader = common.cluster(args, where, ha_uuid).leader
    common.confirm(
        args,
        f"Have {leader.name if leader else 'the leader'} hand over to "
        f"{args.to or 'another worker'}?",
    )
    request = Request(args.to, args.reason, common.myself())
    handed = hand_over(where, ha_uuid, request, args.timeout)
    leads = handed.after.worker
    if args.to and leads != args.to:
        raise Refused(f"{leads} leads now, and not {args.to}")
    if args.json:
        print_json(
            "switchover",
            exit=int(ExitCode.DONE),
            before=handed.before.worker,
            leader=leads,
            gap=handed.gap,
        )
        return ExitCode.DONE
    Printer().line(
        f"{leads} leads now, after {handed.before.worker}. Nobody led for "
        f"{duration(handed.gap)}."
    )
    return ExitCode.DONE


def hand_over(
    where: Conninfo, ha_uuid: uuid.UUID, request: Request, timeout: float
) -> Handed:
    """Have the leader hand over.

    :param timeout: seconds in all.
    :raises HaError: if it does not.
    """

    async def ask() -> Handed:
        async with Switchover(where, ha_uuid, request) as switchover:
            return await switchover.run(timeout)

    return in_time(lambda: asyncio.run(ask()), timeout + SLACK)
