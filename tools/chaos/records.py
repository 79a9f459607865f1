"""Reads what the workers and the driver of a run have written down.

Each item keeps the line that it was read from, so that whoever finds
something wrong in the history can show it. Times are nanoseconds of
``time.monotonic_ns()``.

A *life* is one process of a worker: ``w1~2`` is the second one of ``w1``. Its
rows are in ``w1~2.jsonl`` (see :mod:`.recording`), those of its playbooks in
``w1~2.plays.jsonl``, and the driver's own in ``driver.jsonl``:

========== ==========================================================
row        other keys
========== ==========================================================
run        seed, state, proxied, poll, lease, started: the first one
began      at: all workers are up, the faults begin
fault      number, fault, target, victim, seconds, mode, at
mended     number, at: it was put right
outage     at, until: no server could be reached
pause      life, at, until: the process stood still
started    life, at
exit       life, code, expected, at: it does nothing from then on
orphans    life, pids, at: its children outlived it
leaked     life, what, at: its log tells a secret
over       at: no fault comes any more
taken      source, id, event, group, again, at: handed out
acked      id, at: acknowledged by the source
stored     id, at: the server has this event
arrived    id, at: the server has this event in an inbox
processed  id, at: the server has what came of this event; of: in which
           transaction, if it was in an inbox
found      match, at: and this match
recorded   match, index, at: and knows that this action has completed
claimed    worker, term, at: and that this term has begun
committed  term, mark, at: a transaction of a leader's journal
pending    match, at: at the end it still waits for one of its actions
left       record, ids, at: at the end this is in the rules' memory
waiting    id, at: at the end this event is still in an inbox
========== ==========================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig.history import Record, Span

REFUSED = "refused"  # how an event ends that the engine must not have

DRIVER = "driver"
PLAYS = ".plays"
SUFFIX = ".jsonl"


class BadRecord(ValueError):
    """A record that no worker could have written."""


@dataclass(frozen=True)
class Line:
    """Where something stands."""

    file: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}: {self.text}"


@dataclass(frozen=True)
class Row:
    """One line of a record, understood."""

    life: str
    kind: str
    values: Mapping[str, Any]
    line: Line

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def at(self) -> int:
        """When it happened."""
        at: int = self.values["at"]
        return at

    def __str__(self) -> str:
        return str(self.line)


@dataclass(frozen=True)
class Office:
    """A time in which a life could act; both ends are included."""

    life: str
    start: int
    end: int
    line: Line

    def __contains__(self, at: int) -> bool:
        return self.start <= at <= self.end

    def __str__(self) -> str:
        return str(self.line)


@dataclass(frozen=True)
class Run:
    """One run of one action."""

    life: str
    number: int
    action: str
    index: int
    ids: tuple[str, ...]
    match: str | None
    begin: Row
    end: Row | None = None

    @property
    def begun(self) -> int:
        """When it began."""
        return self.begin.at

    @property
    def done(self) -> bool:
        """Whether it ended by itself, and well."""
        return self.end is not None and self.end["how"] == "done"

    @property
    def key(self) -> tuple[str, int, tuple[str, ...]]:
        """What is the same for each run of the same action."""
        return self.action, self.index, self.ids

    @property
    def rows(self) -> tuple[Row, ...]:
        """Its lines, those that there are."""
        return (self.begin,) if self.end is None else (self.begin, self.end)


@dataclass(frozen=True)
class Post:
    """One event that was given to an engine."""

    life: str
    id: str
    begin: Row
    end: Row | None = None

    @property
    def at(self) -> int:
        """When that began."""
        return self.begin.at

    @property
    def was_refused(self) -> bool:
        """Whether it did not go in, since the term was over by then."""
        return self.end is not None and self.end["how"] == REFUSED


@dataclass(frozen=True)
class Play:
    """What one playbook's child wrote about itself."""

    life: str
    id: str
    first: Row
    last: Row

    @property
    def done(self) -> bool:
        """Whether it came to its end."""
        return bool(self.last["state"] == "end")


@dataclass(frozen=True)
class Fault:
    """One fault, and when it was put right."""

    number: int
    kind: str
    target: str
    victim: str | None
    row: Row
    mended: Row | None

    @property
    def at(self) -> int:
        """When it was done."""
        return self.row.at


@dataclass(frozen=True)
class History:
    """All that was written down in one run."""

    seed: int = 0
    state: bool = False
    proxied: bool = False
    poll: float = 1.0  # seconds
    lease: float = 3.0  # seconds
    began: int | None = None
    over: int | None = None
    offices: tuple[Office, ...] = ()
    points: tuple[Row, ...] = ()
    roles: tuple[Row, ...] = ()
    neither: tuple[Row, ...] = ()
    posts: tuple[Post, ...] = ()
    runs: tuple[Run, ...] = ()
    plays: tuple[Play, ...] = ()
    errors: tuple[Row, ...] = ()
    faults: tuple[Fault, ...] = ()
    outages: tuple[Row, ...] = ()
    pauses: tuple[Row, ...] = ()
    blocks: tuple[Row, ...] = ()
    started: tuple[Row, ...] = ()
    exits: tuple[Row, ...] = ()
    orphans: tuple[Row, ...] = ()
    leaks: tuple[Row, ...] = ()
    taken: tuple[Row, ...] = ()
    acked: tuple[Row, ...] = ()
    stored: tuple[Row, ...] = ()
    arrived: tuple[Row, ...] = ()
    processed: tuple[Row, ...] = ()
    found: tuple[Row, ...] = ()
    recorded: tuple[Row, ...] = ()
    journal: tuple[Row, ...] = ()  # terms and transactions
    pending: tuple[Row, ...] = ()
    left: tuple[Row, ...] = ()
    waiting: tuple[Row, ...] = ()
    lives: tuple[str, ...] = field(default=())


def parse(texts: Mapping[str, str]) -> History:
    """Understand the records: file names without suffix, and contents.

    A last line that a kill cut short is left out.

    :raises BadRecord: for a line that nobody could have written.
    """
    rows = {name: _rows(name, text) for name, text in texts.items()}
    driver = rows.pop(DRIVER, [])
    plays = {
        name[: -len(PLAYS)]: rows.pop(name)
        for name in list(rows)
        if name.endswith(PLAYS)
    }
    every = [row for name in rows for row in rows[name]]
    about: dict[str, Any] = {}
    for row in driver:
        if row.kind == "run":
            about.update(row.values)

    def of(kind: str, source: Iterable[Row] = every) -> tuple[Row, ...]:
        found = [row for row in source if row.kind == kind]
        return tuple(sorted(found, key=lambda row: row.at))

    def first(kind: str) -> int | None:
        found = of(kind, driver)
        return found[0].at if found else None

    return History(
        seed=about.get("seed", 0),
        state=about.get("state", False),
        proxied=about.get("proxied", False),
        poll=about.get("poll", 1.0),
        lease=about.get("lease", 3.0),
        began=first("began"),
        over=first("over"),
        offices=tuple(sorted(_offices(every), key=lambda each: each.start)),
        points=of("point"),
        roles=of("role"),
        neither=of("neither"),
        posts=tuple(each for name in rows for each in _posts(rows[name])),
        runs=tuple(each for name in rows for each in _runs(rows[name])),
        plays=tuple(
            each for name in plays for each in _plays(name, plays[name])
        ),
        errors=of("error"),
        faults=_faults(of("fault", driver), of("mended", driver)),
        outages=of("outage", driver),
        pauses=of("pause", driver),
        blocks=of("blocking"),
        started=of("started", driver),
        exits=of("exit", driver),
        orphans=of("orphans", driver),
        leaks=of("leaked", driver),
        taken=of("taken", driver),
        acked=of("acked", driver),
        stored=of("stored", driver),
        arrived=of("arrived", driver),
        processed=of("processed", driver),
        found=of("found", driver),
        recorded=of("recorded", driver),
        journal=tuple(
            row for row in driver if row.kind in ("claimed", "committed")
        ),
        pending=of("pending", driver),
        left=of("left", driver),
        waiting=of("waiting", driver),
        lives=tuple(rows),
    )


def read(folder: Path) -> History:
    """Understand the records in a folder, also while they are written."""
    return parse(
        {
            path.name[: -len(SUFFIX)]: path.read_text("utf-8", "replace")
            for path in sorted(folder.glob(f"*{SUFFIX}"))
        }
    )


def as_records(history: History) -> list[Record]:
    """The offices as rig.history takes them: one record for each life."""
    lives = sorted({office.life for office in history.offices})
    return [
        Record(
            life,
            spans=tuple(
                Span(life, office.start, office.end)
                for office in history.offices
                if office.life == life
            ),
        )
        for life in lives
    ]


def _rows(name: str, text: str) -> list[Row]:
    found: list[Row] = []
    lines = text.split("\n")
    for number, raw in enumerate(lines, 1):
        # A kill between two writes may leave a hole.
        shown = raw.strip(" \0")
        if not shown:
            continue
        try:
            values = json.loads(shown)
            kind = values["kind"]
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise BadRecord(f"{name}{SUFFIX}:{number}: {error}") from error
        line = Line(f"{name}{SUFFIX}", number, shown)
        found.append(Row(name, kind, values, line))
    return found


def _offices(rows: Iterable[Row]) -> list[Office]:
    found = []
    for row in rows:
        if row.kind != "lead":
            continue
        if row["end"] < row["start"]:
            raise BadRecord(f"{row}: ends before it starts")
        found.append(Office(row.life, row["start"], row["end"], row.line))
    return found


def _numbered(rows: Iterable[Row], kind: str) -> dict[int, Row]:
    return {row["run"]: row for row in rows if row.kind == kind}


def _runs(rows: list[Row]) -> list[Run]:
    ends = _numbered(rows, "end")
    return [
        Run(
            row.life,
            number,
            row["action"],
            row["index"],
            tuple(row["ids"]),
            row["match"],
            row,
            ends.get(number),
        )
        for number, row in _numbered(rows, "begin").items()
    ]


def _posts(rows: list[Row]) -> list[Post]:
    found: list[Post] = []
    begun: dict[str, Row] = {}
    for row in rows:
        if row.kind == "post":
            begun[row["id"]] = row
        elif row.kind == "posted":
            begin = begun.pop(row["id"], None)
            if begin is None:
                raise BadRecord(f"{row}: was never begun")
            found.append(Post(row.life, row["id"], begin, row))
    found += [Post(row.life, name, row) for name, row in begun.items()]
    return found


def _plays(life: str, rows: list[Row]) -> list[Play]:
    ends: dict[tuple[str, int], tuple[Row, Row]] = {}
    for row in rows:
        child = row["id"], row["pid"]
        first, _ = ends.get(child, (row, row))
        ends[child] = first, row
    return [
        Play(life, name, first, last)
        for (name, _), (first, last) in ends.items()
    ]


def _faults(faults: Iterable[Row], mended: Iterable[Row]) -> tuple[Fault, ...]:
    rights = {row["number"]: row for row in mended}
    return tuple(
        Fault(
            row["number"],
            row["fault"],
            row["target"],
            row["victim"],
            row,
            rights.get(row["number"]),
        )
        for row in faults
    )
