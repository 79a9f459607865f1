"""Where the example rulebook and its source plugin lie."""

from __future__ import annotations

from pathlib import Path

RULEBOOK = "example_ha_rulebook.yml"
# The build of a wheel copies them there; an editable install runs from the
# project's own folder.
COPIES = Path(__file__).with_name("example")
PROJECT = Path(__file__).resolve().parents[4]


def example() -> tuple[Path, Path]:
    """The rulebook, and the folder of its source plugin."""
    if COPIES.is_dir():
        return COPIES / RULEBOOK, COPIES / "sources"
    return PROJECT / RULEBOOK, PROJECT / "tests" / "sources"
