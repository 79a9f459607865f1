"""A server that is deaf does not keep the process from its end."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from clusters import create_tables
from rig.proxy import Proxy

SCRIPT = """
import sys, time
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.reasons import Reason
from ansible_rulebook.ha.state.history import Beginning, History
from ansible_rulebook.ha.state.history_writer import HistoryWriter
from ansible_rulebook.ha.state.session import StateSession

session = StateSession(Conninfo(sys.argv[1]), "test", Timings())
writer = HistoryWriter(
    History(session, "6b1ab7b8-9a3b-4d6c-8b0e-1d6f4f1c5a3e"))
writer.tell_begin(1, Beginning())
time.sleep(1)
print("up", flush=True)
sys.stdin.readline()
writer.tell_end(1, Reason.STOPPED, 1, 1)
time.sleep(0.5)
writer.close()
print("closed", flush=True)
"""


def test_a_deaf_server_does_not_keep_the_process(dsn: str) -> None:
    create_tables(dsn)
    with Proxy.for_dsn(dsn) as proxy:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, proxy.dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout and process.stdin
        assert process.stdout.readline() == "up\n"
        proxy.deaf()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        began = time.monotonic()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail("it is still there after 40 s")
        took = time.monotonic() - began
        assert took < 5, took
