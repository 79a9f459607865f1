"""Whether README and documentation give the figures that were measured.

A comment before a paragraph or a table names figures of ``make bench``: the
part, and on a line each the group (if there is one), the name, and which
values of it have to be seen there::

    .. measured: state
       nothing retained | with state: burst | median
       goal | times --ha-state off

Groups and names are patterns of a shell. A number is that value if it is the
value rounded, in its unit or in thousands or thousandths of it, and not
rounded away by more than a tenth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bench.report import Figure, Result, with_unit

MARK = re.compile(r"^( *)\.\. measured: (\S+)$")
NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?")
STATISTICS = {"min": "least", "median": "median", "max": "most"}
GOAL = "goal"
NEVER = "never"  # what never came in the time that was waited
SCALES = (1.0, 1e3, 1e6, 1e-3)  # seconds as ms, as µs; ms as seconds
COARSEST = 0.1  # of the value


@dataclass(frozen=True)
class Mark:
    """What a paragraph or table has to show.

    :param where: page and line.
    :param wanted: the fields of each line.
    :param block: the text of the paragraph or table.
    """

    where: str
    part: str
    wanted: tuple[tuple[str, ...], ...]
    block: str


def marks_of(page: str, text: str) -> Iterator[Mark]:
    """All marks of a page. Several may stand before one block."""
    lines = [*text.split("\n"), ""]
    for number, line in enumerate(lines):
        found = MARK.match(line)
        if found is None:
            continue
        inner = f"{found[1]}   "
        at = end_of_comment(lines, number)
        wanted = lines[number + 1 : at]
        while not lines[at].strip() or lines[at].startswith(
            f"{found[1]}.. measured:"
        ):
            at = end_of_comment(lines, at)
        end = lines.index("", at)
        yield Mark(
            f"{page}:{number + 1}",
            found[2],
            tuple(tuple(_fields(each, inner)) for each in wanted),
            "\n".join(lines[at:end]),
        )


def end_of_comment(lines: list[str], start: int) -> int:
    """The first line that is not of the comment that begins here."""
    depth = len(lines[start]) - len(lines[start].lstrip())
    at = start + 1
    while at < len(lines) and lines[at].startswith(" " * (depth + 3)):
        at += 1
    return at


def _fields(line: str, inner: str) -> Iterator[str]:
    for field in line[len(inner) :].split(" | "):
        yield field.strip()


def faults_of(mark: Mark, results: Mapping[str, Result]) -> Iterator[str]:
    """What the block does not show, or no part has measured."""
    if mark.part not in results:
        yield f"{mark.where}: nothing was measured by part {mark.part}"
        return
    for fields in mark.wanted:
        values = list(_values(fields, results[mark.part]))
        if not values:
            yield f"{mark.where}: no such figure: {' | '.join(fields)}"
        for name, value, unit in values:
            if not shows(mark.block, value):
                yield (
                    f"{mark.where}: {name} is {_said(value, unit)}, "
                    "which is not there"
                )


def _values(
    fields: tuple[str, ...], result: Result
) -> Iterator[tuple[str, float, str]]:
    if fields[0] == GOAL:
        for goal in result.goals:
            if fnmatchcase(goal.name, fields[1]):
                yield goal.name, goal.value, goal.unit
        return
    *group, name, statistics = fields
    for figure in result.figures:
        if fnmatchcase(figure.group, "".join(group)) and fnmatchcase(
            figure.name, name
        ):
            for statistic in statistics.split():
                shown = f"{figure.group} {figure.name}, {statistic}".strip()
                yield shown, _value(figure, statistic), figure.unit


def _value(figure: Figure, statistic: str) -> float:
    value: float = getattr(figure, STATISTICS[statistic])
    return value


def _said(value: float, unit: str) -> str:
    return with_unit(value, unit) if math.isfinite(value) else NEVER


def shows(block: str, value: float) -> bool:
    """Whether the value is there, rounded by whoever wrote it."""
    if math.isinf(value):
        return NEVER in block
    return any(
        _is(number, abs(value) * scale)
        for number in NUMBER.findall(block)
        for scale in SCALES
    )


def _is(number: str, value: float) -> bool:
    plain = number.replace(",", "")
    decimals = len(plain.partition(".")[2])
    # Zeros before the point may come from rounding, too.
    zeros = 0 if decimals else len(plain) - len(plain.rstrip("0"))
    step = float(10 ** (zeros - decimals))
    apart = abs(float(plain) - value)
    return apart <= step / 2 and apart <= COARSEST * value
