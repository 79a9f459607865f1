"""The last transition of a cluster, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from ..election.reasons import Reason
from ..redaction import clean
from .cluster import Cluster, PastTerm
from .health import pause_words
from .plain import count, duration, moment

IN_LOGS = (
    "The logs of the workers tell it: look for 'Successfully acquired "
    "leadership' and 'Lost leadership'."
)


@dataclass(frozen=True)
class Transition:
    """From one leader to the next. What is not known is None or empty."""

    worker: str
    """Who leads since then."""
    at: float | None
    """In seconds of the epoch."""
    term: int | None = None
    replaces: str = ""
    reason: Reason | None = None
    """Why the worker before no longer leads."""
    evidence: str = ""
    gap: float | None = None
    """Seconds that nobody led."""

    def __str__(self) -> str:
        words = f"{clean(self.worker)} leads since {moment(self.at)}"
        if self.replaces:
            words += f", after {clean(self.replaces)}"
            if self.reason is not None:
                words += f", which {self.reason.words}"
        elif self.reason is Reason.PAUSED:
            words += ", after a pause"
        if self.gap is not None:
            words += f"; nobody led for {duration(self.gap)}"
        return words


def last_transition(cluster: Cluster) -> Transition | None:
    """The last transition, or None if nothing is known of it."""
    last, before = _last_terms(cluster)
    if last is not None:
        return Transition(
            worker=last.worker,
            at=last.since,
            term=last.term,
            replaces=last.replaces or (before.worker if before else ""),
            reason=before.ended if before else None,
            evidence=last.evidence,
            gap=last.gap,
        )
    leader = cluster.leader
    if leader is None or not leader.since:
        return None
    said = leader.beacon
    if said is None or not said.cause:
        return Transition(leader.name, leader.since, cluster.term)
    return Transition(
        worker=leader.name,
        at=leader.since,
        term=cluster.term,
        replaces=said.replaces,
        reason=Reason.of(said.cause),
        gap=said.gap if said.gap >= 0 else None,
    )


def explain(cluster: Cluster) -> list[str]:
    """What happened, how that is known, what it cost, and what to do."""
    last, before = _last_terms(cluster)
    said = _present(cluster, last)
    if last is None:
        told = last_transition(cluster)
        if told is None or told.reason is None:
            said += [f"Why is not known: {_no_history(cluster)} {IN_LOGS}"]
        else:
            said += [
                *_as_told(told),
                f"It says so itself: {_no_history(cluster)}",
            ]
    elif cluster.leader is None:
        said += _end_of(last)
    else:
        said += _replaced(last, before)
    return said + _reserve(cluster)


def _last_terms(cluster: Cluster) -> tuple[PastTerm | None, PastTerm | None]:
    terms = cluster.stored.terms if cluster.stored else ()
    return (
        terms[0] if terms else None,
        terms[1] if len(terms) > 1 else None,
    )


def _present(cluster: Cluster, last: PastTerm | None) -> list[str]:
    leader, now = cluster.leader, cluster.server.now
    if cluster.pause is not None:
        return [
            f"The cluster is paused by {pause_words(cluster.pause)}.",
            "Nobody leads until that ends.",
        ]
    if leader is None:
        said = ["Nobody leads."]
        if cluster.stranger is not None:
            said.append(
                "A session that is no worker's holds the lock: "
                f"{clean(cluster.stranger.name) or '(no name)'}, PostgreSQL "
                f"process {cluster.stranger.backend}. Find out what it is; "
                "SELECT pg_terminate_backend("
                f"{cluster.stranger.backend}) ends it."
            )
        return said
    since = leader.since or (last.since if last else None)
    words = f"{clean(leader.name)} leads"
    if since:
        words += f" since {moment(since)}, for {duration(now - since)}"
    if cluster.term:
        words += f", in term {cluster.term}"
    said = [f"{words}."]
    if cluster.is_silent:
        said.append(
            f"It has given no sign for {duration(leader.silent)}, and its "
            f"lease is {duration(cluster.lease)}: PostgreSQL should have "
            "ended its session. Run 'ansible-rulebook-ha check' to see which "
            "setting did not take effect."
        )
    return said


def _replaced(last: PastTerm, before: PastTerm | None) -> list[str]:
    replaced = last.replaces or (before.worker if before else "")
    if not replaced:
        return ["It is the first leader that is on record."]
    name = clean(replaced)
    said = []
    if replaced == last.worker:
        said.append("It had led before, too.")
    elif before is not None and before.until is not None:
        led = duration(before.until - before.since)
        said.append(f"It replaced {name}, which had led for {led}.")
    else:
        said.append(f"It replaced {name}.")
    reason = (before.ended if before else None) or Reason.UNKNOWN
    said.append(f"{name} {reason.words}.")
    if last.evidence:
        said.append(f"Evidence: {clean(last.evidence, 1000).rstrip('.')}.")
    if last.gap is None:
        said.append("For how long nobody led is not on record.")
    else:
        said.append(f"Nobody led for {duration(last.gap)}.")
    if last.records is None and last.matches is None:
        said.append("What was recovered is not on record.")
    else:
        records = count(last.records or 0, "event or fact", "events and facts")
        matches = count(last.matches or 0, "match", "matches")
        said.append(
            f"Recovered: {records}, and {matches} whose actions had not all "
            "run."
        )
    said.append(f"What to do: {reason.advice}")
    return said


def last_leader(cluster: Cluster) -> str:
    """Who led last, if nobody does; empty if that is not known."""
    last, _ = _last_terms(cluster)
    if cluster.leader is not None or last is None:
        return ""
    words = f"{clean(last.worker)} from {moment(last.since)}"
    if last.until:
        words += f" to {moment(last.until)}"
    return f"{words}, which {(last.ended or Reason.UNKNOWN).words}"


def _as_told(told: Transition) -> list[str]:
    """What the leader says itself."""
    reason = told.reason or Reason.UNKNOWN
    said = []
    if told.replaces == told.worker:
        said.append("It had led before, too.")
    elif told.replaces:
        said.append(f"It replaced {clean(told.replaces)}.")
    if told.replaces:
        said.append(f"{clean(told.replaces)} {reason.words}.")
    elif reason is Reason.PAUSED:
        said.append("The cluster was paused until then.")
    else:
        said.append(f"It {reason.words}.")
    if told.gap is not None:
        said.append(f"Nobody led for {duration(told.gap)}.")
    if told.replaces or reason is Reason.FIRST:
        said.append(f"What to do: {reason.advice}")
    return said


def _end_of(last: PastTerm) -> list[str]:
    name = clean(last.worker)
    said = [
        f"The last leader was {name}, in term {last.term}, from "
        f"{moment(last.since)}"
        + (f" to {moment(last.until)}." if last.until else ".")
    ]
    reason = last.ended or Reason.UNKNOWN
    said.append(f"{name} {reason.words}.")
    said.append(f"What to do: {reason.advice}")
    return said


def _no_history(cluster: Cluster) -> str:
    server = cluster.server
    if server.tables == "forbidden":
        return (
            f"role {clean(server.role)} may not read the tables of the "
            "state. Ask as the role of the workers."
        )
    if server.tables == "absent":
        return (
            "no history is kept without the tables of the state, and this "
            "database has none."
        )
    return (
        "this cluster has no history. It keeps no state, or nobody has led it "
        "yet."
    )


def _reserve(cluster: Cluster) -> list[str]:
    followers = len(cluster.followers)
    if not cluster.workers:
        return [
            "No worker is connected: start one, and if it does not appear "
            "here, compare its DSN and UUID with those of this command."
        ]
    if not followers:
        return ["Nobody would take over: start another worker."]
    if cluster.leader is None and cluster.stranger is None:
        return [
            f"{count(followers, 'worker is', 'workers are')} connected and "
            "should lead within a lease. If none does, look in their logs."
        ]
    return [f"{count(followers, 'follower')} could take over."]
