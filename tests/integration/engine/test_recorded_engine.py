"""The engine as upstream calls it; the scenes are in recorded_scenes.py."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_support import needs_state

pytestmark = needs_state

FILE = Path(__file__).with_name("recorded_scenes.py")


def names() -> list[str]:
    """The scenes, without a JVM in this process."""
    tree = ast.parse(FILE.read_text("utf-8"))
    return [
        each.name
        for each in tree.body
        if isinstance(each, ast.FunctionDef) and each.name != "main"
    ]


@pytest.fixture(scope="module")
def seen() -> dict[str, str | None]:
    done = subprocess.run(
        [sys.executable, str(FILE)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(done.stdout)
    assert sorted(found) == sorted(names())
    return found


@pytest.mark.parametrize("scene", names())
def test_scene(seen: dict[str, str | None], scene: str) -> None:
    assert seen[scene] is None, seen[scene]
