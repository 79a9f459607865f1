"""``history``: the last terms of a cluster."""

from __future__ import annotations

import argparse
from typing import Any

from ...state.history import TERMS
from ..cluster import Cluster, PastTerm
from ..exit_codes import ExitCode
from ..output import Printer, print_json
from ..plain import duration, moment
from ..why import IN_LOGS
from . import common

SOME = 20
HEADS = (
    *("TERM", "WORKER", "FROM", "UNTIL", "REPLACES", "GAP"),
    *("ENDED", "EVENTS", "ACTIONS", "EVIDENCE"),
)


def add(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "history",
        help="show who led before",
        description="Shows the last terms of a cluster that keeps state, the "
        "latest one first.",
    )
    command.add_argument(
        "-n",
        dest="most",
        type=common.whole("-n", 1, TERMS),
        default=SOME,
        metavar="N",
        help=f"how many terms, default {SOME}, at most {TERMS}",
    )
    common.add_cluster(command)
    command.set_defaults(begin=run)
    return command


def run(args: argparse.Namespace) -> ExitCode:
    """Show them.

    :raises HaError: if the server cannot be asked.
    """
    cluster = common.seen(args, args.most)
    terms = cluster.stored.terms if cluster.stored else ()
    if args.json:
        print_json(
            "history",
            exit=int(ExitCode.DONE),
            ha_uuid=cluster.ha_uuid,
            tables=cluster.server.tables,
            terms=[_as_json(each) for each in terms],
        )
        return ExitCode.DONE
    printer = Printer()
    if not terms:
        printer.line(_none(cluster))
        return ExitCode.DONE
    printer.table(HEADS, [_row(each, cluster) for each in terms])
    return ExitCode.DONE


def _row(term: PastTerm, cluster: Cluster) -> list[object]:
    leads = cluster.leader is not None and term.term == cluster.term
    return [
        term.term,
        term.worker,
        moment(term.since),
        "leads" if leads and not term.until else moment(term.until),
        term.replaces,
        duration(term.gap),
        term.ended.value if term.ended else None,
        term.events,
        term.actions,
        term.evidence,
    ]


def _as_json(term: PastTerm) -> dict[str, Any]:
    return {**vars(term), "ended": term.ended.value if term.ended else None}


def _none(cluster: Cluster) -> str:
    if cluster.server.tables == "forbidden":
        return (
            f"Role {cluster.server.role} may not read the tables of the "
            "state: ask as the role of the workers."
        )
    if cluster.server.tables == "read":
        return (
            "This cluster has no history: it keeps no state, or nobody has "
            f"led it yet. {IN_LOGS}"
        )
    return f"There is no history, since no state is kept. {IN_LOGS}"
