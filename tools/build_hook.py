"""Puts the example into the wheel; hatchling runs it.

An editable install needs no copies: it runs from this tree.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EXAMPLE = "ansible_rulebook/ha/embedded/demo/example"


class ExampleHook(BuildHookInterface[Any]):
    """Copies the files that users of the clone find elsewhere."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"].update(
                {
                    "example_ha_rulebook.yml": (
                        f"{EXAMPLE}/example_ha_rulebook.yml"
                    ),
                    "tests/sources/example_ha_source.py": (
                        f"{EXAMPLE}/sources/example_ha_source.py"
                    ),
                }
            )
