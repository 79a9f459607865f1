"""A worker ends itself when one of its two loops is dead."""

from __future__ import annotations

import subprocess
import sys

# With short limits, since nobody wants to wait for a minute.
SCRIPT = """
import asyncio, logging, sys, time, uuid
from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.election import thread as election_thread
from ansible_rulebook.ha.log import WorkerLog
from ansible_rulebook.ha.rulebook.self_fence import SelfFence

election_thread.DEAD_LOOP_AFTER = 1.5
election_thread.PING_EVERY = 0.1
dsn, ha_uuid, block = sys.argv[1], sys.argv[2], float(sys.argv[3])
which = sys.argv[4]

elections = []

def make_election(**callbacks):
    made = LeaderElection(
        dsn, ha_uuid, poll_interval=0.5, lease_duration=1, **callbacks
    )
    made.loop = asyncio.get_running_loop()
    elections.append(made)
    return made

async def main():
    led = asyncio.Event()
    async def promote(term):
        led.set()
    async def demote(reason):
        print("demoted", flush=True)
    self_fence = SelfFence(
        lambda: print("killed actions", flush=True),
        lambda: ["source::deaf"],
        WorkerLog(logging.getLogger(), "one", uuid.UUID(ha_uuid)),
    )
    thread = election_thread.ElectionThread(
        make_election, promote, demote, lambda ends_at: None,
        lambda error: None, lambda request: None,
        lambda leader: None, self_fence,
    )
    thread.start()
    await led.wait()
    if which == "main":
        time.sleep(block)
    else:
        assert thread.responds(10)
        (election,) = elections
        election.loop.call_soon_threadsafe(time.sleep, block)
        print("responds", thread.responds(0.05), flush=True)
        await asyncio.sleep(block)
    await asyncio.sleep(0.5)
    await thread.shut_down()
    print("stopped", flush=True)

asyncio.run(main())
"""


def run(
    dsn: str, ha_uuid: str, block: float, which: str = "main"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, dsn, ha_uuid, str(block), which],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_loop_that_never_answers_ends_the_worker(
    dsn: str, ha_uuid: str
) -> None:
    ended = run(dsn, ha_uuid, block=50)
    assert ended.returncode == 75, ended
    assert ended.stdout == "killed actions\n"
    assert "Worker one: " in ended.stderr
    assert "no life in the main loop" in ended.stderr
    assert "still running: source::deaf" in ended.stderr
    assert "time.sleep" in ended.stderr or "in main" in ended.stderr


def test_a_loop_that_answers_late_goes_on(dsn: str, ha_uuid: str) -> None:
    ended = run(dsn, ha_uuid, block=0.5)
    assert ended.returncode == 0, ended
    assert ended.stdout == "demoted\nstopped\n"


def test_an_election_that_never_answers_ends_the_worker(
    dsn: str, ha_uuid: str
) -> None:
    ended = run(dsn, ha_uuid, block=50, which="election")
    assert ended.returncode == 75, ended
    assert ended.stdout == "responds False\nkilled actions\n"
    assert "no life in the election" in ended.stderr


def test_an_election_that_answers_late_goes_on(dsn: str, ha_uuid: str) -> None:
    ended = run(dsn, ha_uuid, block=0.5, which="election")
    assert ended.returncode == 0, ended
    assert ended.stdout.startswith("responds False\n")
    assert ended.stdout.endswith("stopped\n")
