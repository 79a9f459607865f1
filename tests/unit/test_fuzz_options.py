"""Options, variables and DSNs, whatever somebody gives.

Hypothesis makes them up: right ones, torn ones, ones in a wrong place, and
noise. Each gets options, or one line that names an option. Wherever a
connection string has a password, no piece of it comes out again.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import subprocess
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_rulebook.ha import options as ha_options
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.errors import OptionError
from ansible_rulebook.ha.options import (
    HaOptions,
    Option,
    WithoutDsn,
    read_options,
)
from ansible_rulebook.ha.redaction import mask_password

UUID = "01234567-89ab-cdef-0123-456789abcdef"
# Pieces that no message has; a password is made of all of them.
PIECES = ("zqa", "qjz", "xjk")
LONGEST = 5.0  # seconds for any answer; a hang is what it tells apart
OPTIONS = [
    value for value in vars(ha_options).values() if isinstance(value, Option)
]
FLAGS = [option for option in OPTIONS if option is not ha_options.POOLER]
FIXED = settings(max_examples=2000, derandomize=True, database=None)

Grown = Callable[[str], str]


def traceback_of(error: BaseException) -> str:
    # Python 3.9 wants all three.
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return "".join(lines)


def leaked(text: str) -> list[str]:
    return [piece for piece in PIECES if piece in text.lower()]


# -- what is given -----------------------------------------------------------

# What moves the borders of a URI, of a pair, of a line; and what stands for
# a byte of an argument that is no UTF-8.
ODD = "@:/?#&=%[],;.'\"\\ \t\n\r\v\x85\u2028\u00e4\U0001f511|$`-_7\udcff"
odd = st.lists(st.sampled_from(ODD), max_size=3).map("".join)
passwords = st.builds(
    lambda pieces, between: "".join(
        itertools.chain.from_iterable(zip(pieces, [*between, ""]))
    ),
    st.just(PIECES),
    st.tuples(odd, odd),
)


def encoded(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


# Right ones: libpq reads the password whole (unless it is no text at all).
WHOLE: Sequence[Grown] = (
    lambda p: f"postgresql://eda:{encoded(p)}@db.example:5432/eda",
    lambda p: f"postgres://eda:{encoded(p)}@a,b:1/eda?connect_timeout=3",
    lambda p: f"postgresql://db.example/eda?user=eda&password={encoded(p)}",
    lambda p: f"host=db.example user=eda password='{escaped(p)}'",
    lambda p: f"password = '{escaped(p)}' host=db.example",
    lambda p: f"host=db.example sslpassword='{escaped(p)}' sslkey=k",
)
# Ones that somebody typed who did not know about encoding and quoting.
TORN: Sequence[Grown] = (
    lambda p: f"postgresql://eda:{p}@db.example:5432/eda",
    lambda p: f"postgresql://eda:{p}@db.example",
    lambda p: f"POSTGRESQL://eda:{p}@db.example/eda",
    lambda p: f"postgresql://:{p}@/eda",
    lambda p: f"postgres://eda:{p}@[::1]:5432/eda",
    lambda p: f"mysql://eda:{p}@db.example/eda",
    lambda p: f"jdbc:postgresql://eda:{p}@db.example/eda",
    lambda p: f" postgresql://eda:{p}@db.example/eda",
    lambda p: f"'postgresql://eda:{p}@db.example/eda'",
    lambda p: f"dbname=postgresql://eda:{p}@db.example/eda",
    lambda p: f"host=db.example password={escaped(p)}",
    lambda p: f"host=db.example password='{p}",
)
dsns = st.builds(
    lambda make, password: make(password),
    st.sampled_from([*WHOLE, *TORN]),
    passwords,
)
noise = st.text(
    st.characters(exclude_characters="\0"), max_size=30
) | st.from_regex(r"\A[-+.0-9eEinfa_ ]{0,12}\Z")
right: dict[str, st.SearchStrategy[str]] = {
    ha_options.DSN.flag: st.just("postgresql://eda@db.example/eda"),
    ha_options.HA_UUID.flag: st.just(UUID) | st.uuids().map(str),
    ha_options.POLL.flag: st.floats(0.01, 3600).map(repr),
    ha_options.LEASE.flag: st.floats(1, 3600).map(repr),
    ha_options.POOLER.flag: st.sampled_from(["true", "off", "YES", "0"]),
}


def value_of(option: Option) -> st.SearchStrategy[str | None]:
    """Mostly right ones, or no second option would ever be looked at."""
    fine = right.get(option.flag, st.text("abcoff-_.", min_size=1))
    return st.none() | fine | fine | dsns | noise


given_values = st.fixed_dictionaries(
    {option.flag: value_of(option) for option in OPTIONS}
)


# -- what comes out ----------------------------------------------------------


@functools.lru_cache
def parser() -> argparse.ArgumentParser:
    """The command's own, with the HA options that we graft onto it."""
    from ansible_rulebook import cli  # type: ignore[attr-defined]

    made: argparse.ArgumentParser = cli.get_parser()
    return made


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace | None, str]:
    """The namespace, or None and what argparse printed."""
    said = io.StringIO()
    # As a terminal has it: what is no text is shown all the same.
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            return parser().parse_args(list(argv)), said.getvalue()
        except SystemExit as end:
            assert end.code == 2, said.getvalue()
            return None, said.getvalue()


def read(
    args: argparse.Namespace, environ: Mapping[str, str]
) -> HaOptions | WithoutDsn | str | None:
    """What it came to; a refusal as its text, which is checked here."""
    began = time.monotonic()
    try:
        found: HaOptions | WithoutDsn | str | None = read_options(
            args, environ
        )
    except OptionError as error:
        found = str(error)
        assert found and len(found.splitlines()) == 1, repr(found)
        # One of them is what the operator has to look at.
        assert any(
            option.flag in found or option.variable in found
            for option in OPTIONS
        ), found
        assert not leaked(found), found
        told = traceback_of(error)
        assert not leaked(told), told
        # Somebody prints it, whatever the terminal's encoding.
        found.encode("utf-8")
    assert time.monotonic() - began < LONGEST
    assert not leaked(repr(found)), found
    return found


@FIXED
@given(
    values=given_values,
    by_variable=st.frozensets(st.sampled_from([o.flag for o in OPTIONS])),
)
def test_options_are_read_or_refused_in_one_line(values, by_variable):
    args = argparse.Namespace()
    environ = {}
    for option in OPTIONS:
        value = values[option.flag]
        if option.flag in by_variable and value is not None:
            environ[option.variable] = value
        else:
            setattr(args, option.dest, value)
    found = read(args, environ)
    if isinstance(found, HaOptions):
        # Whatever it accepts, it accepts rightly.
        assert found.conninfo.dsn == values[ha_options.DSN.flag]
        assert found.ha_uuid == uuid.UUID(values[ha_options.HA_UUID.flag])
        assert 0.01 <= found.timings.poll_interval <= 3600
        assert 1 <= found.timings.lease_duration <= 3600
    elif found is None or isinstance(found, WithoutDsn):
        assert not values[ha_options.DSN.flag]


@settings(FIXED, max_examples=60)
@given(values=st.fixed_dictionaries(right))
def test_what_is_right_is_taken(values):
    args = argparse.Namespace(**{o.dest: values.get(o.flag) for o in OPTIONS})
    assert isinstance(read(args, {}), HaOptions)


@settings(FIXED, max_examples=400)
@given(
    words=st.lists(
        st.sampled_from([*(o.flag for o in OPTIONS), "--rulebook", "-vv"])
        | st.sampled_from(["--ha-postgres-dns", "--ha-dsn", "--ha-", "--"])
        | st.builds(
            "{}={}".format,
            st.sampled_from(OPTIONS).map(lambda option: option.flag),
            dsns,
        )
        | st.builds("--ha-pg={}".format, dsns)
        | dsns
        | noise,
        max_size=6,
    )
)
def test_no_command_line_has_its_password_repeated(words):
    args, said = parse(words)
    assert not leaked(said), said
    assert "Traceback" not in said
    if args is not None:
        read(args, {})


# -- connection strings alone ------------------------------------------------


def conninfo_of(dsn: str) -> Conninfo | None:
    try:
        return Conninfo(dsn, "--ha-postgres-dsn")
    except OptionError as error:
        told = str(error)
        assert told.startswith("--ha-postgres-dsn: ")
        assert len(told.splitlines()) == 1
        assert not leaked(traceback_of(error))
        return None


@FIXED
@given(make=st.sampled_from(WHOLE), password=passwords)
def test_a_right_string_is_taken_and_its_password_masked(make, password):
    read_dsn = conninfo_of(make(password))
    if read_dsn is None:
        with pytest.raises(UnicodeEncodeError):
            password.encode()
        return
    assert password in (read_dsn.get("password"), read_dsn.get("sslpassword"))
    assert not leaked(repr(read_dsn))
    told = f"FATAL: {password}\n refused for '{password}'"
    assert not leaked(read_dsn.redact(told)), read_dsn.redact(told)


@FIXED
@given(make=st.sampled_from(TORN), password=passwords)
@example(make=TORN[0], password="zqa:qjz@xjk")
def test_a_torn_string_is_refused_or_its_password_masked(make, password):
    read_dsn = conninfo_of(make(password))
    if read_dsn is not None:
        assert not leaked(repr(read_dsn)), read_dsn


@FIXED
@given(text=st.text(max_size=60) | noise)
def test_noise_is_taken_or_refused(text):
    read_dsn = conninfo_of(text)
    if read_dsn is not None:
        repr(read_dsn), read_dsn.hosts, read_dsn.redact(text)


@FIXED
@given(
    make=st.sampled_from([*WHOLE, *TORN]),
    password=passwords,
    before=st.sampled_from(["", "unrecognized arguments: ", "-x --ha-dsn="]),
)
def test_masked_text_has_no_piece_of_it(make, password, before):
    masked = mask_password(before + make(password))
    assert not leaked(masked), masked


@pytest.mark.parametrize(
    "text",
    [
        "://a:" * 20_000,
        "://" * 30_000,
        "password=" * 10_000,
        "password='" + "\\" * 100_000,
        "password=" + "\\" * 99_999,
        "?password=" * 10_000,
        "postgresql://eda:" + "@" * 100_000,
        " " * 100_000,
    ],
    ids=lambda text: f"{text[:12]!r}",
)
def test_a_very_long_text_does_not_hang(text):
    """As long as the kernel lets one argument be."""
    began = time.monotonic()
    mask_password(text)
    for option in OPTIONS:
        args = argparse.Namespace(
            ha_postgres_dsn="host=db", ha_uuid=UUID, **{}
        )
        setattr(args, option.dest, text)
        read(args, {})
    assert time.monotonic() - began < LONGEST


# -- the command itself ------------------------------------------------------

RULEBOOK = """
- name: never run
  hosts: all
  sources:
    - eda.builtin.range:
        limit: 1
  rules:
    - name: none
      condition: event.i == 1
      action:
        none:
"""


@pytest.fixture(scope="module")
def rulebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "rulebook.yml"
    path.write_text(RULEBOOK, "utf-8")
    return path


@settings(FIXED, max_examples=12)
@given(
    dsn=dsns.filter(lambda text: "\0" not in text),
    place=st.sampled_from(OPTIONS),
    by_variable=st.booleans(),
)
def test_the_command_ends_with_one_line(rulebook, dsn, place, by_variable):
    """No server is asked: another option is wrong, too."""
    from rig.workers import script, worker_env

    values = {
        ha_options.DSN: "postgresql://eda@127.0.0.1:1/eda",
        ha_options.HA_UUID: UUID,
        ha_options.POLL: "often",
        place: dsn,
    }
    words = [*script(), "--rulebook", str(rulebook)]
    environ = {}
    for option, value in values.items():
        if by_variable or option is ha_options.POOLER:
            environ[option.variable] = value
        else:
            words.append(f"{option.flag}={value}")
    done = subprocess.run(
        words,
        env=worker_env(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 2, said
    assert not leaked(said), said
    (line,) = said.splitlines()
    assert line.startswith("ansible-rulebook: error: "), line
