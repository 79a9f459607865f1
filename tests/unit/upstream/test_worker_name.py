"""``--worker-name``, and the flags of upstream beside it."""

from __future__ import annotations

import argparse

import pytest

from ansible_rulebook import cli  # type: ignore[attr-defined]
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.errors import OptionError
from ansible_rulebook.ha.options import (
    WithoutDsn,
    add_arguments,
    read_options,
)

UUID = "01234567-89ab-cdef-0123-456789abcdef"
VARIABLE = {"EDA_HA_WORKER_ID": "by variable"}


def parse(*words: str) -> argparse.Namespace:
    made: argparse.Namespace = cli.get_parser().parse_args(list(words))
    return made


def worker_id(args: argparse.Namespace) -> str | None:
    options = read_options(args, VARIABLE)
    assert isinstance(options, WithoutDsn)
    return options.complete(Conninfo("host=db1")).worker_id


@pytest.mark.parametrize("word", ["--wo", "--work", "--worke", "--worker"])
def test_abbreviations_stay_upstreams(word: str):
    args = parse(word, "--id", "1")
    assert args.worker is True
    assert args.worker_name is None


def test_it_names_the_worker():
    uuid = ("--ha-uuid", UUID)
    assert worker_id(parse(*uuid)) == "by variable"
    assert worker_id(parse(*uuid, "--worker-name", "my name")) == "my name"
    assert (
        worker_id(parse(*uuid, "--worker-name=a", "--ha-worker-id=b")) == "b"
    )


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "x" * 201])
def test_a_name_that_cannot_be_used_is_refused_under_its_flag(name: str):
    args = parse("--ha-uuid", UUID, f"--worker-name={name}")
    with pytest.raises(OptionError, match=r"^--worker-name"):
        read_options(args, {})


def test_without_a_cluster_it_is_refused():
    with pytest.raises(OptionError, match=r"^--worker-name .*--ha-uuid"):
        read_options(parse("--worker-name", "alpha"), {})


def test_what_is_known_before_the_variables_shows_no_password():
    uri = "postgresql://eda:hidden-word@db1/eda"
    words = ("--ha-uuid", UUID, "--ha-on-transition", f"tell {uri}")
    options = read_options(parse(*words), {})
    assert isinstance(options, WithoutDsn)
    assert "hidden-word" not in repr(options)


def test_an_upstream_that_has_it_keeps_its_own():
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker-name", help="upstream's")
    add_arguments(parser)
    args = parser.parse_args(["--ha-uuid", UUID, "--worker-name", "alpha"])
    assert worker_id(args) == "alpha"
    assert "upstream's" in parser.format_help()
