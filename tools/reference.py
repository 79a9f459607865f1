#!/usr/bin/env python3
"""Write the tables of docs/ that the code knows: ``make reference``.

A page has a comment ``.. reference: <name>`` before such a table, and ``..
end`` after it. What is between them is made here: flags and variables from the
real parsers, names and kinds of metrics from the worker's own registry, the
leases from the formulas of the election.

With ``--check`` nothing is written, and the exit code is 1 if a page is not
what the code says.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Callable

from tree import ROOT

from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.operations import commands
from ansible_rulebook.ha.options import add_arguments
from ansible_rulebook.ha.upstream.names import SEAMS, STATE_SEAMS

PAGES = ROOT / "docs"
COLUMNS = 79
BLOCK = re.compile(
    r"^(\.\. reference: ([^\n]+)\n)\n.*?^(\.\. end\n)",
    re.MULTILINE | re.DOTALL,
)
# What a page can show of (poll interval, lease), in seconds.
LEASES = (
    *((1, 3), (2, 6), (3, 9), (5, 15), (10, 30), (20, 60)),
    *((1, 15), (1, 30)),
)
BY_VARIABLE = re.compile(r"\s*Can also be passed via (\w+)\.")


def list_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    widths: Sequence[int],
) -> str:
    """A table with cells of any text; a newline begins a new line in it."""
    lines = [".. list-table::", "   :header-rows: 1"]
    lines += [f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in (headings, *rows):
        sign = "*"
        for cell in row:
            lines += _cell(f"   {sign} - ", cell)
            sign = " "
    return "\n".join([*lines, ""])


def _cell(start: str, text: str) -> Iterator[str]:
    for part in text.split("\n"):
        yield from textwrap.wrap(
            part or " ",
            COLUMNS,
            initial_indent=start,
            subsequent_indent=" " * (9 if "| " in start + part else 7),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [start.rstrip()]
        start = " " * 7


# -- flags --------------------------------------------------------------------


def _rows_of(group: Iterable[argparse.Action]) -> Iterator[tuple[str, str]]:
    for action in group:
        if not action.option_strings or action.dest in ("help", "version"):
            continue
        flag = action.option_strings[-1]
        if action.nargs != 0 and action.metavar:
            value = str(action.metavar)
            flag += f" [{value}]" if action.nargs == "?" else f" {value}"
        meaning = " ".join((action.help or "").split())
        variable = BY_VARIABLE.search(meaning)
        names = f"``{flag}``"
        if variable is not None:
            meaning = BY_VARIABLE.sub("", meaning)
            names = f"| ``{flag}``\n| ``{variable[1]}``"
        yield names, _sentence(meaning)


def _sentence(text: str) -> str:
    """Literals for what is none in ``--help``."""
    text = re.sub(r"(?<![\w`-])(--[\w-]+)", r"``\1``", text)
    text = re.sub(r"(?<![\w`])((?:EDA|PG)[A-Z_]{3,})\b", r"``\1``", text)
    text = text.replace("drools_db_...", "``drools_db_...``")
    text = text.replace("<hostname>-<pid>", "``<hostname>-<pid>``")
    return text[:1].upper() + text[1:].rstrip(".") + "."


def worker_options() -> str:
    """The flags that ansible-rulebook gains."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    rows = _rows_of(parser._actions)
    return list_table(("Flag, variable", "Meaning"), rows, (42, 58))


def command_options() -> str:
    """The flags of each command of ansible-rulebook-ha."""
    parser = commands._parser()
    (choices,) = (
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    text = ""
    for name, command in choices.items():
        heading = f"``{name}``"
        text += f"{heading}\n{'-' * len(heading)}\n\n"
        text += f"{_wrapped(command.description or '')}\n\n"
        rows = list(_rows_of(command._actions))
        rows += [
            (f"``{action.dest.upper()}``", _sentence(action.help or ""))
            for action in command._actions
            if not action.option_strings
        ]
        if rows:
            text += list_table(("Flag, variable", "Meaning"), rows, (42, 58))
            text += "\n"
    return text.rstrip("\n") + "\n"


def _wrapped(text: str) -> str:
    return "\n".join(
        textwrap.wrap(
            _sentence(" ".join(text.split())),
            COLUMNS,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


# -- the lease ----------------------------------------------------------------


def seconds(value: float) -> str:
    return f"{value:.1f}".replace(".0", "") + " s"


def lease_row(poll: float, lease: float) -> tuple[str, ...]:
    """What follows from two timings; the election's own formulas."""
    timings = Timings(poll, lease)
    return (
        seconds(timings.lease_duration),
        seconds(timings.poll_interval),
        f"{seconds(lease - timings.renew_every)[:-2]} to {seconds(lease)}",
        seconds(timings.trust_for - timings.renew_every),
        seconds(timings.demote_within / 2),
        seconds(timings.demote_within),
    )


def leases() -> str:
    headings = (
        "Lease",
        "Poll interval",
        "A dead machine is replaced after",
        "Silence that is always forgiven",
        "The same while state is written",
        "Time to end what runs",
    )
    rows = [lease_row(*each) for each in LEASES]
    return list_table(headings, rows, (12, 12, 22, 18, 18, 18))


# -- what is relied on --------------------------------------------------------


def seams() -> str:
    """The names of ansible-rulebook, and which parameters of them."""
    rows = [
        (
            f"``{path.partition('.')[2]}``",
            kept,
            ", ".join(f"``{each}``" for each in parameters),
        )
        for kept, names in (("always", SEAMS), ("with state", STATE_SEAMS))
        for path, parameters in names.items()
        if path.startswith("ansible_rulebook.")
    ]
    return list_table(("Name", "Needed", "Parameters"), rows, (50, 15, 35))


REFERENCES: dict[str, Callable[[], str]] = {
    "options of a worker": worker_options,
    "options of the commands": command_options,
    "leases": leases,
    "names of ansible-rulebook": seams,
}


def written(text: str) -> str:
    """A page with its tables as the code has them now."""
    return BLOCK.sub(
        lambda found: f"{found[1]}\n{REFERENCES[found[2]]()}\n{found[3]}", text
    )


def pages() -> Iterator[Path]:
    """The pages that have such tables."""
    for page in sorted(PAGES.rglob("*.rst")):
        if BLOCK.search(page.read_text("utf-8")):
            yield page


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args(argv).check
    code = 0
    for page in pages():
        text = page.read_text("utf-8")
        if text == written(text):
            continue
        code = 1 if is_check else 0
        print(f"{page.relative_to(ROOT)}: {'old' if is_check else 'written'}")
        if not is_check:
            page.write_text(written(text), "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
