"""The options of the command, in each of its runs."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from ..errors import OptionError, UpstreamChanged
from ..log import choose_format
from ..options import (
    DSN,
    WORKER_NAME,
    HaOptions,
    add_arguments,
    read_options,
)
from ..own_process import hide
from ..redaction import mask_password, one_line
from ..version import DISTRIBUTION, own_version

EXIT_USAGE = 2
EXIT_ERROR = 1


def graft_cli(cli: Any) -> None:
    """Give ``ansible_rulebook.cli`` the HA options.

    Called by the start-up module when the command has been imported, and a
    second time if our script started it.
    """
    if cli.get_parser.__module__ == __name__:
        return
    upstream_parser = cli.get_parser
    upstream_validate = cli.validate_args

    def get_parser() -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = upstream_parser()
        add_arguments(parser)
        _keep_abbreviations(parser)
        _show_version(parser)
        _mask_errors(parser)
        return parser

    def validate_args(args: argparse.Namespace) -> None:
        upstream_validate(args)
        try:
            options = read_options(args, os.environ)
            if options is not None:
                choose_format(os.environ)
        except OptionError as error:
            exit_with(EXIT_USAGE, str(error))
        if options is not None:
            if isinstance(options, HaOptions):
                setattr(args, DSN.dest, None)  # logs may show it
                hide(options.conninfo)
            from .app import install  # which a plain run does not load

            try:
                install(options)
            except UpstreamChanged as error:
                exit_with(EXIT_ERROR, str(error))

    cli.get_parser = get_parser
    cli.validate_args = validate_args


def exit_with(code: int, message: str) -> NoReturn:
    """End the command with one line."""
    print(f"ansible-rulebook: error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(code)


def _keep_abbreviations(parser: argparse.ArgumentParser) -> None:
    """``--work`` stays upstream's ``--worker``, and not one of two flags."""
    upstream_matches = parser._get_option_tuples

    def matches(option_string: str) -> Any:
        return [
            found
            for found in upstream_matches(option_string)
            if found[1] != WORKER_NAME.flag
        ]

    parser._get_option_tuples = matches  # type: ignore[method-assign]


def _mask_errors(parser: argparse.ArgumentParser) -> None:
    """A mistyped flag is repeated in the error, and its value with it."""
    upstream_error = parser.error

    def error(message: str) -> NoReturn:
        upstream_error(mask_password(message))

    parser.error = error  # type: ignore[method-assign]


def _show_version(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._VersionAction):
            action.version = (
                f"{action.version}\n{DISTRIBUTION} [{own_version()}]"
            )
