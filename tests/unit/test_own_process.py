"""What /proc shows of a process that has hidden its DSN."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="needs Linux's /proc"
)

DSN = "postgresql://eda:hidden-word@db/eda"
VARIABLES = {
    "BEFORE": "kept",
    "EDA_HA_POSTGRES_DSN": DSN,
    "NOT_EDA_HA_POSTGRES_DSN": "kept, too",
    "SAYS": "EDA_HA_POSTGRES_DSN=nothing",
}
SHOW = """
import os, sys
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.own_process import hide
hide(Conninfo(os.environ["EDA_HA_POSTGRES_DSN"]))
assert "EDA_HA_POSTGRES_DSN" not in os.environ
for name in ("environ", "cmdline"):
    with open(f"/proc/self/{name}", "rb") as shown:
        sys.stdout.buffer.write(shown.read())
# All of the others can still be read, and are passed on.
sys.stdout.flush()
import subprocess
subprocess.run(["env"], check=True)
"""


def shown(*arguments: str) -> bytes:
    """What the process shows, and then its child's environment."""
    return subprocess.run(
        [sys.executable, "-c", SHOW, *arguments],
        env={"PATH": os.environ["PATH"], **VARIABLES},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


def test_hides_the_variable_and_nothing_else() -> None:
    output = shown()
    assert b"hidden-word" not in output
    stars = b"*" * len(DSN)
    assert b"\0EDA_HA_POSTGRES_DSN=%b\0" % stars in output
    for name, value in VARIABLES.items():
        if value != DSN:
            pair = f"{name}={value}".encode()
            assert b"\0%b\0" % pair in output  # of the process
            assert b"\n%b\n" % pair in output.replace(b"\0", b"\n")


def test_hides_the_argument_as_well() -> None:
    output = shown(DSN)
    assert b"hidden-word" not in output
    assert b"***" in output
