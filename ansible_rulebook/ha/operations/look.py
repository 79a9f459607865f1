"""The cluster as a worker's page shows it, asked from PostgreSQL."""

from __future__ import annotations

import uuid
from typing import Callable

from ..conninfo import Conninfo
from ..election.reasons import Reason
from .cluster import Cluster, PastTerm, Worker, look
from .view import ClusterView, TermView, WorkerView

WITHIN = 3.0  # seconds for each question
TERMS = 50  # the last ones


def looking_at(
    conninfo: Conninfo, ha_uuid: uuid.UUID
) -> Callable[[], ClusterView]:
    """A function that asks for the cluster. Each call asks, and blocks."""

    def ask() -> ClusterView:
        (cluster,) = look(conninfo, ha_uuid, WITHIN, TERMS)
        return view_of(cluster)

    return ask


def view_of(cluster: Cluster) -> ClusterView:
    """What the page shows of a cluster."""
    now = cluster.server.now
    terms = cluster.stored.terms if cluster.stored else ()
    return ClusterView(
        tuple(_worker(each, now) for each in cluster.workers),
        tuple(_term(each) for each in terms),
        None if cluster.pause is None else cluster.pause.view,
    )


def _worker(worker: Worker, now: float) -> WorkerView:
    said = worker.beacon
    view = WorkerView(
        worker.name,
        worker.role,
        worker.state,
        since=worker.since or 0.0,
        last_seen=0.0 if worker.silent is None else now - worker.silent,
    )
    if said is None:
        return view
    return view._replace(
        host=said.host,
        pid=said.pid,
        version=said.version,
        priority=said.priority,
        http=said.http,
    )


def _term(term: PastTerm) -> TermView:
    began = f"replaces {term.replaces}" if term.replaces else ""
    ended = "" if term.ended is None else Reason(term.ended).words
    return TermView(
        term.term,
        term.worker,
        term.since,
        term.until,
        ". ".join(each for each in (began, term.evidence) if each),
        ended,
        term.gap,
        term.events,
        term.actions,
    )
