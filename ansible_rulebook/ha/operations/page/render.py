"""HTML of the page. Every text from elsewhere goes through :func:`_text`."""

from __future__ import annotations

import html
from datetime import datetime, timezone
from typing import NamedTuple

from ...redaction import clean
from ..snapshot import PauseView, Snapshot
from ..view import ClusterView, TermView, WorkerView

MOST_WORKERS = 200
MOST_TERMS = 50
MOST_LANES = 12  # workers in the timeline
WIDTH, HEIGHT = 240, 48  # of a chart, in its own units
TIMELINE = 1000  # width of the timeline, in its own units
NOT_KNOWN = "-"


class Rate(NamedTuple):
    """Something per second, over the last two minutes."""

    samples: tuple[float, ...] = ()

    @property
    def now(self) -> float:
        return self.samples[-1] if self.samples else 0.0

    @property
    def most(self) -> float:
        return max(self.samples, default=0.0)


class Moment(NamedTuple):
    """All that the page shows."""

    worker: Snapshot
    cluster: ClusterView
    seen_at: float | None
    """When the database answered last, in seconds since the epoch."""
    database_answers: bool
    at: float
    """Now, in seconds since the epoch."""
    events: Rate = Rate()
    actions: Rate = Rate()


def sections(moment: Moment) -> dict[str, str]:
    """What changes with time, by the ids of the elements that hold it."""
    return {
        "news": _news(moment),
        "leader": _leader(moment),
        "workers": _workers(moment),
        "lease": _lease(moment),
        "rates": _rates(moment),
        "state": _state(moment.worker),
        "lanes": _lanes(moment),
        "terms": _terms(moment.cluster.terms),
    }


def document(moment: Moment) -> str:
    """The whole page."""
    values = sections(moment)
    leader = _leading(moment)
    title = f"{leader} leads" if leader else "No leader"
    if _pausing(moment) is not None:
        title = "Paused"
    return _DOCUMENT.format(
        title=_text(title),
        uuid=_text(moment.worker.ha_uuid),
        worker=_text(moment.worker.worker_id),
        version=_text(moment.worker.version),
        **values,
    )


# -- who leads -----------------------------------------------------------


def _leading(moment: Moment) -> str:
    """Who leads, as far as is known: the worker knows it of itself."""
    worker = moment.worker
    if worker.leads:
        return worker.worker_id
    if moment.database_answers and moment.cluster.workers:
        leaders = [
            each.worker
            for each in moment.cluster.workers
            if each.role == "leader"
        ]
        return leaders[0] if leaders else ""
    return "" if worker.role == "leader" else worker.leader


def _news(moment: Moment) -> str:
    """A sentence that changes only with the leader: it is read aloud."""
    leader = _leading(moment)
    pause = _pausing(moment)
    if pause is not None:
        return f"Paused by {_pause_words(pause)}."
    return f"{_text(leader)} leads." if leader else "No worker leads."


def _leader(moment: Moment) -> str:
    leader, worker = _leading(moment), moment.worker
    parts = []
    pause = _pausing(moment)
    if pause is not None:
        parts.append(
            f'<p class="alarm"><strong>PAUSED BY</strong> '
            f"{_pause_words(pause)}</p>"
        )
    if leader:
        parts.append(f'<p class="big">{_text(leader)}</p>')
        since = worker.since if worker.leads else _since(moment, leader)
        term = worker.term if worker.leads else _term_of(moment, leader)
        told = [f"term {term}"] if term else []
        told += [f"since {_time(since)}"] if since else []
        if told:
            parts.append(f"<p>leads, {', '.join(told)}</p>")
    else:
        parts.append('<p class="big alarm">No worker leads</p>')
    if not moment.database_answers:
        seen = (
            f"what is shown of other workers is of {_time(moment.seen_at)}"
            if moment.seen_at
            else "other workers cannot be shown"
        )
        parts.append(
            f'<p class="alarm">The database does not answer: {seen}.</p>'
        )
    return "".join(parts)


def _pausing(moment: Moment) -> PauseView | None:
    """As the database tells it, or else as the worker last saw it."""
    if moment.database_answers:
        return moment.cluster.pause
    return moment.worker.pause


def _pause_words(pause: PauseView) -> str:
    words = f"{_text(pause.by)} since {_time(pause.since)}"
    if pause.until:
        words += f" until {_time(pause.until)}"
    return f"{words}: {_text(pause.reason)}" if pause.reason else words


def _since(moment: Moment, leader: str) -> float:
    for each in moment.cluster.workers:
        if each.worker == leader and each.role == "leader":
            return each.since
    return 0.0


def _term_of(moment: Moment, leader: str) -> int:
    for term in moment.cluster.terms:
        if term.worker == leader and term.ended is None:
            return term.term
    return 0


# -- workers -------------------------------------------------------------


def _workers(moment: Moment) -> str:
    workers = moment.cluster.workers or (_as_worker(moment.worker),)
    leads_first = sorted(
        workers[:MOST_WORKERS], key=lambda each: each.role != "leader"
    )
    rows = "".join(_worker(each, moment.worker) for each in leads_first)
    heads = ("Worker", "Role", "State", "Host", "Since", "Priority", "Page")
    return _table("Workers of this cluster", heads, rows)


def _as_worker(now: Snapshot) -> WorkerView:
    return WorkerView(
        worker=now.worker_id,
        role=now.role,
        state=now.state,
        host=now.host,
        pid=now.pid,
        since=now.since,
        version=now.version,
    )


def _worker(each: WorkerView, own: Snapshot) -> str:
    name = _text(each.worker)
    if each.worker == own.worker_id and each.pid in (0, own.pid):
        name += " (this one)"
    # An address that somebody else wrote is shown, but is no link.
    cells = (
        _text(each.role),
        _text(each.state),
        f"{_text(each.host)}{f', {each.pid}' if each.pid else ''}",
        _time(each.since),
        _text(each.priority),
        _text(each.http),
    )
    kind = ' class="leads"' if each.role == "leader" else ""
    return _row(name, cells, kind)


# -- lease, rates, state -------------------------------------------------


def _lease(moment: Moment) -> str:
    worker = moment.worker
    duration = worker.lease_duration
    facts = [("Lease", _seconds(duration))]
    if worker.role != "leader" or worker.last_renewal is None:
        session = "open" if worker.in_session else "lost"
        return _facts([*facts, ("Session with PostgreSQL", session)])
    age = max(0.0, moment.at - worker.last_renewal)
    left = max(0.0, min(1.0, 1.0 - age / duration)) if duration else 0.0
    health = "good" if left > 0.5 else "late" if left > 1 / 3 else "lost"
    facts.append(("Last renewal", f"{age:.1f} s ago ({health})"))
    bar = (
        f'<svg class="gauge {health}" viewBox="0 0 {WIDTH} 12" '
        f'preserveAspectRatio="none" role="img" '
        f'aria-label="{left:.0%} of the lease is left">'
        f'<rect class="empty" width="{WIDTH}" height="12"/>'
        f'<rect class="full" width="{WIDTH * left:.1f}" height="12"/></svg>'
    )
    return bar + _facts(facts)


def _rates(moment: Moment) -> str:
    return _chart("Events", moment.events) + _chart("Actions", moment.actions)


def _chart(name: str, rate: Rate) -> str:
    top = max(rate.most, 1.0)
    step = WIDTH / max(1, len(rate.samples) - 1)
    points = " ".join(
        f"{at * step:.1f},{HEIGHT - 1 - value / top * (HEIGHT - 2):.1f}"
        for at, value in enumerate(rate.samples)
    )
    return (
        f"<figure><figcaption>{name} per second: "
        f"<strong>{rate.now:.1f}</strong></figcaption>"
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none" role="img" '
        f'aria-label="{name} per second, last two minutes: now '
        f'{rate.now:.1f}, at most {rate.most:.1f}">'
        f'<polyline points="{points}"/></svg></figure>'
    )


def _state(worker: Snapshot) -> str:
    if worker.retained is None and worker.pending is None:
        return "<p>The state of the rules is not kept.</p>"
    return _facts(
        [
            ("Retained events", _number(worker.retained)),
            ("Pending matches", _number(worker.pending)),
            ("Journal behind", _seconds(worker.behind)),
        ]
    )


# -- terms ---------------------------------------------------------------


def _lanes(moment: Moment) -> str:
    """One line a worker, with a bar for each of its terms.

    For the eye alone: the table below it has the same in words.
    """
    terms = moment.cluster.terms[:MOST_TERMS]
    if not terms:
        return "<p>No history is kept, or none is known.</p>"
    start = min(term.began for term in terms)
    span = max(1.0, moment.at - start)
    lanes: dict[str, list[str]] = {}
    for term in terms:
        bars = lanes.setdefault(term.worker, [])
        left = (term.began - start) / span * TIMELINE
        end = moment.at if term.ended is None else term.ended
        width = max(2.0, (end - start) / span * TIMELINE - left)
        kind = "now" if term.ended is None else "past"
        bars.append(
            f'<rect class="{kind}" x="{left:.1f}" width="{width:.1f}" '
            'height="16"/>'
        )
    rows = "".join(
        f"<span>{_text(worker)}</span>"
        f'<svg viewBox="0 0 {TIMELINE} 16" preserveAspectRatio="none">'
        f'<rect class="empty" width="{TIMELINE}" height="16"/>'
        f"{''.join(bars)}</svg>"
        for worker, bars in list(lanes.items())[:MOST_LANES]
    )
    return (
        f'<div class="lanes" aria-hidden="true">{rows}</div>'
        f'<p class="span" aria-hidden="true"><span>{_time(start)}</span>'
        "<span>now</span></p>"
    )


def _terms(terms: tuple[TermView, ...]) -> str:
    heads = (
        "Term",
        "Worker",
        "Began",
        "Why it began",
        "Nobody led before it",
        "Ended",
        "Why it ended",
        "Events",
        "Actions",
    )
    rows = "".join(_term(each) for each in terms[:MOST_TERMS])
    return _table("The last terms, the newest one first", heads, rows)


def _term(each: TermView) -> str:
    cells = (
        _text(each.worker),
        _time(each.began),
        _text(each.why_began) or NOT_KNOWN,
        _seconds(each.gap),
        _time(each.ended) if each.ended else NOT_KNOWN,
        _text(each.why_ended) or NOT_KNOWN,
        _number(each.events),
        _number(each.actions),
    )
    return _row(str(int(each.term)), cells)


# -- parts ---------------------------------------------------------------


def _text(text: object) -> str:
    return html.escape(clean(text))


def _time(at: float | None) -> str:
    if not at:
        return NOT_KNOWN
    try:
        when = datetime.fromtimestamp(at, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return NOT_KNOWN
    exact = when.isoformat(timespec="milliseconds")
    return f'<time datetime="{exact}">{when:%Y-%m-%d %H:%M:%S} UTC</time>'


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return NOT_KNOWN
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _number(number: int | None) -> str:
    return NOT_KNOWN if number is None else f"{number:,}"


def _facts(facts: list[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in facts)
    return f"<dl>{rows}</dl>"


def _table(caption: str, heads: tuple[str, ...], rows: str) -> str:
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        f"<table><caption>{caption}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(head: str, cells: tuple[str, ...], kind: str = "") -> str:
    rest = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr{kind}><th scope="row">{head}</th>{rest}</tr>'


_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>ansible-rulebook HA: {title}</title>
<link rel="icon" href="icon.svg">
<link rel="stylesheet" href="page.css">
<script src="page.js" defer></script>
<noscript><meta http-equiv="refresh" content="5"></noscript>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<h1>ansible-rulebook HA</h1>
<p>Cluster <code>{uuid}</code>, as worker <strong>{worker}</strong> sees it
<span id="live" class="live">as of when the page was opened</span></p>
</header>
<main id="main" tabindex="-1">
<p id="news" class="unseen" role="status">{news}</p>
<section aria-labelledby="h-leader"><h2 id="h-leader">Leader</h2>
<div id="leader">{leader}</div></section>
<section aria-labelledby="h-lease"><h2 id="h-lease">Lease</h2>
<div id="lease">{lease}</div></section>
<section aria-labelledby="h-rates"><h2 id="h-rates">Events and actions</h2>
<div id="rates">{rates}</div></section>
<section aria-labelledby="h-state"><h2 id="h-state">State of the rules</h2>
<div id="state">{state}</div></section>
<section class="wide" aria-labelledby="h-workers">
<h2 id="h-workers">Workers</h2>
<div class="scroll" id="workers" role="region" aria-label="Table of workers"
 tabindex="0">{workers}</div></section>
<section class="wide" aria-labelledby="h-terms"><h2 id="h-terms">Terms</h2>
<div id="lanes">{lanes}</div>
<div class="scroll" id="terms" role="region" aria-label="Table of terms"
 tabindex="0">{terms}</div></section>
</main>
<footer><p>ansible-rulebook-ha {version}. This page only shows. The same for
programs: <a href="status">status</a>, <a href="history">history</a>,
<a href="metrics">metrics</a>.</p></footer>
</body>
</html>
"""
