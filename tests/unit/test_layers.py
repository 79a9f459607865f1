"""Who may name what: upstream, drools_jpy, and our own modules."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Iterator

import pytest

import ansible_rulebook.ha
from ansible_rulebook.ha.embedded.demo.example import COPIES

(HOME,) = map(Path, ansible_rulebook.ha.__path__)
PACKAGE = "ansible_rulebook.ha"
# The example that a wheel brings along is data, not a module.
SOURCES = sorted(
    path
    for path in HOME.rglob("*.py")
    if path.name != "__main__.py" and COPIES not in path.parents
)
UPSTREAM = re.compile(r"ansible_rulebook(?!\.ha(\.|$))(\.|$)")
ENGINE = re.compile(r"(drools|jpy)(\.|$)")
IMPORTERS = {"import_module", "__import__", "find_spec", "reload"}

# What each part may name of ours, for types too: a package or a module, with
# all in it. See docs/carry_on/architecture.rst. Each may know itself and
# BELOW_ALL.
MAY_KNOW: dict[str, set[str]] = {
    "election": set(),
    "engine": {"election.clock"},
    "state": {"election", "engine", "options"},
    "inbox": {"election", "state", "options"},
    "rulebook": {
        "election",
        "engine",
        "state",
        "inbox.delivery",
    },
    "webhook": {"inbox", "connections"},
    "event_source": {"webhook"},
    "operations": {
        "election",
        "state",
        "connections",
        "embedded",
        "options",
        "own_process",
        "upstream.names",
        "upstream.plain_run",
    },
    "worker": {
        "election",
        "engine",
        "state",
        "inbox",
        "rulebook",
        "operations",
        "options",
        "portrait",
    },
    "portrait": {
        "election",
        "state",
        "rulebook",
        "operations.snapshot",
        "options",
    },
    "upstream": {
        "election",
        "engine",
        "state",
        "rulebook",
        "options",
        "own_process",
        "worker",
    },
    "connections": set(),
    "embedded": set(),
    "options": {
        "election.lease",
        "election.priority",
        "operations.listen",
        "operations.on_transition",
        "operations.pod",
    },
    "own_process": {"options"},
}
BELOW_ALL = {"errors", "redaction", "conninfo", "log", "version"}


def module_of(path: Path) -> str:
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join((PACKAGE, *parts)).removesuffix(".__init__")


def named(code: str, package: str) -> Iterator[str]:
    """The modules that a source imports, or names in a string.

    :param package: that its relative imports begin at.
    """
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                above = above[: len(above) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            yield from (f"{base}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in IMPORTERS:
                yield from (
                    each.value
                    for each in node.args
                    if isinstance(each, ast.Constant)
                    and isinstance(each.value, str)
                )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"\w+\.[\w.]*", node.value)
        ):
            yield node.value


def offending(pattern: re.Pattern[str], allowed: str) -> list[str]:
    """Where a module outside of a package of ours names one of these."""
    return [
        f"{path.relative_to(HOME)}: {name}"
        for path in SOURCES
        if not path.is_relative_to(HOME / allowed)
        for name in named(path.read_text(), package_of(path))
        if pattern.match(name)
    ]


def package_of(path: Path) -> str:
    module = module_of(path)
    return module if path.stem == "__init__" else module.rpartition(".")[0]


def test_only_upstream_names_ansible_rulebook():
    assert offending(UPSTREAM, "upstream") == []


def test_only_the_engine_names_drools_and_java():
    assert offending(ENGINE, "engine") == []


@pytest.mark.parametrize("part", MAY_KNOW)
def test_a_part_knows_only_those_below_it(part: str):
    allowed = {part, *MAY_KNOW[part], *BELOW_ALL}
    assert [
        name
        for name in ours_that_are_known_to(part)
        if not any(f"{name}.".startswith(f"{each}.") for each in allowed)
    ] == []


def test_what_is_below_all_knows_nothing_else():
    for part in BELOW_ALL:
        for name in ours_that_are_known_to(part):
            assert name.partition(".")[0] in BELOW_ALL


def ours_that_are_known_to(part: str) -> list[str]:
    """Our names in a package or a module, without those of ``ha`` itself."""
    paths = [HOME / f"{part}.py", *(HOME / part).rglob("*.py")]
    return [
        name[len(PACKAGE) + 1 :]
        for path in paths
        if path.exists()
        for name in named(path.read_text(), package_of(path))
        if name.startswith(f"{PACKAGE}.")
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import ansible_rulebook",
        "import ansible_rulebook.util as util",
        "from ansible_rulebook import util",
        "from ansible_rulebook.util import run_at",
        "def f():\n    from ansible_rulebook.engine import broadcast",
        "from .. import util",
        "from ..util import run_at",
        "import_module('ansible_rulebook')",
        "importlib.import_module('ansible_rulebook.util')",
        "importlib.import_module(f'ansible_rulebook.{name}')",
        "x = 'ansible_rulebook.util.run_at'",
        "'ansible_rulebook.app' in sys.modules",
    ],
)
def test_each_way_to_name_upstream_is_seen(code: str):
    assert any(UPSTREAM.match(name) for name in named(code, PACKAGE))


@pytest.mark.parametrize(
    "code",
    [
        "import jpy",
        "from drools import ruleset",
        "def f():\n    from drools.ruleset import RulesetCollection",
        "import_module('drools')",
        "SEAMS = {'drools.dispatch.Dispatch': ()}",
    ],
)
def test_each_way_to_name_the_engine_is_seen(code: str):
    assert any(ENGINE.match(name) for name in named(code, PACKAGE))


@pytest.mark.parametrize(
    "code",
    [
        "import ansible_rulebook.ha.worker",
        "from ansible_rulebook.ha import worker",
        "from .worker import Worker",
        "from . import worker",
        "logging.getLogger('ansible_rulebook.ha')",
        "command = ['-m', 'ansible_rulebook']",
        "import ansible_rulebook_ha_of_others",
        "from .engine import names as drools",
    ],
)
def test_our_own_names_are_no_offence(code: str):
    names = list(named(code, PACKAGE))
    assert not any(UPSTREAM.match(name) for name in names)
    assert not any(ENGINE.match(name) for name in names)


def test_every_module_can_be_imported():
    """mypy does not miss what is missing below ansible_rulebook."""
    assert len(SOURCES) > 50
    for path in SOURCES:
        importlib.import_module(module_of(path))
