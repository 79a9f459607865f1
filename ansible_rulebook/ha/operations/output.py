"""What commands print: rich tables on a terminal, plain text elsewhere."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from typing import Any, Sequence

from ..redaction import LONGEST_LINE, clean
from .plain import ABSENT, cell

FORMAT = 1  # changes when a key's meaning does, not when one is added
SHORTEST_LINE = 16  # characters
LINES = 2  # that a row may take on a terminal that is too narrow for it
GAP = "  "


def print_json(command: str, **content: Any) -> None:
    """One line of ASCII, whatever is in it."""
    print(json.dumps({"v": FORMAT, "command": command, **content}))


class Printer:
    """Prints for people, and nothing that acts on a terminal."""

    def __init__(self) -> None:
        self._console: Any = None
        if sys.stdout.isatty():
            from rich.console import Console

            self._console = Console(
                markup=False, emoji=False, highlight=False, soft_wrap=False
            )
            if self._console.is_dumb_terminal:  # it does not ask for its size
                self._console.width = shutil.get_terminal_size().columns

    @property
    def is_terminal(self) -> bool:
        """Whether the output goes to a terminal."""
        return self._console is not None

    def clear(self) -> None:
        """Clear the terminal."""
        if self._console is not None:
            self._console.clear()

    def line(self, text: str = "", style: str = "") -> None:
        """Print a sentence."""
        text = clean(text, LONGEST_LINE)
        if self._console is None:
            print(text)
        else:
            self._console.print(text, style=style or None)

    def pairs(self, pairs: Sequence[tuple[str, object]]) -> None:
        """Print names and values, one pair a line."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            head = f"{name:<{width}}{GAP}"
            text = cell(value, LONGEST_LINE)
            if self._console is not None:
                text = _indented(text, len(head), self._console.width)
            print(head + text)

    def table(
        self,
        heads: Sequence[str],
        rows: Sequence[Sequence[object]],
        styles: Sequence[str] = (),
    ) -> None:
        """Print a table.

        :param styles: one for each row. A style repeats what the row says,
            since output that is no terminal has none.
        """
        cells = [[cell(value) for value in row] for row in rows]
        rows_and_heads = [list(heads), *cells]
        room = math.inf if self._console is None else self._console.width
        if self._console is None or room < _width(rows_and_heads, 3):
            if LINES * room < _width(rows_and_heads, len(GAP)):
                self._blocks(heads, cells)
            else:
                self._columns(rows_and_heads)
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(*heads)
        for number, row in enumerate(cells):
            style = styles[number] if number < len(styles) else ""
            table.add_row(*map(Text, row), style=style or None)
        self._console.print(table)

    def _blocks(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        """Where a row would take too many lines."""
        for number, row in enumerate(rows):
            if number:
                print()
            self.pairs([pair for pair in zip(heads, row) if pair[1] != ABSENT])

    @staticmethod
    def _columns(rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            padded = [f"{value:<{width}}" for value, width in zip(row, widths)]
            print(GAP.join(padded).rstrip())


def _width(rows: Sequence[Sequence[str]], between: int) -> int:
    """What a table takes, if no cell is to be broken.

    :param between: two cells of a row.
    """
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows)]
    return sum(widths) + between * len(widths) + 1


def _indented(text: str, indent: int, width: int) -> str:
    """``text`` in lines that are not too long, but for long words.

    A word that is copied, such as a UUID, stays in one piece.
    """
    lines = textwrap.wrap(
        text,
        max(width - indent, SHORTEST_LINE),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"\n{' ' * indent}".join(lines)
