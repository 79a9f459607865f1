"""Looks at all that a failover relies on, before one is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from typing import Callable, Sequence

from ..conninfo import Conninfo
from ..election.lease import (
    LONGEST,
    POLL_INTERVAL,
    SHORTEST_LEASE,
    Timings,
)
from ..errors import HaError
from ..redaction import clean
from ..upstream.names import is_able_to_keep_state
from ..upstream.plain_run import HOOK
from .asking import Question, Unasked
from .cluster import Cluster, look
from .finding import Finding, fault, ok, warn
from .host import Seen, examine, name_of, split
from .plain import count

INSTALLATION = "this Python"
CLUSTER = "cluster"


def check(
    conninfo: Conninfo,
    ha_uuid: uuid.UUID | None,
    seconds: float,
    lease: float | None = None,
) -> tuple[list[Finding], bool]:
    """Look at hosts, workers and installation, all at the same time.

    :param ha_uuid: whose workers to look at; None for all of the database.
    :param lease: the lease to try, in seconds; None for that of the workers,
        or the default if there are none.
    :returns: what was found, and whether any host could be asked.
    """
    until = time.monotonic() + seconds
    workers = Question(lambda: look(conninfo, ha_uuid, seconds))

    def timings() -> Timings:
        wanted = lease
        if wanted is None:
            # A host that is away must not take the time of the others.
            with suppress(Exception):
                limit = until - seconds / 3
                wanted = longest_lease(workers.answer(limit, seconds))
        if wanted is None:
            return Timings()
        return Timings.of(min(POLL_INTERVAL, wanted / 3), wanted)

    hosts = [
        (name_of(each), Question(_examination(each, timings, seconds)))
        for each in split(conninfo)
    ]
    hook = Question(lambda: hook_findings(seconds))
    seen = [_seen(*each, until, seconds) for each in hosts]
    findings = [finding for each in seen for finding in each.findings]
    findings += primaries(seen)
    if any(each.primary for each in seen):
        try:
            for cluster in workers.answer(until, seconds):
                findings += worker_findings(cluster)
        except HaError as error:
            findings.append(
                fault(
                    CLUSTER,
                    f"The workers cannot be seen: {error}.",
                    "Fix what is reported above first.",
                )
            )
    try:
        findings += hook.answer(until, seconds)
    except Unasked as error:
        findings.append(
            warn(
                INSTALLATION,
                "It is not known whether ansible-rulebook has our options: "
                f"{error}.",
                "Try again with a longer --timeout.",
            )
        )
    return findings, any(each.is_reached for each in seen)


def _examination(
    conninfo: Conninfo, timings: Callable[[], Timings], seconds: float
) -> Callable[[], Seen]:
    return lambda: examine(conninfo, timings, seconds)


def _seen(
    about: str, question: Question[Seen], until: float, seconds: float
) -> Seen:
    try:
        return question.answer(until, seconds)
    except Unasked as error:
        found = fault(
            about,
            f"It cannot be asked: {error}.",
            "See whether the host is up and PostgreSQL answers there, or "
            "give a longer --timeout.",
        )
        return Seen(about, (found,))


def longest_lease(clusters: Sequence[Cluster]) -> float | None:
    """The longest lease that a worker says it has, in seconds."""
    return max(
        (
            each.beacon.lease
            for cluster in clusters
            for each in cluster.workers
            if each.beacon and SHORTEST_LEASE <= each.beacon.lease <= LONGEST
        ),
        default=None,
    )


def primaries(seen: Sequence[Seen]) -> list[Finding]:
    """Whether there is exactly one primary behind all names."""
    lives: dict[str, list[str]] = {}
    for each in seen:
        if each.primary:
            lives.setdefault(each.primary, []).append(each.about)
    if len(lives) > 1:
        names = " and ".join(sorted(names[0] for names in lives.values()))
        return [
            fault(
                "connection string",
                f"TWO PRIMARIES: {names} both take writes, and each has "
                "locks of its own. Two workers may lead at the same time.",
                "Stop the workers. Find out which of the two is the right "
                "one, stop the other one, and make it a standby again.",
            )
        ]
    if not lives and any(each.is_reached for each in seen):
        return [
            fault(
                "connection string",
                "None of the hosts is a primary: nobody can lead.",
                "Promote a standby, or give the host of the primary.",
            )
        ]
    return []


def worker_findings(cluster: Cluster) -> list[Finding]:
    """Where the workers of one cluster do not fit together."""
    about = f"{CLUSTER} {cluster.name}"
    if not cluster.workers:
        return [ok(about, "No worker is connected now.")]
    findings = [
        ok(about, f"{count(len(cluster.workers), 'worker')} connected.")
    ]
    names = Counter(each.name for each in cluster.workers)
    twice = sorted(clean(name) for name, many in names.items() if many > 1)
    if twice:
        findings.append(
            warn(
                about,
                f"Several workers have one id: {', '.join(twice)}. Logs and "
                "history do not tell them apart.",
                "Give each worker an id of its own (--ha-worker-id), or none.",
            )
        )
    beacons = [each.beacon for each in cluster.workers if each.beacon]
    leases = sorted({each.lease for each in beacons if each.lease})
    if len(leases) > 1:
        shown = ", ".join(f"{lease:g} s" for lease in leases)
        findings.append(
            warn(
                about,
                f"The workers have unequal leases: {shown}.",
                "Give all of them the same --ha-poll-interval and "
                "--ha-lease-duration.",
            )
        )
    versions = sorted({each.version for each in beacons if each.version})
    if len(versions) > 1:
        findings.append(
            warn(
                about,
                "The workers have several versions: "
                f"{', '.join(map(clean, versions))}.",
                "Finish the upgrade.",
            )
        )
    if cluster.has_hidden:
        role = clean(cluster.server.role)
        findings.append(
            warn(
                about,
                f"Role {role} may not see what workers of other roles say.",
                f"GRANT pg_read_all_stats TO {role}, or ask as their role.",
            )
        )
    return findings


def hook_findings(seconds: float) -> list[Finding]:
    """Whether ansible-rulebook has the options in this Python."""
    findings = []
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EDA_HA_")
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", HOOK],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
        )
        is_alive = done.returncode == 0
    except subprocess.TimeoutExpired:
        raise Unasked(f"no answer within {seconds:g} s") from None
    if is_alive:
        findings.append(
            ok(INSTALLATION, "ansible-rulebook has the --ha- options.")
        )
    else:
        findings.append(
            fault(
                INSTALLATION,
                "ansible-rulebook does not have the --ha- options: "
                f"{sys.executable} does not read ansible_rulebook_ha.pth, or "
                "ansible-rulebook is not installed there.",
                "Install both into one virtual environment, or start the "
                "script ansible-rulebook of this package.",
            )
        )
    if not is_able_to_keep_state():
        findings.append(
            warn(
                INSTALLATION,
                "This ansible-rulebook keeps no state of the rules.",
                "Use ansible-rulebook 1.3 or later if a new leader is to go "
                "on with it.",
            )
        )
    return findings
