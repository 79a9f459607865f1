"""Finds in a history what must not be: the invariants, as plain functions.

Each rule takes a :class:`~.records.History` and the :class:`Limits`, and gives
:class:`Violation` objects with the lines that show it. No rule trusts what a
worker says about its own right to act where somebody else's record can tell:
an action beside another worker's time in office is one, whatever its own
worker thought.

What a rule promises depends on the mode. Without state, what was in flight at
a fault may be lost, so :func:`lost_events` is silent; all others hold.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Callable, Optional, TypeVar, Union

from rig.history import NANO, overlaps

from .records import Fault, History, Office, Play, Row, Run, as_records
from .rulebook import POISON, POSTED
from .schedule import KINDS

SECOND = 1_000_000_000  # ns
EXIT_FENCED = 75  # a worker that cannot be demoted in time ends so
MOST_LINES = 8  # of one violation
ACTION = "action on a non-leader"
EVENT = "event on a non-leader"
THREE = 3  # actions of the rule that has several
# Longer without a true answer (ns), and it may have led another time since.
ONE_LEAD = SECOND

Shown = Union[Row, Office]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Limits:
    """How long things may take; seconds.

    :param slack: on top of every bound that depends on the machine.
    :param blur: for how long a worker that may not act any more may still
        begin something while nobody else leads: nothing is checked and done
        in the same instant.
    :param overrun: how long an action that began in time may go on beside
        another leader; None for the third of the lease that a demotion has.
    :param stall: how long a leader may ask for no event.
    :param latency: how much later than others a worker may hear from the
        server, where there are proxies in between. Where the server takes
        the lock away by itself, the next worker may lead for so long before
        the last one knows.
    :param fencing: whether a worker may end itself because it could not
        demote in time. It is meant to, but has no need to on a machine that
        is not too slow for its lease.
    """

    slack: float = 1.0
    blur: float = 0.1
    overrun: float | None = None
    stall: float = 12.0
    latency: float = 0.1
    fencing: bool = False

    def longest_overrun(self, lease: float) -> float:
        """Seconds, for this lease."""
        return lease / 3 if self.overrun is None else self.overrun


@dataclass(frozen=True)
class Violation:
    """Something that must not be, and the lines that show it."""

    rule: str
    what: str
    at: int  # ns
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = "".join(f"\n    {line}" for line in self.lines)
        return f"{self.rule}: {self.what}{shown}"


@dataclass(frozen=True)
class Lead:
    """A time in which a life led, announced, without a break."""

    life: str
    start: int
    end: int
    role: Row  # that it was told so
    office: Office


@dataclass(frozen=True)
class Overrun:
    """An action that went on beside another leader."""

    activity: Run | Play
    office: Office
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a fault has led to.

    :param takeover: seconds until the next term was announced, from the
        fault, or from when a server could be reached again; None if the
        leader stayed.
    :param leaderless: seconds, the longest time that nobody led.
    """

    fault: Fault
    takeover: float | None
    leaderless: float


@dataclass
class Verdict:
    """All that was found in one history."""

    violations: list[Violation]
    outcomes: list[Outcome]
    overruns: list[Overrun]
    counts: dict[str, int] = field(default_factory=dict)


def check(history: History, limits: Limits | None = None) -> Verdict:
    """Apply every rule."""
    limits = limits or Limits()
    history = replace(history, offices=tuple(_offices_that_count(history)))
    found = [
        violation for rule in RULES for violation in rule(history, limits)
    ]
    return Verdict(
        sorted(found, key=lambda violation: violation.at),
        outcomes(history),
        overruns(history),
        counts(history),
    )


# -- who may act ---------------------------------------------------------


def _offices_that_count(history: History) -> Iterator[Office]:
    """All of them, but for those of which nothing came, beside another one.

    Where there are two servers, two workers can have the lock, one of each.
    With state only one of them can begin a term, since the other one's would
    not be on two nodes. So it is asked who did.
    """
    for office in history.offices:
        before = [each for each in history.faults if each.at <= office.end]
        if not (
            history.state and before and KINDS[before[-1].kind].two_primaries
        ):
            yield office
            continue
        deeds = [
            row.at
            for row in (
                *(row for row in history.roles if row["role"] == "leader"),
                *(run.begin for run in history.runs),
                *(post.begin for post in history.posts),
            )
            if row.life == office.life and row.at in office
        ]
        if deeds:
            yield replace(office, start=min(deeds))


def two_leaders(history: History, limits: Limits) -> Iterator[Violation]:
    """At no instant may two workers act."""
    for overlap in overlaps(as_records(history)):
        pair = [
            office
            for office in history.offices
            if office.life in (overlap.first, overlap.second)
            and overlap.start in office
        ]
        fault, unheard = _unheard(history, limits, overlap.start)
        began = max(_began(history, office) for office in pair)
        if fault <= began and overlap.end < began + unheard:
            continue
        yield _violation(
            history, "two leaders", str(overlap), overlap.start, pair
        )


def stray_actions(history: History, limits: Limits) -> Iterator[Violation]:
    """No action begins on a worker that does not lead."""
    for run in history.runs:
        what = f"{_name(run)} began on {run.life}"
        yield from _stray(history, limits, ACTION, what, run.life, run.begin)


def stray_events(history: History, limits: Limits) -> Iterator[Violation]:
    """No event goes into the engine of a worker that does not lead."""
    for post in history.posts:
        if post.was_refused:
            continue
        what = f"event {post.id} went into the engine of {post.life}"
        yield from _stray(history, limits, EVENT, what, post.life, post.begin)


def _stray(
    history: History,
    limits: Limits,
    rule: str,
    what: str,
    life: str,
    row: Row,
) -> Iterator[Violation]:
    at = _decided(history, limits, life, row)
    _, unheard = _unheard(history, limits, at)
    others = [
        office
        for office in _others(history, life, at)
        if at - _began(history, office) >= unheard
    ]
    if others:
        yield _violation(
            history,
            rule,
            f"{what} while {others[0].life} led",
            row.at,
            [row, others[0], *_own(history, life, row.at)],
        )
        return
    blur = round(limits.blur * SECOND)
    own = _own(history, life, at)
    spans = [(office.start, office.end) for office in own]
    spans += [(p.at, p.at) for p in history.points if p.life == life]
    if not row["leads"] and not any(
        start - blur <= at <= end + blur for start, end in spans
    ):
        yield _violation(
            history, rule, f"{what}, which did not lead", row.at, [row, *own]
        )


def _decided(history: History, limits: Limits, life: str, row: Row) -> int:
    """When a worker was told that it may do what it did.

    One that is stopped between its last look and the deed does it when it
    goes on. Without a fencing token nobody can prevent that.
    """
    looked: int | None = row["looked"]
    if looked is None:
        return row.at
    still = _standstill(history, life, looked, row.at)
    working = row.at - looked - still
    is_next = still > 0 and working <= round(limits.blur * SECOND)
    return looked if is_next else row.at


def long_overruns(history: History, limits: Limits) -> Iterator[Violation]:
    """An action that began in time does not go on beside another leader.

    Not for longer than it takes to end it, that is: where the server has
    taken the lock away by itself, somebody else leads at once.
    """
    most = limits.longest_overrun(history.lease)
    for overrun in overruns(history):
        if overrun.seconds > most:
            activity = overrun.activity
            yield _violation(
                history,
                ACTION,
                f"{_name(activity)} of {activity.life} went on for "
                f"{overrun.seconds:.3f} s while {overrun.office.life} led",
                overrun.office.start,
                [*_rows_of(activity), overrun.office],
            )


def overruns(history: History) -> list[Overrun]:
    """Actions that began in time and went on beside another leader.

    The time in which their process or its main loop stood still does not
    count: nothing is done in it. A playbook begins a while after its action,
    so its child may come up beside the next leader: it counts from when that
    one led.
    """
    found: list[Overrun] = []
    activities: list[Run | Play] = [*history.runs, *history.plays]
    for activity in activities:
        start, end = _extent(history, activity)
        beside = [
            office
            for office in history.offices
            if office.life != activity.life
            and office.start <= end
            and start <= office.end
        ]
        if not beside:
            continue
        if isinstance(activity, Run) and beside[0].start <= start:
            continue  # it did not begin in time: see stray_actions()
        since = beside[0].start
        still = 0
        if isinstance(activity, Run):  # a child is not paused with it
            still = _standstill(history, activity.life, since, end)
        seconds = (end - since - still) * NANO
        found.append(Overrun(activity, beside[0], seconds))
    return found


def _extent(history: History, activity: Run | Play) -> tuple[int, int]:
    if isinstance(activity, Play):
        return activity.first.at, activity.last.at
    if activity.end is not None:
        return activity.begun, activity.end.at
    # It ended with its process, or goes on.
    exits = [row.at for row in history.exits if row["life"] == activity.life]
    return activity.begun, max([activity.begun, *exits])


def _standstill(history: History, life: str, start: int, end: int) -> int:
    still = [
        (row.at, row["until"]) for row in history.pauses if row["life"] == life
    ]
    still += [
        (row.at, row.at + round(row["seconds"] * SECOND))
        for row in history.blocks
        if row.life == life
    ]
    # One fault comes at a time, so none of these overlap.
    return sum(max(0, min(end, b) - max(start, a)) for a, b in still)


def one_role(history: History, limits: Limits) -> Iterator[Violation]:
    """A worker is told that it leads, or that it follows."""
    for row in history.neither:
        told = "both roles" if row["leads"] else "no role"
        yield _violation(
            history,
            "not one role",
            f"{row.life} was told {told}",
            row.at,
            [row],
        )


def rising_terms(history: History, limits: Limits) -> Iterator[Violation]:
    """A worker's terms rise; with state, those of the whole cluster do."""
    led = sorted(
        (
            row
            for row in history.roles
            if row["role"] == "leader" and row["term"] is not None
        ),
        key=lambda row: _announced(history, limits, row),
    )
    everybody = [led]
    if not history.state:
        everybody = [
            [row for row in led if row.life == life] for life in history.lives
        ]
    for rows in everybody:
        for before, after in zip(rows, rows[1:]):
            if after["term"] <= before["term"]:
                yield _violation(
                    history,
                    "terms not rising",
                    f"{after.life} leads in term {after['term']}, after "
                    f"{before.life} in {before['term']}",
                    after.at,
                    [before, after],
                )


def _announced(history: History, limits: Limits, row: Row) -> int:
    """When a role was announced, at the latest.

    Who waits for it is told in a later turn of the loop. A process that was
    stopped in between tells it when it goes on.
    """
    blur = round(limits.blur * SECOND)
    stops = [
        pause.at
        for pause in history.pauses
        if pause["life"] == row.life
        and pause.at <= row.at <= pause["until"] + blur
    ]
    return min([row.at, *stops])


# -- what is done --------------------------------------------------------


def lost_events(history: History, limits: Limits) -> Iterator[Violation]:
    """With state, no event is lost that was acknowledged or stored."""
    if not history.state:
        return
    promised: dict[str, Row] = {}
    for row in _promises(history):
        promised.setdefault(row["id"], row)
    posts: dict[str, list[Row]] = defaultdict(list)
    for post in history.posts:
        posts[post.id].append(post.begin)
    first_taken = {row["id"]: row for row in reversed(history.taken)}
    members: dict[str, list[Row]] = defaultdict(list)
    for row in first_taken.values():
        if row["group"]:
            members[row["group"]].append(row)
    runs: dict[tuple[str, int, str], list[Run]] = defaultdict(list)
    for run in history.runs:
        for name in run.ids:
            about = first_taken.get(name)
            if run.action == "window" and about is not None:
                name = about["group"]  # it names one event of several
            runs[(run.action, run.index, name)].append(run)
    for name, promise in promised.items():
        taken = first_taken.get(name)
        if taken is None:
            continue
        for action, index, subject in _due(taken, members, promised):
            tries = runs[(action, index, subject)]
            if not any(run.done for run in tries):
                yield _violation(
                    history,
                    "event lost",
                    f"{name} was {promise.kind}, but {action} {index} of "
                    f"{subject} never ran to its end",
                    promise.at,
                    [
                        taken,
                        promise,
                        *posts[name],
                        *(row for run in tries for row in run.rows),
                    ],
                )


def _promises(history: History) -> tuple[Row, ...]:
    """What says that an event is not lost, whoever leads next."""
    return (*history.acked, *history.stored, *history.processed)


def matches_left(history: History, limits: Limits) -> Iterator[Violation]:
    """With state, no match is stored for ever."""
    for row in history.pending:
        tries = [run for run in history.runs if run.match == row["match"]]
        yield _violation(
            history,
            "match left",
            f"the match {row['match']} is stored, and nobody runs it",
            min([row.at, *(run.begun for run in tries)]),
            [row, *(each for run in tries for each in run.rows)],
        )


def early_consequences(
    history: History, limits: Limits
) -> Iterator[Violation]:
    """With state, nothing follows from what is not stored.

    The ledger has a row before its transaction is durable, so no clock has
    to be trusted: what follows from a row must not come before it.
    """
    if not history.state:
        return
    if not (history.found or history.processed or history.recorded):
        # Its server was gone at the end. Then nothing can be said of each.
        for each in (*history.acked, *(run.begin for run in history.runs)):
            what = "there is no ledger, so nothing is known to be durable"
            yield _violation(history, "no ledger", what, each.at, [each])
            break
        return
    began = history.began or 0
    found = _firsts((row["match"], row) for row in history.found)
    recorded = _firsts(
        ((row["match"], row["index"]), row) for row in history.recorded
    )
    processed = _firsts((row["id"], row) for row in history.processed)
    follows: list[tuple[str, Row, Row | None, tuple[Row, ...]]] = []
    for run in history.runs:
        what = f"{_name(run)} began on {run.life} before its match was stored"
        match = run.match or ""
        follows.append((what, run.begin, found.get(match), run.rows))
        if run.index:
            what = (
                f"{_name(run)} began on {run.life} before the end of the "
                "one that precedes it was stored"
            )
            known = recorded.get((match, run.index - 1))
            follows.append((what, run.begin, known, run.rows))
    arrived = _firsts((row["id"], row) for row in history.arrived)
    poisoned = _poisoned(history)
    for row in history.acked:
        name = row["id"]
        if name in poisoned:
            continue  # it was dropped, and its source told
        what = f"{name} was acknowledged before it was stored"
        cause = (arrived if _is_posted(name) else processed).get(name)
        follows.append((what, row, cause, (row,)))
    for what, row, cause, shown in follows:
        if row.at >= began and (cause is None or cause.at > row.at):
            proof = [] if cause is None else [cause]
            yield _violation(
                history,
                "not durable yet",
                what,
                row.at,
                [*shown, *proof],
            )


def repeated_events(history: History, limits: Limits) -> Iterator[Violation]:
    """With state, what came of an event is stored once."""
    processed = _firsts((row["id"], row) for row in history.processed)
    for row in history.processed:
        before = processed[row["id"]]
        if row is not before:
            yield _violation(
                history,
                "event processed again",
                f"what came of {row['id']} was stored twice",
                row.at,
                [
                    before,
                    row,
                    *(p.begin for p in history.posts if p.id == row["id"]),
                ],
            )


def inbox_promises(history: History, limits: Limits) -> Iterator[Violation]:
    """An inbox takes each event once, keeps their order, and gets empty."""
    arrived: dict[str, Row] = {}
    for row in history.arrived:
        name = row["id"]
        if name in arrived:
            what = f"{name} came into the inbox twice"
            yield _violation(
                history, "inbox", what, row.at, [arrived[name], row]
            )
        arrived.setdefault(name, row)
    # In the order of arrival, within a transaction, too: a statement that
    # takes several out does so in any.
    out = sorted(
        (
            row
            for row in history.processed
            if row["id"] in arrived.keys() - _poisoned(history)
        ),
        key=lambda row: (row["of"], arrived[row["id"]].at),
    )
    for before, after in zip(out, out[1:]):
        if arrived[after["id"]].at < arrived[before["id"]].at:
            yield _violation(
                history,
                "inbox",
                f"{after['id']} was processed after {before['id']}",
                after.at,
                [arrived[after["id"]], arrived[before["id"]], before, after],
            )
    for row in history.waiting:
        yield _violation(
            history,
            "inbox",
            f"{row['id']} is never taken out of the inbox",
            row.at,
            [row],
        )


def _poisoned(history: History) -> set[str]:
    """The events that cannot be stored."""
    return {row["id"] for row in history.taken if row["event"] == POISON}


def _is_posted(name: str) -> bool:
    return name.startswith(f"{POSTED}-")


def stale_writes(history: History, limits: Limits) -> Iterator[Violation]:
    """Only the last term writes, and no transaction is missing."""
    term: Row | None = None
    last: Row | None = None
    for row in history.journal:
        if row.kind == "claimed":
            if term is not None and row["term"] <= term["term"]:
                what = f"term {row['term']} began after {term['term']}"
                yield _violation(
                    history, "stale write", what, row.at, [term, row]
                )
            term = row
            continue
        if term is not None and row["term"] != term["term"]:
            what = f"term {row['term']} wrote in term {term['term']}"
            yield _violation(history, "stale write", what, row.at, [term, row])
        if last is not None and row["mark"] != last["mark"] + 1:
            what = f"transaction {row['mark']} came after {last['mark']}"
            yield _violation(history, "stale write", what, row.at, [last, row])
        last = row


def memory_left(history: History, limits: Limits) -> Iterator[Violation]:
    """What has matched, or never can, is not stored for ever.

    At the end only one half of a pair can still wait, for one that was lost
    on its way to the rules.
    """
    first_taken = {row["id"]: row for row in reversed(history.taken)}
    promised = {row["id"] for row in _promises(history)}
    members: dict[str, set[str]] = defaultdict(set)
    for row in first_taken.values():
        if row["group"]:
            members[row["group"]].add(row["id"])
    for row in history.left:
        halves = [first_taken.get(name) for name in row["ids"]]
        if row["record"] == "E" and any(
            half is not None
            and half["event"] in ("first", "second")
            and not members[half["group"]] <= promised
            for half in halves
        ):
            continue
        yield _violation(
            history,
            "memory left",
            f"{' '.join(row['ids']) or 'something'} is in the rules' memory "
            "for ever",
            max(
                [half.at for half in halves if half is not None],
                default=row.at,
            ),
            [row, *(half for half in halves if half is not None)],
        )


def _firsts(rows: Iterable[tuple[Key, Row]]) -> dict[Key, Row]:
    """The earliest row of each key."""
    found: dict[Key, Row] = {}
    for key, row in sorted(rows, key=lambda each: each[1].at):
        found.setdefault(key, row)
    return found


def _due(
    taken: Row, members: dict[str, list[Row]], promised: dict[str, Row]
) -> list[tuple[str, int, str]]:
    """The actions that an acknowledged event must have led to."""
    kind, name, group = taken["event"], taken["id"], taken["group"]
    if kind == "three":
        return [("three", index, name) for index in range(THREE)]
    if kind in ("first", "second"):
        pair = members[group]
        # The match takes both of them.
        complete = len(pair) == 2 and all(p["id"] in promised for p in pair)
        return [("two", 0, name)] if complete else []
    if kind == "window":
        return [("window", 0, group)]
    if kind == POISON:
        return []  # nobody can store it
    return [(kind, 0, name)]


def repeated_actions(history: History, limits: Limits) -> Iterator[Violation]:
    """What completed, and is known as such, does not run again.

    Nor does one worker run twice at a time what matched once.
    """
    recorded: dict[str, list[Row]] = defaultdict(list)
    for row in history.recorded:
        recorded[row["match"]].append(row)
    by_key: dict[tuple[str, int, tuple[str, ...]], list[Run]]
    by_key = defaultdict(list)
    for run in history.runs:
        for key in _repeatable(run):
            by_key[key].append(run)
    for tries in by_key.values():
        tries.sort(key=lambda run: run.begun)
        for number, again in enumerate(tries[1:], 1):
            at = _decided(history, limits, again.life, again.begin)
            for before in tries[:number]:
                known = recorded.get(before.match or "", [])
                why, proof = _repeats(history, before, again, at, known)
                if why:
                    yield _violation(
                        history,
                        "action run again",
                        f"{_name(again)} ran on {again.life} though "
                        f"{before.life} {why}",
                        again.begun,
                        [*before.rows, *proof, *again.rows],
                    )
                    break


def _repeatable(run: Run) -> list[tuple[str, int, tuple[str, ...]]]:
    """What must not be done twice.

    Windows that end at the same time are one match, but each is on its own:
    an event can open only one.
    """
    if run.action == "window":
        return [(run.action, run.index, (name,)) for name in run.ids]
    return [run.key]


def _repeats(
    history: History, before: Run, again: Run, at: int, recorded: list[Row]
) -> tuple[str, list[Row]]:
    """Why the second should not have begun, and what proves it.

    :param at: when it was decided that the second may.
    """
    end = None if before.end is None else before.end.at
    if not history.state:
        if before.done and end is not None and end < at:
            return "had completed it", []
    else:
        for row in recorded:
            of_it = row["index"] is None or row["index"] == before.index
            if of_it and row.at < at:
                return "had completed it, and that was recorded", [row]
    if before.life == again.life and (end is None or end >= again.begun):
        return "was still at it", []
    return "", []


def disordered_actions(
    history: History, limits: Limits
) -> Iterator[Violation]:
    """A rule's second action begins when its first has been done."""
    done: dict[tuple[str, int, tuple[str, ...]], int] = {}
    for run in history.runs:
        if run.done and run.end is not None:
            at = done.get(run.key, run.end.at)
            done[run.key] = min(at, run.end.at)
    for run in history.runs:
        if not run.index:
            continue
        before = done.get((run.action, run.index - 1, run.ids))
        if before is None or before > run.begun:
            yield _violation(
                history,
                "actions out of order",
                f"{_name(run)} began on {run.life} before the one that "
                "precedes it was done",
                run.begun,
                [run.begin],
            )


# -- how long it takes ---------------------------------------------------


def no_leader(history: History, limits: Limits) -> Iterator[Violation]:
    """After any single fault there is a leader within L + P.

    The time in which no server could be reached does not count.
    """
    most = history.lease + history.poll + limits.slack
    led = leads(history)
    for start, end in _leaderless(history, led, history.began, history.over):
        seconds = (end - start) * NANO
        if seconds > most:
            near: list[Shown] = [
                row
                for row in (*history.roles, *history.outages, *history.exits)
                if start - SECOND <= row.at <= end + SECOND
            ]
            yield _violation(
                history,
                "no leader",
                f"nobody led for {seconds:.3f} s, which is more than "
                f"{most:g} s",
                start,
                near,
            )


def stalled_sources(history: History, limits: Limits) -> Iterator[Violation]:
    """A leader's sources go on."""
    most = round(limits.stall * SECOND)
    sources = sorted({row["source"] for row in history.taken})
    last = history.over
    for lead in leads(history):
        end = lead.end if last is None else min(lead.end, last)
        for source in sources:
            asked = [
                row.at
                for row in history.taken
                if row["source"] == source and lead.start <= row.at <= end
            ]
            marks = [lead.start, *asked, end]
            for before, after in zip(marks, marks[1:]):
                if after - before > most:
                    yield _violation(
                        history,
                        "source stalled",
                        f"the source {source} asked for nothing for "
                        f"{(after - before) * NANO:.1f} s while {lead.life} "
                        "led",
                        before,
                        [lead.role, lead.office],
                    )


def leads(history: History) -> list[Lead]:
    """When who led, promotion excluded; in order of the begin."""
    found: list[Lead] = []
    for office in history.offices:
        told = [
            row
            for row in history.roles
            if row.life == office.life and row.at <= office.end
        ]
        # What it was told in an earlier term is over.
        over = [
            row.at
            for row in told
            if row["role"] == "follower" and row.at <= office.start
        ]
        since = max(over, default=-1)
        led = [
            row for row in told if row["role"] == "leader" and row.at > since
        ]
        if not led:
            continue
        start = max(office.start, led[0].at)
        found.append(Lead(office.life, start, office.end, led[0], office))
    return sorted(found, key=lambda lead: lead.start)


def _leaderless(
    history: History, led: list[Lead], start: int | None, end: int | None
) -> Iterator[tuple[int, int]]:
    """When nobody led though a server could be reached."""
    if start is None or end is None:
        return
    marks = [(lead.start, lead.end) for lead in led]
    marks += [(row.at, row["until"]) for row in history.outages]
    reached = start
    for begin, over in sorted([*marks, (end, end)]):
        if begin >= end:
            begin = end
        if begin > reached:
            yield reached, begin
        reached = max(reached, over)
        if reached >= end:
            return


def outcomes(history: History) -> list[Outcome]:
    """What each fault has led to, up to the next one."""
    found: list[Outcome] = []
    led = leads(history)
    terms = [row for row in history.roles if row["role"] == "leader"]
    begins = [row.at for row in terms]
    ends = [fault.at for fault in history.faults[1:]]
    for fault, end in zip(history.faults, [*ends, history.over]):
        if end is None:
            continue
        backs = [
            row["until"] for row in history.outages if fault.at <= row.at < end
        ]
        place = bisect.bisect_right(begins, fault.at)
        takeover: Optional[float] = None
        if place < len(begins) and begins[place] < end:
            since = max([fault.at, *backs])
            takeover = max(0.0, (begins[place] - since) * NANO)
        gaps = _leaderless(history, led, fault.at, end)
        longest = max((b - a for a, b in gaps), default=0) * NANO
        found.append(Outcome(fault, takeover, longest))
    return found


# -- the processes -------------------------------------------------------


def sudden_deaths(history: History, limits: Limits) -> Iterator[Violation]:
    """A worker ends only if it was made to, and with the right code."""
    for row in history.exits:
        if row["code"] in row["expected"]:
            continue
        rule, what = "unexpected exit", f"ended with exit code {row['code']}"
        if row["code"] == EXIT_FENCED:
            if limits.fencing:
                continue
            rule, what = "demotion too long", "ended itself for that"
        yield _violation(history, rule, f"{row['life']} {what}", row.at, [row])


def orphans(history: History, limits: Limits) -> Iterator[Violation]:
    """What a worker has started does not outlive it."""
    for row in history.orphans:
        yield _violation(
            history,
            "orphans",
            f"children of {row['life']} live on: {row['pids']}",
            row.at,
            [row],
        )


def leaks(history: History, limits: Limits) -> Iterator[Violation]:
    """No log tells a password, and none has a traceback."""
    for row in history.leaks:
        yield _violation(
            history,
            "log tells too much",
            f"{row['what']} in the log of {row['life']}",
            row.at,
            [row],
        )


def broken_records(history: History, limits: Limits) -> Iterator[Violation]:
    """A record that broke off proves nothing."""
    for row in history.errors:
        yield _violation(
            history, "record broken", str(row["text"]), row.at, [row]
        )


RULES: tuple[Callable[[History, Limits], Iterator[Violation]], ...] = (
    two_leaders,
    stray_actions,
    stray_events,
    long_overruns,
    one_role,
    rising_terms,
    lost_events,
    matches_left,
    early_consequences,
    repeated_events,
    inbox_promises,
    stale_writes,
    memory_left,
    repeated_actions,
    disordered_actions,
    no_leader,
    stalled_sources,
    sudden_deaths,
    orphans,
    leaks,
    broken_records,
)


def counts(history: History) -> dict[str, int]:
    """How much there was to check: a run without leaders finds nothing."""
    return {
        "lives": len(history.lives),
        "terms": sum(row["role"] == "leader" for row in history.roles),
        "events handed out": len({row["id"] for row in history.taken}),
        "events in an engine": len(history.posts),
        "events acknowledged": len(history.acked),
        "actions begun": len(history.runs),
        "actions done": sum(run.done for run in history.runs),
        "actions cut short": sum(
            run.end is None or run.end["how"] == "cancelled"
            for run in history.runs
        ),
        "playbooks seen": len(history.plays),
        "playbooks cut short": sum(not play.done for play in history.plays),
        **_of_the_ledger(history),
    }


def _of_the_ledger(history: History) -> dict[str, int]:
    if not history.state:
        return {}
    transactions = [row for row in history.journal if row.kind == "committed"]
    return {
        "transactions": len(transactions),
        "events posted": len(history.arrived),
        "events stored": len({row["id"] for row in history.processed}),
        "matches stored": len({row["match"] for row in history.found}),
        "outcomes stored": len(history.recorded),
    }


# -- parts of it ---------------------------------------------------------


def _unheard(history: History, limits: Limits, at: int) -> tuple[int, int]:
    """For how long (ns) a worker may not know that it lost the lock.

    And since which fault; see :attr:`Limits.latency`.
    """
    before = [fault for fault in history.faults if fault.at <= at]
    if history.proxied and before and KINDS[before[-1].kind].takes_the_lock:
        return before[-1].at, round(limits.latency * SECOND)
    return 0, 0


def _began(history: History, office: Office) -> int:
    """When the lead began (ns) that this is a part of.

    On a busy machine two true answers are not always close together, so one
    lead may be several times in office.
    """
    told = (
        row.at
        for row in history.roles
        if row.life == office.life and row["role"] == "follower"
    )
    after = max((at for at in told if at <= office.start), default=-1)
    began = office.start
    for each in sorted(history.offices, key=lambda each: -each.start):
        if each.life == office.life and after < each.start < began:
            if began - each.end > ONE_LEAD:
                break
            began = each.start
    return began


def _others(history: History, life: str, at: int) -> list[Office]:
    return [
        office
        for office in history.offices
        if office.life != life and at in office
    ]


def _own(history: History, life: str, at: int) -> list[Office]:
    """The last time in office that began before, and the next one."""
    own = [office for office in history.offices if office.life == life]
    place = bisect.bisect_right([office.start for office in own], at)
    return own[max(0, place - 1) : place + 1]


def _name(activity: Run | Play) -> str:
    if isinstance(activity, Play):
        return f"the playbook of {activity.id}"
    return f"{activity.action} {activity.index} of {' '.join(activity.ids)}"


def _rows_of(activity: Run | Play) -> tuple[Row, ...]:
    if isinstance(activity, Play):
        return activity.first, activity.last
    return activity.rows


def _violation(
    history: History,
    rule: str,
    what: str,
    at: int,
    shown: Iterable[Shown],
) -> Violation:
    """With the fault that came before it, which is where to look."""
    lines = [str(each) for each in list(shown)[: MOST_LINES - 1]]
    before = [fault for fault in history.faults if fault.at <= at]
    if before:
        lines.append(str(before[-1].row))
    return Violation(rule, what, at, tuple(lines))
