"""The table of log lines has each line of the code, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ansible_rulebook.ha
from ansible_rulebook.ha.election import settings

(HOME,) = map(Path, ansible_rulebook.ha.__path__)
PAGE = Path(__file__).parents[2] / "docs/run/reference/log_lines.rst"

LEVELS = ("INFO", "WARNING", "ERROR", "CRITICAL")
METHODS = {level.lower(): level for level in LEVELS} | {"exception": "ERROR"}
# What hands its first argument on to a logger.
OURS = {"self._warn_once": "WARNING", "_refuse": "ERROR"}
# Files and expressions that stand for a line that is made elsewhere.
MADE_ELSEWHERE = {
    ("log.py", "what"),  # WorkerLog itself
    ("log.py", "'Worker %s: %s (%s)'"),
    ("election/lock.py", "what"),
    ("election/lock.py", "warning(missed, found, refusals)"),
    ("state/session.py", "*self._warned"),
    ("engine/recorded.py", "why"),
}
SETTINGS = settings.warning(["x"], {"x": ("", "")}, {}).partition(":")[0]


def template(node: ast.expr) -> str | None:
    """A line with dots for what varies; None if it is not written there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(
            part.value if isinstance(part, ast.Constant) else "..."
            for part in node.values
        )
    else:
        return None
    return re.sub(r"%[\d.]*\w", "...", text).replace(
        "exit code ...", "exit code 75"
    )


def logged(call: ast.Call) -> tuple[list[str], ast.expr] | None:
    """The levels of a call that logs, and what it says."""
    whole = ast.unparse(call.func)
    if whole in OURS:
        return [OURS[whole]], call.args[0]
    whose, _, name = whole.rpartition(".")
    if not whose.endswith(("log", "logger", "self")) or not call.args:
        return None
    if name in METHODS:
        return [METHODS[name]], call.args[0]
    if name in ("log", "write") and len(call.args) > 1:
        said = ast.unparse(call.args[0])
        return [each for each in LEVELS if each in said], call.args[1]
    return None


def lines_of_code() -> Iterator[tuple[str, str, str]]:
    """Each line that may be logged: its level, its text, and where."""
    for path in sorted(HOME.rglob("*.py")):
        file = path.relative_to(HOME).as_posix()
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call) or not (found := logged(call)):
                continue
            levels, said = found
            text = template(said)
            if text is None or (file, ast.unparse(said)) in MADE_ELSEWHERE:
                assert (file, ast.unparse(said)) in MADE_ELSEWHERE, (
                    f"{file}:{call.lineno}: write the line there, so that it "
                    "can be documented"
                )
                continue
            for level in levels:
                yield level, text, f"{file}:{call.lineno}"
    yield "WARNING", f"{SETTINGS}: ...", "election/settings.py"


def lines_of_page() -> set[tuple[str, str]]:
    rows = re.findall(
        r"^   \* - (``.*?)\n     - ([A-Z, ]+)\n     - \S",
        PAGE.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return {
        (level, " ".join(line.split()))
        for cell, levels in rows
        for level in levels.split(", ")
        for line in re.findall("``(.+?)``", cell, re.DOTALL)
    }


def test_each_line_is_documented():
    documented = lines_of_page()
    missing = [
        f"{where}: {level} {text}"
        for level, text, where in lines_of_code()
        if (level, text) not in documented
    ]
    assert not missing, "\n".join(["not in log_lines.rst:", *missing])


def test_each_documented_line_is_logged():
    logged_lines = {(level, text) for level, text, _ in lines_of_code()}
    assert lines_of_page() <= logged_lines
