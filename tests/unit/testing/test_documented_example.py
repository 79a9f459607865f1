"""The example of the page for authors, run as they would run it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "write" / "testing_plugins.rst"
FILE = re.compile(
    r"^``(\S+\.py)``:\n\n\.\. code-block:: python\n\n((?:    .*\n|\n)+)",
    re.MULTILINE,
)
LEAK = "(main.<locals>.receive) goes on, lines.py:10 in receive."


def write(folder: Path) -> None:
    for name, code in FILE.findall(PAGE.read_text("utf-8")):
        (folder / name).write_text(textwrap.dedent(code))


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_example_passes(tmp_path: Path) -> None:
    write(tmp_path)
    done = run(tmp_path)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_without_two_lines_it_fails_as_the_page_says(tmp_path: Path) -> None:
    assert LEAK in PAGE.read_text("utf-8")
    write(tmp_path)
    plugin = tmp_path / "lines.py"
    code = plugin.read_text()
    close = (
        "        for client in list(clients):\n            client.close()\n"
    )
    assert close in code
    plugin.write_text(code.replace(close, ""))
    done = run(tmp_path)
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert LEAK in done.stdout
