"""Our plugins are found by name, as upstream's own are."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from ansible_rulebook.ha.errors import SourceRefused
from ansible_rulebook.ha.upstream.plugins import (
    OUR_PLUGINS,
    find_source,
    has_source,
)


def never(collection: str, source: str) -> bool:
    return False


def other(collection: str, source: str) -> str:
    return "other"


@pytest.mark.parametrize("plugin", OUR_PLUGINS)
@pytest.mark.parametrize("collection", ["", "eda.builtin"])
def test_ours_are_found(collection: str, plugin: str) -> None:
    assert has_source(never, collection, plugin)
    path = find_source(other, collection, plugin)
    assert path.endswith(f"{plugin}.py")


@pytest.mark.parametrize(
    ("collection", "source"),
    [
        ("", "webhook"),
        ("eda.builtin", "webhook"),
        ("my.own", "ha_webhook"),
        ("", "__init__"),
        ("", "../webhook/server"),
        ("", "ha_webhook.py"),
    ],
)
def test_others_are_left_to_upstream(collection: str, source: str) -> None:
    assert not has_source(never, collection, source)
    assert find_source(other, collection, source) == "other"


@pytest.mark.asyncio
@pytest.mark.parametrize("plugin", OUR_PLUGINS)
async def test_without_ha_options_one_line_says_so(plugin: str) -> None:
    module: dict[str, Any] = runpy.run_path(find_source(other, "", plugin))
    args = {"port": 5000} if plugin == "ha_webhook" else {}
    with pytest.raises(SourceRefused, match="without the HA options"):
        await module["main"](None, args)
