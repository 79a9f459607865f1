"""Source plugins, which upstream loads by ``runpy``."""

from __future__ import annotations

import asyncio
import os
import runpy
import tokenize
from typing import TYPE_CHECKING, Any, Callable

from ..rulebook.sources import Main, is_ha_aware
from .names import upstream

if TYPE_CHECKING:
    from ..worker import Worker

Wrap = Callable[[Main, str, bool], Main]


def install(worker: Worker) -> None:
    """Have the worker run the sources of each plugin."""
    upstream("engine").runpy = PluginLoader(worker.sources.wrap)


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
