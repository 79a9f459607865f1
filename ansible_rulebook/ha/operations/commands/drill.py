"""``drill``: a rehearsed failover, and how long it takes."""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from typing import Any

from ...conninfo import Conninfo
from ...election.requests import Request
from ..asking import in_time
from ..exit_codes import ExitCode
from ..output import Printer, print_json
from ..plain import count, duration
from ..switchover import Handed, Refused, Switchover
from . import common
from .switchover import SLACK, hand_over


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "drill",
        help="rehearse a failover",
        description="Has another worker lead, and measures for how long "
        "nobody leads. Refused if no worker stands by. Exit code 0 if nobody "
        "led for at most --max, else 1.",
    )
    command.add_argument(
        "--kill",
        action="store_true",
        help="end the leader's session, as a failure would; default: a "
        "switchover in good order",
    )
    command.add_argument(
        "--max",
        type=common.seconds("--max"),
        metavar="SECONDS",
        help="for how long nobody may lead; default: no limit but --timeout",
    )
    common.add_change(command)
    common.add_cluster(command, common.CHANGE_TIMEOUT)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Do it, and tell what was measured.

    :raises Refused: by the leader, or if no worker stands by.
    :raises HaError: if it cannot be done.
    """
    where, ha_uuid = common.conninfo(args), common.ha_uuid(args)
    cluster = common.cluster(args, where, ha_uuid)
    leader = cluster.leader
    if leader is not None and not cluster.followers:
        raise Refused(f"no worker stands by to take over from {leader.name}")
    name = leader.name if leader else "the leader"
    what = f"End the session of {name}" if args.kill else f"{name} hands over"
    common.confirm(
        args,
        f"Drill: {what}, with {count(len(cluster.followers), 'follower')}. "
        "Go on?",
    )
    if args.kill:
        handed = _kill(where, ha_uuid, args.timeout)
    else:
        reason = args.reason or "drill"
        request = Request("", reason, common.myself())
        handed = hand_over(where, ha_uuid, request, args.timeout)
    is_late = args.max is not None and handed.gap > args.max
    code = ExitCode.REFUSED if is_late else ExitCode.DONE
    _tell(args, handed, code)
    return code


def _kill(where: Conninfo, ha_uuid: uuid.UUID, timeout: float) -> Handed:
    async def kill() -> Handed:
        async with Switchover(where, ha_uuid, Request()) as switchover:
            before = await switchover.leader()
            began = time.monotonic()
            await switchover.end_session(before)
            return await switchover.watch(before, began + timeout, began)

    return in_time(lambda: asyncio.run(kill()), timeout + SLACK)


def _tell(args: argparse.Namespace, handed: Handed, code: ExitCode) -> None:
    if args.json:
        print_json(
            "drill",
            exit=int(code),
            kind="kill" if args.kill else "switchover",
            before=handed.before.worker,
            leader=handed.after.worker,
            gap=handed.gap,
            max=args.max,
        )
        return
    ended = "its session was ended" if args.kill else "it handed over"
    printer = Printer()
    printer.line(
        f"{handed.after.worker} leads now, after {handed.before.worker}: "
        f"{ended}. Nobody led for {duration(handed.gap)}."
    )
    if code is not ExitCode.DONE:
        printer.line(f"TOO LONG: {duration(args.max)} are allowed", "bold red")
