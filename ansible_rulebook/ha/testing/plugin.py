"""An event source plugin, from where its author has it."""

from __future__ import annotations

import asyncio
import inspect
import os
import textwrap
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Union

from ..rulebook.sources import Main, is_ha_aware
from ..upstream.plugins import PluginLoader

PluginLike = Union["str | os.PathLike[str]", ModuleType, Main]


@dataclass(frozen=True)
class Plugin:
    """The main of a source, and which of the two kinds it is of."""

    main: Main
    name: str
    is_aware: bool


def load(given: Any) -> Plugin:
    """Find a plugin's main.

    :param given: the path of the plugin's file, its module, or a main.
    :raises TypeError: if it has no main, or one that is no coroutine
        function: ansible-rulebook would refuse it.
    """
    if isinstance(given, (str, os.PathLike)):
        return _load_path(os.fspath(given))
    if isinstance(given, ModuleType):
        main, name, of = getattr(given, "main", None), given.__name__, given
        code = inspect.getsource(of)
    else:
        main, name = given, getattr(given, "__qualname__", repr(given))
        code = _code_of(given)
    if not asyncio.iscoroutinefunction(main):
        raise TypeError(_refusal(name))
    return Plugin(main, name.rpartition(".")[2], is_ha_aware(code))


def _load_path(path: str) -> Plugin:
    found: list[Plugin] = []

    def take(main: Main, name: str, is_aware: bool) -> Main:
        found.append(Plugin(main, name, is_aware))
        return main

    # As a worker loads it, so the same counts as aware.
    PluginLoader(take).run_path(path)
    if not found:
        raise TypeError(_refusal(path))
    return found[0]


def _code_of(main: Main) -> str:
    """The whole file if it is a plugin's main; else the function alone."""
    if getattr(main, "__globals__", {}).get("main") is main:
        with open(inspect.getfile(main), encoding="utf-8") as file:
            return file.read()
    try:
        return textwrap.dedent(inspect.getsource(main))
    except (OSError, TypeError):
        return ""  # typed in, or not a function


def _refusal(name: str) -> str:
    return (
        f"{name} has no 'async def main(queue, args)': ansible-rulebook "
        "refuses such a plugin"
    )
