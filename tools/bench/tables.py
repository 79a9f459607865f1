"""The results as reStructuredText, for the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .report import HEADINGS, Result, with_unit

INTRODUCTION = """\
.. Made by "make bench BENCH_ARGS='--rst FILE'". Do not edit.

===================
Benchmarks, figures
===================

What `benchmarks.rst <benchmarks.rst>`_ is about, as one run of ::

    make bench BENCH_ARGS="{command}"

has found it.

"""


def document(
    results: Sequence[Result],
    machine: Mapping[str, Any],
    command: str,
    pictures: Mapping[str, str],
) -> str:
    """The whole file.

    :param command: the arguments of the run.
    :param pictures: by part, where its picture is, from the file's folder.
    """
    text = INTRODUCTION.format(command=command)
    rows = [(str(key), _shown(value)) for key, value in machine.items()]
    text += table(("the machine", ""), rows)
    for result in results:
        text += section(result, pictures.get(result.part))
    return text


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return str(value)


def section(result: Result, picture: str | None) -> str:
    """One part: its tables, goals and notes."""
    title = f"{result.part}: {result.title}" if result.title else result.part
    text = f"\n{title}\n{'=' * len(title)}\n\n"
    if result.error is not None:
        return f"{text}This part could not be run.\n"
    if picture is not None:
        text += f".. image:: {picture}\n   :alt: {result.title}\n\n"
    for group, figures in result.groups().items():
        if group:
            text += f"{group[:1].upper()}{group[1:]}:\n\n"
        text += table(
            ("..", *HEADINGS),
            [(_plain(figure.name), *figure.cells()) for figure in figures],
        )
        text += "\n"
    for goal in result.goals:
        verdict = "met" if goal.met else "missed"
        measured = with_unit(goal.value, goal.unit)
        text += (
            f"- goal {verdict}: {goal.name} {goal.wanted}, "
            f"measured {measured}\n"
        )
    for note in result.notes:
        text += f"- {_plain(note.strip())}\n"
    return text


def _plain(text: str) -> str:
    """Two hyphens and the like are no markup."""
    for sign in ("\\", "*", "`", "_", "|"):
        text = text.replace(sign, f"\\{sign}")
    return text


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A simple table; an empty first cell would join two rows."""
    cells = [list(headings), *[list(row) for row in rows]]
    widths = [max(len(row[n]) for row in cells) for n in range(len(headings))]
    widths = [max(width, 2) for width in widths]
    rule = "  ".join("=" * width for width in widths)
    lines = [rule, _line(cells[0], widths), rule]
    lines += [_line(row, widths) for row in cells[1:]]
    return "\n".join([*lines, rule, ""])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(row, widths))
    return "  ".join(padded).rstrip()
