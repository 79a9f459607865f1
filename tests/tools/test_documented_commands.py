"""Each command of README and documentation is one that works.

Those that look at a cluster are run in
``tests/integration/operations/test_documented_looks.py``. The others are
given to the parsers that they end at.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import bench.__main__
import chaos.__main__
import oracle.__main__
import pytest
from documented import Command, all_commands, commands_of, pages, text_of
from rig.server import TEST_BIN, TEST_DSN, TEST_TLS
from tree import ROOT

import ansible_rulebook.ha
from ansible_rulebook.ha.operations import commands
from ansible_rulebook.ha.options import add_arguments

COMMANDS = list(all_commands())
# What a test runs against a cluster, as it stands there.
RUN = (
    *("status", "leader", "history", "why", "check"),
    *("init-db", "forget", "new-uuid"),
)
# They take minutes and more; what they do has tests in tests/tools.
LONG = ("test", "bench", "chaos", "oracle")
MAKE_ARGS = {
    "BENCH_ARGS": bench.__main__.get_parser,
    "CHAOS_ARGS": chaos.__main__.get_parser,
    "ORACLE_ARGS": oracle.__main__.get_parser,
}
OTHER_VARIABLES = ("PYTEST_ARGS", "DEMO_ARGS", "PYTHONS", "JOBS")


def rulebook_parser() -> argparse.ArgumentParser:
    cli = importlib.import_module("ansible_rulebook.cli")
    parser: argparse.ArgumentParser = cli.get_parser()
    if "--ha-uuid" not in parser.format_help():  # not grafted in a test
        add_arguments(parser)
    return parser


def accepts(parser: argparse.ArgumentParser, words: list[str]) -> bool:
    try:
        parser.parse_args(words)
    except SystemExit as error:
        return not error.code
    return True


def is_make_right(words: list[str]) -> bool:
    makefile = text_of("Makefile")
    for word in words:
        name, is_given, value = word.partition("=")
        if not is_given:
            if not re.search(rf"^{word}:", makefile, re.MULTILINE):
                return False
        elif name in MAKE_ARGS:
            if not accepts(MAKE_ARGS[name](), shlex.split(value)):
                return False
        elif name not in OTHER_VARIABLES:
            return False
    return True


def is_python_right(words: list[str]) -> bool:
    if words[:1] == ["-m"]:
        if words[1] in ("venv", "pytest"):
            return all((ROOT / word).exists() for word in words if "/" in word)
        return words[1].startswith(("bench", "chaos", "oracle"))
    return (ROOT / words[0]).is_file()


def is_known(command: Command) -> bool | None:
    """Whether it would be accepted; None if nobody here knows the program."""
    words = list(command.words)
    while re.match(r"[A-Z_]+=", words[0]):  # variables in front
        words.pop(0)
    program, *rest = words
    if program == "ansible-rulebook-ha":
        return accepts(commands._parser(), rest)
    if program == "ansible-rulebook":
        return accepts(rulebook_parser(), rest)
    if program == "make":
        return is_make_right(rest)
    if program == "export":
        return all(word.partition("=")[0] in variables() for word in rest)
    if program == "pip":
        extras = re.findall(r"^(\w+) = \[", text_of("pyproject.toml"), re.M)
        return rest[0] == "install" and all(
            word in {"ansible-rulebook-ha", "pytest", "-e", "."}
            or word in {f"ansible-rulebook-ha[{each}]" for each in extras}
            for word in rest[1:]
        )
    if program in ("python", "python3", ".venv/bin/python"):
        return is_python_right(rest)
    if program.startswith("./"):
        return (ROOT / program).is_file()
    return None


def variables() -> set[str]:
    """The variables that the package reads or sets."""
    (home,) = map(Path, ansible_rulebook.ha.__path__)
    return {
        name
        for path in home.rglob("*.py")
        for name in re.findall(
            r"\bEDA_HA_[A-Z_]*[A-Z]\b", path.read_text("utf-8")
        )
    }


def ids(command: Command) -> str:
    return str(command)


@pytest.mark.parametrize("command", COMMANDS, ids=ids)
def test_a_command_is_accepted(command: Command) -> None:
    found = is_known(command)
    if found is None:
        assert command.not_run or command.run_by, "mark it: .. not-run: why"
    else:
        assert found


@pytest.mark.parametrize("command", COMMANDS, ids=ids)
def test_a_command_is_run_or_says_why_not(command: Command) -> None:
    if command.run_by:
        assert (ROOT / command.run_by).is_file()
    elif not command.not_run:
        words = [word for word in command.words if "=" not in word]
        assert (
            words[0] == "export"
            or (words[0] == "make" and words[1] in LONG)
            or (words[0] == "ansible-rulebook-ha" and words[1] in RUN)
        ), "mark it: .. run-by: a test, or .. not-run: why"


def inline() -> Iterator[tuple[str, str]]:
    """Commands within sentences: page, and the command."""
    for name in pages():
        text = re.sub(r"\s+", " ", text_of(name))
        for found in re.findall("``(ansible-rulebook-ha [a-z].*?)``", text):
            yield name, found
        for found in re.findall("``(make [a-z].*?)``", text):
            yield name, found


@pytest.mark.parametrize(("name", "text"), sorted(set(inline())))
def test_a_command_in_a_sentence_is_accepted(name: str, text: str) -> None:
    program, *words = shlex.split(text)
    if program == "make":
        assert is_make_right([word for word in words if word != "..."])
        return
    parser = commands._parser()
    choices = next(
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    known = choices[words[0]]._option_string_actions
    assert all(word in known for word in words if word.startswith("--"))


@pytest.mark.parametrize("name", pages())
def test_each_flag_and_variable_is_there(name: str) -> None:
    text = text_of(name)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    # Those of our test servers, and the beginning of a name.
    others = {TEST_DSN, TEST_BIN, TEST_TLS, "EDA_HA_"}
    if name != "CHANGELOG.rst":  # it tells of earlier ones, too
        flags = set(re.findall(r"(?<![\w-])--ha-[a-z-]*[a-z]", text))
        assert flags <= set(parser._option_string_actions)
        named = set(re.findall(r"\bEDA_HA_[A-Z_]*[A-Z]\b", text))
        assert named <= variables() | others


def test_each_variable_is_in_the_reference() -> None:
    page = text_of("docs/run/reference/options.rst")
    assert {each for each in variables() if f"``{each}``" not in page} == set()


def test_each_flag_is_in_the_readme() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    table = text_of("README.rst").partition("\nOptions\n")[2]
    table = table.partition("\nHow it behaves\n")[0]
    flags = {flag for flag in parser._option_string_actions if "ha-" in flag}
    assert flags <= set(re.findall(r"^``(--[\w-]+)``", table, re.MULTILINE))


# -- what finds them ---------------------------------------------------

PAGE = """\
Run::

    make demo
    not a command

.. not-run: needs systemd

.. code-block:: console

    $ systemctl start \\
        eda
    make is an output here

.. code-block:: python

    make = 1
"""


def test_commands_are_found() -> None:
    first, second = commands_of("x", PAGE)
    assert (first.where, first.line, first.not_run) == (
        ("x:3", "make demo", "")
    )
    assert second.words == ("systemctl", "start", "eda")
    assert second.not_run == "needs systemd"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("make demo", True),
        ("make no-such-target", False),
        ('make chaos CHAOS_ARGS="--seed 1"', True),
        ('make chaos CHAOS_ARGS="--no-such"', False),
        ("ansible-rulebook-ha status --all | head", True),
        ("ansible-rulebook-ha status --no-such", False),
        ("ansible-rulebook --rulebook x.yml --ha-uuid y", True),
        ("ansible-rulebook --ha-no-such y", False),
        ("export EDA_HA_UUID=x", True),
        ("export EDA_HA_NO_SUCH=x", False),
        ("pip install 'ansible-rulebook-ha[embedded]'", True),
        ("pip install 'ansible-rulebook-ha[no-such]'", False),
        (".venv/bin/python no_such.py", False),
        ("./worker1.sh", True),
        ("psql -f x", None),
    ],
)
def test_what_is_accepted(line: str, expected: bool | None) -> None:
    (command,) = commands_of("x", f"::\n\n    $ {line}\n")
    assert is_known(command) is expected
