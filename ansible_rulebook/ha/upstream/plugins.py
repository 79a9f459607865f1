"""Source plugins, which upstream loads by ``runpy``."""

from __future__ import annotations

import asyncio
import os
import runpy
import tokenize
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from ..rulebook.sources import Main, is_ha_aware
from .names import upstream

if TYPE_CHECKING:
    from ..worker import Worker

Wrap = Callable[[Main, str, bool], Main]

OURS = Path(__file__).parents[1] / "event_source"
OUR_PLUGINS = ("ha_queue", "ha_webhook")
# Before the last dot of a source's name in a rulebook. The second is that of
# upstream's own plugins, which it looks for in another place first.
OUR_COLLECTIONS = ("", "eda.builtin")


def install(worker: Worker) -> None:
    """Have the worker run the sources of each plugin, and find ours."""
    engine = upstream("engine")
    engine.runpy = PluginLoader(worker.sources.wrap)
    engine.has_source = partial(has_source, engine.has_source)
    engine.find_source = partial(find_source, engine.find_source)


def has_source(
    has_other: Callable[[str, str], bool], collection: str, source: str
) -> bool:
    """``engine.has_source``, which is asked after the folder of plugins that
    the user named."""
    return _is_ours(collection, source) or has_other(collection, source)


def find_source(
    find_other: Callable[[str, str], str], collection: str, source: str
) -> str:
    """``engine.find_source``: the file of a plugin."""
    if _is_ours(collection, source):
        return str(OURS / f"{source}.py")
    return find_other(collection, source)


def _is_ours(collection: str, source: str) -> bool:
    return collection in OUR_COLLECTIONS and source in OUR_PLUGINS


class PluginLoader:
    """In place of the module ``runpy``.

    :param wrap: brings a source's main under our rules, see
        :meth:`.Sources.wrap`.
    """

    def __init__(self, wrap: Wrap) -> None:
        self._wrap = wrap

    def run_path(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """``runpy.run_path``; a source's main comes under our rules."""
        module = runpy.run_path(path, *args, **kwargs)
        main = module.get("main")
        if not asyncio.iscoroutinefunction(main):
            return module  # a filter, or a plugin that upstream refuses
        with tokenize.open(path) as source:
            aware = is_ha_aware(source.read())
        name = os.path.splitext(os.path.basename(path))[0]
        module["main"] = self._wrap(main, name, aware)
        return module
