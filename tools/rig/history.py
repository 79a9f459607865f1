"""What the contenders' records say: who led when, overlaps, gaps.

A record is a file of JSON lines, one object each, told apart by ``kind``:

=========  ===============================================================
kind       other keys
=========  ===============================================================
contender  name, pid, started: who wrote this; the first line
lead       start, end, samples: from the first to the last true answer
point      at: one true answer with none beside it that would make a span
role       role, at: leader, follower or shutdown
callback   name, at, leads: promotion or demotion, and is_leader() in it
command    text, at: a line from standard input, when it was taken up
error      text, at: what ended the contender
slow       answers: how many true answers were too slow to count
exit       at: the contender ended in order
=========  ===============================================================

Times are nanoseconds of the machine's monotonic clock, the same for all
processes, so records of several contenders compare directly. A ``lead`` span
claims no instant that was not between two true answers close together; thus
an overlap of two spans is never an artefact of the record, while a lead that
is shorter than a sample or two may be missing from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NANO = 1e-9  # seconds


@dataclass(frozen=True)
class Span:
    """A time in which one contender led; both ends are included."""

    contender: str
    start: int  # ns
    end: int  # ns

    @property
    def seconds(self) -> float:
        return (self.end - self.start) * NANO


@dataclass(frozen=True)
class Change:
    """An instant at which something happened to a contender."""

    contender: str
    at: int  # ns
    what: str


@dataclass(frozen=True)
class Record:
    """All that one contender wrote."""

    contender: str
    pid: int | None = None
    spans: tuple[Span, ...] = ()
    points: tuple[int, ...] = ()
    roles: tuple[Change, ...] = ()
    callbacks: tuple[Change, ...] = ()
    commands: tuple[Change, ...] = ()
    errors: tuple[Change, ...] = ()
    exited: int | None = None


@dataclass(frozen=True)
class Overlap:
    """Two contenders led at once from `start` to `end`."""

    first: str
    second: str
    start: int  # ns
    end: int  # ns

    @property
    def seconds(self) -> float:
        return (self.end - self.start) * NANO

    def __str__(self) -> str:
        return (
            f"{self.first} and {self.second} both led for"
            f" {self.seconds * 1e3:.3f} ms from {self.start * NANO:.6f} s"
        )


@dataclass(frozen=True)
class Gap:
    """Nobody led from `start` to `end`; who led before and after."""

    before: str
    after: str
    start: int  # ns
    end: int  # ns

    @property
    def seconds(self) -> float:
        return (self.end - self.start) * NANO

    def __str__(self) -> str:
        return (
            f"nobody led for {self.seconds * 1e3:.3f} ms between"
            f" {self.before} and {self.after}"
        )


class BadRecord(ValueError):
    """A record that no contender could have written."""


def parse_record(text: str, *, name: str = "?") -> Record:
    """Read a record; a last line cut short by a kill is left out."""
    contender, pid, exited = name, None, None
    rows: dict[str, list[dict[str, Any]]] = {}
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        line = line.strip(" \0")
        if not line:
            continue
        try:
            row = json.loads(line)
        except ValueError as exc:
            if number == len(lines):
                break
            raise BadRecord(f"{name}, line {number}: {exc}") from exc
        kind = row["kind"]
        if kind == "contender":
            contender, pid = row["name"], row["pid"]
        elif kind == "exit":
            exited = row["at"]
        else:
            rows.setdefault(kind, []).append(row)

    def changes(kind: str, key: str) -> tuple[Change, ...]:
        return tuple(
            Change(contender, row["at"], row[key])
            for row in rows.get(kind, ())
        )

    spans = tuple(
        Span(contender, row["start"], row["end"])
        for row in rows.get("lead", ())
    )
    for span in spans:
        if span.end < span.start:
            raise BadRecord(f"{contender}: {span} ends before it starts")
    return Record(
        contender,
        pid,
        spans,
        tuple(row["at"] for row in rows.get("point", ())),
        changes("role", "role"),
        changes("callback", "name"),
        changes("command", "text"),
        changes("error", "text"),
        exited,
    )


def read_record(path: str | Path) -> Record:
    """Read the record in a file, also while it is being written."""
    path = Path(path)
    return parse_record(path.read_text("utf-8"), name=path.stem)


def leading(records: Iterable[Record]) -> list[Span]:
    """Everybody's spans, in the order in which they began."""
    spans = [span for record in records for span in record.spans]
    return sorted(spans, key=lambda span: (span.start, span.end))


def overlaps(records: Iterable[Record]) -> list[Overlap]:
    """Each pair of spans of different records that share an instant.

    Sharing one instant is enough: both ends of a span were true answers.
    Records are told apart, not names: a process that was replaced by one of
    the same name and leads all the same is found.
    """
    found: list[Overlap] = []
    owned = [
        (span, owner)
        for owner, record in enumerate(records)
        for span in record.spans
    ]
    running: list[tuple[Span, int]] = []  # not over when `span` begins
    for span, owner in sorted(owned, key=lambda pair: pair[0].start):
        running = [pair for pair in running if pair[0].end >= span.start]
        found.extend(
            Overlap(
                other.contender,
                span.contender,
                span.start,
                min(other.end, span.end),
            )
            for other, other_owner in running
            if other_owner != owner
        )
        running.append((span, owner))
    return found


def terms(records: Iterable[Record], *, within: float = 0.25) -> list[Span]:
    """The spans, those of one contender joined where nothing is between.

    A contender that got no processor for a while has two spans for one term.
    They are joined when at most `within` seconds lie between them and nobody
    else led there. For reports only: a joined span claims what no sample saw.
    """
    joined: list[Span] = []
    for span in leading(records):
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.contender == span.contender
            and (span.start - last.end) * NANO <= within
        ):
            end = max(last.end, span.end)
            joined[-1] = Span(last.contender, last.start, end)
        else:
            joined.append(span)
    return joined


def gaps(records: Iterable[Record], *, longer: float = 0.0) -> list[Gap]:
    """The times between the first and the last span in which nobody led.

    Those of up to `longer` seconds are left out.
    """
    found: list[Gap] = []
    last: Span | None = None  # of those so far, the one that ends last
    for span in leading(records):
        if last is not None and (span.start - last.end) * NANO > longer:
            found.append(
                Gap(last.contender, span.contender, last.end, span.start)
            )
        if last is None or span.end > last.end:
            last = span
    return found


def takeover(
    records: Iterable[Record], since: int, *, without: str
) -> float | None:
    """Seconds from `since` until anybody but `without` answered true."""
    starts = [
        at
        for record in records
        if record.contender != without
        for at in (*(span.start for span in record.spans), *record.points)
        if at >= since
    ]
    return (min(starts) - since) * NANO if starts else None


def assert_one_leader(records: Iterable[Record]) -> None:
    """Raise AssertionError with the figures if two ever led at once."""
    found = overlaps(records)
    if found:
        shown = "\n".join(str(overlap) for overlap in found[:10])
        raise AssertionError(f"{len(found)} overlaps:\n{shown}")
