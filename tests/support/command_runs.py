"""Runs of ``ansible-rulebook-ha``."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from clusters import LIMIT
from rig.workers import worker_env

from ansible_rulebook.ha.operations.commands import main
from ansible_rulebook.ha.operations.exit_codes import ExitCode
from ansible_rulebook.ha.upstream.names import is_able_to_keep_state

COMMAND = [sys.executable, "-m", "ansible_rulebook.ha.operations.commands"]

# How "check" ends if all is well: it warns of an upstream without state.
WELL = ExitCode.DONE if is_able_to_keep_state() else ExitCode.DEGRADED


class Done(NamedTuple):
    """How a run ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it printed, which is one object."""
        (line,) = self.stdout.splitlines()
        return json.loads(line)


def run(*args: str, **variables: str) -> Done:
    """The command, in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in variables.items():
            patch.setenv(name, value)
        stack.enter_context(contextlib.redirect_stdout(stdout))
        stack.enter_context(contextlib.redirect_stderr(stderr))
        try:
            code = main(args)
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def start(*args: str, **variables: str) -> Done:
    """The command, as a user runs it."""
    done = subprocess.run(
        [*COMMAND, *args],
        env=worker_env(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return Done(done.returncode, done.stdout, done.stderr)
