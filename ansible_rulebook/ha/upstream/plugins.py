"""Source plugins, which upstream loads by ``runpy``."""

from __future__ import annotations

import asyncio
import os
import runpy
import tokenize
from typing import Any

from ..rulebook.sources import Sources, is_ha_aware
from ..worker import Worker
from .names import upstream


def install(worker: Worker) -> None:
    """Have the worker run the sources of each plugin."""
    upstream("engine").runpy = PluginLoader(worker.sources)


class PluginLoader:
    """In place of the module ``runpy``.

    :param sources: has the rules for a source's main.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def run_path(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """``runpy.run_path``; a source's main comes under our rules."""
        module = runpy.run_path(path, *args, **kwargs)
        main = module.get("main")
        if not asyncio.iscoroutinefunction(main):
            return module  # a filter, or a plugin that upstream refuses
        with tokenize.open(path) as source:
            aware = is_ha_aware(source.read())
        name = os.path.splitext(os.path.basename(path))[0]
        module["main"] = self._sources.wrap(main, name, aware)
        return module
