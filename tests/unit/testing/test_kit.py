"""The kit for authors of sources: what it finds, and what it lets pass."""

from __future__ import annotations

import asyncio
import inspect
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_rulebook.engine import FilteredQueue

from ansible_rulebook.ha.testing import HaSources, SourceFault
from ansible_rulebook.ha.testing.plugin import load
from ansible_rulebook.ha.testing.stage import SourceQueue

FAST: dict[str, Any] = {
    "lease_duration": 1.5
}  # seconds: a demotion may take half a second
ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "tests" / "sources" / "example_ha_source.py"


async def count(queue: Any, args: dict[str, Any]) -> None:
    number = 0
    while True:
        number += 1
        await queue.put({"number": number})
        await asyncio.sleep(0.01)


def told(fault: pytest.ExceptionInfo[SourceFault]) -> str:
    (text,) = fault.value.faults
    return text


# -- what is well ------------------------------------------------------------


def test_a_source_that_knows_nothing_of_it_passes(
    ha_source: HaSources,
) -> None:
    ha_source.check(count)


def test_terms_are_fresh_starts_for_an_unaware_source(
    ha_source: HaSources,
) -> None:
    source = ha_source(count)
    assert source.starts == 0
    for term in (1, 2):
        source.promote()
        assert source.events(2) == [{"number": 1}, {"number": 2}]
        source.demote()
        assert source.starts == term
        assert not source.is_leader
        source.take_events()


def test_a_lost_lease_stops_events_before_anybody_is_told(
    ha_source: HaSources,
) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        while not args["shutdown_event"].is_set():
            if args["leader_event"].is_set():
                put.append(args["leader_event"].is_set())
                await queue.put("one")
            await asyncio.sleep(0.01)

    put: list[bool] = []
    source = ha_source(main, queue_size=1000)  # there is room all the time
    source.promote()
    assert source.event() == "one"
    source.lose_lease()
    assert not source.is_leader
    source.wait_until_put_waits()
    assert all(put)  # as far as the source knows, it leads
    with pytest.raises(SourceFault, match="No event came"):
        while True:  # what was in the queue is not given, either
            source.event(within=0.1)


@pytest.mark.asyncio
async def test_it_works_in_a_test_with_a_loop_of_its_own(
    ha_source: HaSources,
) -> None:
    source = ha_source(count)
    source.promote()
    assert source.event() == {"number": 1}


def test_a_coroutine_of_the_test_runs_on_the_source_s_loop(
    ha_source: HaSources,
) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(3600)

    async def mine() -> Any:
        return asyncio.get_running_loop()

    loops: list[Any] = []
    source = ha_source(main)
    source.promote()
    assert [source.run(mine())] == loops


def test_an_error_of_main_is_the_test_s_to_expect(
    ha_source: HaSources,
) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        await asyncio.sleep(0.05)
        raise ValueError("no such host")

    source = ha_source(main)
    source.promote()
    with pytest.raises(ValueError, match="no such host"):
        source.wait_until_ended()


def test_a_list_is_put_event_by_event(ha_source: HaSources) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        await queue.put([1, 2])
        await asyncio.sleep(3600)

    source = ha_source(main)
    source.promote()
    assert source.events(2) == [1, 2]


def test_a_source_s_queue_has_what_upstream_s_has() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in vars(kind).items()
            if inspect.isfunction(method) and not name.startswith("_")
        }

    ours = methods(SourceQueue)
    del ours["bind"]
    assert ours == methods(FilteredQueue)


# -- which kind it is --------------------------------------------------------


def test_a_path_a_module_and_a_main_are_judged_alike() -> None:
    contents = runpy.run_path(str(EXAMPLE))
    module = ModuleType("example")
    module.__file__ = str(EXAMPLE)
    module.__dict__.update(contents)
    for given in (EXAMPLE, str(EXAMPLE), module, contents["main"]):
        assert load(given).is_aware
    assert not load(count).is_aware


def test_a_function_is_judged_by_itself() -> None:
    async def aware(queue: Any, args: dict[str, Any]) -> None:
        args["leader_event"].is_set()

    assert load(aware).is_aware


@pytest.mark.parametrize("code", ["", "def main(queue, args):\n    pass\n"])
def test_a_plugin_that_upstream_refuses_is_refused(
    code: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(code)
    with pytest.raises(TypeError, match="async def main"):
        load(path)


# -- what is found -----------------------------------------------------------


def test_a_task_that_goes_on_is_found(ha_source: HaSources) -> None:
    async def poll(queue: Any) -> None:
        await asyncio.sleep(3600)

    async def main(queue: Any, args: dict[str, Any]) -> None:
        asyncio.ensure_future(poll(queue)).set_name("poller")
        await count(queue, args)

    source = ha_source(main)
    source.promote()
    with pytest.raises(SourceFault, match=r"at demotion:\n- ") as fault:
        source.demote()
    assert told(fault).startswith("Task 'poller' (test_a_task_that_goes")
    assert "test_kit.py:" in told(fault)
    assert told(fault).endswith(" in poll.")


def test_an_event_of_such_a_task_is_found(ha_source: HaSources) -> None:
    async def poll(queue: Any) -> None:
        await go[0].wait()
        await queue.put("late")

    async def let_go() -> None:
        go[0].set()
        await asyncio.wait(polling)

    async def main(queue: Any, args: dict[str, Any]) -> None:
        go.append(asyncio.Event())
        polling.append(asyncio.ensure_future(poll(queue)))
        await asyncio.sleep(3600)

    go: list[asyncio.Event] = []
    polling: list[Any] = []
    source = ha_source(main, tolerate=["poll"])
    source.promote()
    source.demote()
    with pytest.raises(SourceFault, match="after the source's term: 'late'"):
        source.run(let_go())


def test_an_open_port_is_found(ha_source: HaSources) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        listening.append(socket.create_server(("127.0.0.1", 0)))
        await asyncio.sleep(3600)

    listening: list[socket.socket] = []
    source = ha_source(main)
    source.promote()
    port = listening[0].getsockname()[1]
    with pytest.raises(SourceFault) as fault:
        source.demote()
    listening[0].close()
    assert told(fault) == f"A socket that listens on 127.0.0.1:{port} is open."


def test_an_open_file_is_found(ha_source: HaSources) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        opened.append(tempfile.NamedTemporaryFile())  # noqa: SIM115
        await asyncio.sleep(3600)

    opened: list[Any] = []
    source = ha_source(main)
    source.promote()
    with pytest.raises(SourceFault) as fault:
        source.demote()
    opened[0].close()
    assert told(fault) == f"File {opened[0].name} is open."


def test_a_thread_that_goes_on_is_found(ha_source: HaSources) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        threading.Thread(target=end.wait, name="watcher").start()
        await asyncio.sleep(3600)

    end = threading.Event()
    source = ha_source(main)
    source.promote()
    with pytest.raises(SourceFault, match="Thread 'watcher' goes on, "):
        source.demote()
    end.set()


def test_a_call_in_a_thread_that_goes_on_is_found(
    ha_source: HaSources,
) -> None:
    def wait_for_a_line() -> None:
        end.wait()

    async def main(queue: Any, args: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, wait_for_a_line)

    end = threading.Event()
    source = ha_source(main)
    source.promote()
    with pytest.raises(SourceFault, match=r"executor goes on: .*for_a_line"):
        source.demote()
    end.set()


def test_a_main_that_ends_on_a_follower_is_found(
    ha_source: HaSources,
) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        args["leader_event"].is_set()

    with pytest.raises(SourceFault, match="main ended on a follower"):
        ha_source(main)


def test_a_put_on_a_follower_is_found(ha_source: HaSources) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        args.get("leader_event")
        await queue.put("early")

    with pytest.raises(SourceFault, match="comes late"):
        ha_source(main)


def test_a_swallowed_cancellation_is_found(ha_source: HaSources) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        while not end.is_set():
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue

    end = threading.Event()
    source = ha_source(main, **FAST)
    source.promote()
    with pytest.raises(SourceFault, match=r"within 0\.5 s after its") as fault:
        source.demote()
    assert "in main" in told(fault)
    end.set()


def test_a_blocked_loop_is_found_with_its_stack(ha_source: HaSources) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        await queue.put("now it blocks")
        time.sleep(1.5)  # noqa: ASYNC251
        await asyncio.sleep(3600)

    source = ha_source(main)
    with pytest.raises(SourceFault, match="blocked for over a second"):
        source.promote()
        source.settle()


def test_a_loop_that_stays_blocked_does_not_hang_the_test(
    ha_source: HaSources,
) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            end.wait()

    end = threading.Event()
    source = ha_source(main, **FAST)
    source.promote()
    with pytest.raises(SourceFault, match="does not come back") as fault:
        source.demote()
    assert "end.wait()" in told(fault)
    end.set()


def test_a_shutdown_that_is_not_heeded_is_found(ha_source: HaSources) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        await args["leader_event"].wait()

    source = ha_source(main)
    with pytest.raises(SourceFault, match="when shutdown_event is set"):
        source.shut_down()


def test_a_main_that_ends_of_itself_cannot_be_checked(
    ha_source: HaSources,
) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        await queue.put("only one")

    with pytest.raises(SourceFault, match="main ended by itself"):
        ha_source.check(main)


def test_a_main_that_fails_is_shown(ha_source: HaSources) -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        raise ValueError("no such host")

    source = ha_source(main)
    with pytest.raises(SourceFault, match="ValueError: no such host"):
        source.promote()


def test_a_test_need_not_shut_down() -> None:
    async def main(queue: Any, args: dict[str, Any]) -> None:
        await args["leader_event"].wait()

    sources = HaSources()
    sources(main)
    with pytest.raises(SourceFault, match="shutdown_event"):
        sources.close()


# -- in other people's runs --------------------------------------------------


def run_pytest(
    folder: Path, *options: str, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={
            key: value
            for key, value in os.environ.items()
            if not key.startswith("PYTEST_")
        },
    )


def test_a_run_that_does_not_use_it_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert '_ansible_rulebook_ha_pytest' in sys.modules\n"
        "    assert not [m for m in sys.modules\n"
        "                if m.startswith('ansible_rulebook')]\n"
    )
    done = run_pytest(tmp_path, "-W", "error", "-p", "no:asyncio")
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_plugin_for_asyncio_and_with_no_database_client(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import sys\n"
        "def test_it(ha_source):\n"
        f"    ha_source.check({str(EXAMPLE)!r}, {{'delay': 0.01}})\n"
        "    assert not [m for m in ('psycopg', 'jpy', 'drools')\n"
        "                if m in sys.modules]\n"
    )
    done = run_pytest(tmp_path, "-p", "no:asyncio")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_thread_that_never_ends_does_not_keep_pytest(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import asyncio, concurrent.futures, threading\n"
        "async def main(queue, args):\n"
        "    with concurrent.futures.ThreadPoolExecutor() as pool:\n"
        "        wait = threading.Event().wait\n"
        "        loop = asyncio.get_running_loop()\n"
        "        await loop.run_in_executor(pool, wait)\n"
        "def test_it(ha_source):\n"
        "    source = ha_source(main, lease_duration=1.5)\n"
        "    source.promote()\n"
        "    source.demote()\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "event loop is blocked, and does not come back" in done.stdout
    assert "pytest is ended, since threads of an event source" in done.stderr
