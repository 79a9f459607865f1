"""``status``: who leads, who stands by, and whether all is well."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from ...errors import HaError
from ...redaction import clean
from ..asking import in_time
from ..cluster import LEADER, Cluster, Worker, look
from ..exit_codes import ExitCode
from ..health import Health, judge, pause_words, worst
from ..output import Printer, print_json
from ..plain import ABSENT, count, duration, moment
from ..sql import MOST_COUNTED
from ..why import Transition, last_leader, last_transition
from . import common

WATCH_EVERY = 2.0  # seconds
MOST_FOLLOWERS = 10_000
HEADS = (
    *("WORKER", "ROLE", "STATE", "HOST", "PID", "SINCE", "LAST-SEEN"),
    *("VERSION", "PRIORITY", "HTTP"),
)


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "status",
        help="show who leads and who stands by",
        description="Shows the workers of a cluster as PostgreSQL sees them. "
        "Needs no more than the right to connect. Exit code 0 if somebody "
        "leads, 1 if nobody does, 3 if the cluster is degraded.",
    )
    command.add_argument(
        "--watch",
        nargs="?",
        type=common.seconds("--watch"),
        const=WATCH_EVERY,
        metavar="SECONDS",
        help="show it again and again, until Ctrl-C; default every "
        f"{WATCH_EVERY:g} seconds",
    )
    command.add_argument(
        "--require-followers",
        type=common.whole("--require-followers", 0, MOST_FOLLOWERS),
        default=0,
        metavar="N",
        help="exit with 3 if fewer than N workers stand by",
    )
    command.add_argument(
        "--all",
        action="store_true",
        help="show all clusters of the database",
    )
    common.add_cluster(command)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Show it once, or until it is interrupted.

    :raises HaError: if the server cannot be asked.
    """
    where = common.conninfo(args)
    ha_uuid = None if args.all else common.ha_uuid(args)
    printer = Printer()

    def once() -> ExitCode:
        found = in_time(
            lambda: look(where, ha_uuid, args.timeout), args.timeout
        )
        return _show(args, printer, found)

    while True:
        if args.watch is None:
            return once()
        try:
            once()
        except HaError as error:  # the server may be there the next time
            _show_error(args, printer, error)
        sys.stdout.flush()
        time.sleep(args.watch)


def _show(
    args: argparse.Namespace, printer: Printer, found: list[Cluster]
) -> ExitCode:
    healths = [judge(each, args.require_followers) for each in found]
    code = worst(health.code for health in healths)
    if args.json:
        told = [_as_json(*each) for each in zip(found, healths)]
        print_json("status", exit=int(code), clusters=told)
        return code
    if args.watch is not None:
        printer.clear()
    if not found:
        printer.line("No cluster has workers or state in this database.")
    for number, (cluster, health) in enumerate(zip(found, healths)):
        if number or (args.watch is not None and not printer.is_terminal):
            printer.line()
        _print(printer, cluster, health)
    return code


def _show_error(
    args: argparse.Namespace, printer: Printer, error: HaError
) -> None:
    if args.json:
        print_json("status", exit=int(ExitCode.UNASKED), error=str(error))
    else:
        printer.clear()
        printer.line(f"Could not ask: {error}")


def _print(printer: Printer, cluster: Cluster, health: Health) -> None:
    printer.pairs(
        [
            ("Cluster", cluster.name),
            ("Server", cluster.server),
            ("Lease", duration(cluster.lease)),
            ("Term", cluster.term),
            ("State", _state(cluster)),
        ]
    )
    if cluster.workers:
        printer.line()
        printer.table(
            HEADS,
            [_row(each) for each in cluster.workers],
            ["bold green" if cluster.leader else ""],
        )
    printer.line()
    printer.pairs(_footer(cluster))
    for problem in health.problems:
        printer.line(f"NOT WELL: {problem}", "bold red")
    if cluster.has_hidden:
        printer.line(
            "Some workers belong to another role, so their details are "
            "hidden: ask as that role, or GRANT pg_read_all_stats TO "
            f"{cluster.server.role}"
        )


def _state(cluster: Cluster) -> str:
    stored = cluster.stored
    if stored is not None:
        records = count(stored.records, "event or fact", "events and facts")
        matches = count(stored.matches, "match", "matches")
        if max(stored.records, stored.matches) >= MOST_COUNTED:
            records = f"at least {records}"
        return f"{records}, {matches} with actions to run"
    return {
        "absent": "none: no tables in this database",
        "forbidden": f"unknown: role {cluster.server.role} may not read it",
    }.get(cluster.server.tables, "none")


def _row(worker: Worker) -> list[object]:
    said = worker.beacon
    seen = ABSENT if worker.silent is None else duration(worker.silent)
    return [
        worker.name,
        worker.role,
        worker.state,
        said and said.host,
        (said and said.pid) or None,
        moment(worker.since),
        seen,
        said and said.version,
        said.priority if said else None,
        said and said.http,
    ]


def _footer(cluster: Cluster) -> list[tuple[str, object]]:
    followers = len(cluster.followers)
    reserve = count(followers, "follower") if followers else "none"
    footer: list[tuple[str, object]] = [("Reserve", reserve)]
    transition, led = last_transition(cluster), last_leader(cluster)
    if led:
        footer.append(("Last leader", led))
    elif transition is not None:
        footer.append(("Last transition", transition))
    for each in cluster.waiting:
        words = f"{count(each.events, 'event')}, the oldest for "
        footer.append(
            (f"Inbox {clean(each.inbox)}", words + duration(each.age))
        )
    if cluster.pause is not None:
        footer.append(("PAUSED BY", pause_words(cluster.pause)))
    return footer


def _as_json(cluster: Cluster, health: Health) -> dict[str, Any]:
    stranger, stored = cluster.stranger, cluster.stored
    return {
        "ha_uuid": cluster.ha_uuid,
        "key": f"{cluster.key % 2**64:016x}",
        "server": {
            "place": cluster.server.place,
            "database": cluster.server.database,
            "version": cluster.server.version,
        },
        "lease": cluster.lease,
        "term": cluster.term,
        "state": {
            "tables": cluster.server.tables,
            "records": stored.records if stored else None,
            "matches": stored.matches if stored else None,
        },
        "inboxes": [vars(each) for each in cluster.waiting],
        "leader": cluster.leader.name if cluster.leader else None,
        "followers": len(cluster.followers),
        "workers": [worker_as_json(each) for each in cluster.workers],
        "last_transition": _transition_as_json(last_transition(cluster)),
        "paused_by": cluster.pause.name if cluster.pause else None,
        "pause": cluster.pause.view.as_json() if cluster.pause else None,
        "held_by": (
            stranger.name if stranger and not stranger.pauses else None
        ),
        "exit": int(health.code),
        "problems": list(health.problems),
    }


def worker_as_json(worker: Worker) -> dict[str, Any]:
    """One worker. What is not known is null."""
    said = worker.beacon
    return {
        "worker": worker.name,
        "role": worker.role,
        "leads": worker.role == LEADER,
        "state": worker.state,
        "host": (said and said.host) or None,
        "pid": (said and said.pid) or None,
        "since": worker.since,
        "last_seen_seconds": worker.silent,
        "version": (said and said.version) or None,
        "priority": said.priority if said else None,
        "http": (said and said.http) or None,
        "lease": (said and said.lease) or None,
        "session": worker.session,
        "backend": worker.backend,
        "hidden": worker.is_hidden,
    }


def _transition_as_json(transition: Transition | None) -> Any:
    if transition is None:
        return None
    reason = transition.reason
    return {**vars(transition), "reason": reason.value if reason else None}
