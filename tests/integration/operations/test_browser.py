"""The page as a browser shows it, beside elections that really run."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from elections import leads, make, pair, until

from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.operations.http import HttpServer
from ansible_rulebook.ha.operations.listen import Listen, bind
from ansible_rulebook.ha.operations.metrics import Metrics
from ansible_rulebook.ha.operations.snapshot import PauseView, Snapshot
from ansible_rulebook.ha.operations.view import (
    ClusterView,
    TermView,
    WorkerView,
)

pytest.importorskip("aiohttp")
from rig.browser import Tab, browser, find_browser

BINARY = find_browser()
AXE = "axe-core@4.14.1"
SEEN_WITHIN = 2.0  # seconds
HOSTILE = "<img src=x onerror=alert(1)>\"'\x1b[31m"

needs_browser = pytest.mark.skipif(
    BINARY is None, reason="no Chromium is installed"
)


class Cluster:
    """Elections of this process, as a worker and as the database see them."""

    def __init__(self, *elections: LeaderElection) -> None:
        self.elections = elections
        self.pause: PauseView | None = None
        self.terms: tuple[TermView, ...] = (
            TermView(1, "w1", time.time() - 60, None, "first", events=5),
        )

    def snapshot(self) -> Snapshot:
        own = self.elections[-1]
        seen, is_leader = own.view(), own.is_leader()
        return Snapshot(
            ha_uuid=str(own.ha_uuid),
            worker_id=own.worker_id,
            version="0.1.0",
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=time.time(),
            role="leader" if is_leader else "follower",
            state=seen.phase,
            term=1 if is_leader else 0,
            leads=is_leader,
            in_session=seen.in_session,
            lease_duration=own.timings.lease_duration,
            last_renewal=time.time() if is_leader else None,
            retained=0,
            pending=0,
            behind=0.0,
        )

    def view(self) -> ClusterView:
        return ClusterView(
            tuple(
                WorkerView(
                    each.worker_id,
                    "leader" if each.is_leader() else "follower",
                    each.view().phase,
                    pid=os.getpid(),
                )
                for each in self.elections
            ),
            self.terms,
            self.pause,
        )

    def serve(self) -> HttpServer:
        sockets = bind(Listen("127.0.0.1", 0), "test")
        server = HttpServer(sockets, self.snapshot, Metrics(), self.view)
        server.start()
        return server


@asynccontextmanager
async def opened(cluster: Cluster) -> AsyncIterator[Tab]:
    assert BINARY is not None
    server = cluster.serve()
    try:
        async with browser(BINARY) as tab:
            await tab.go(f"http://{server.address}/")
            await tab.wait_for(
                "document.getElementById('live').dataset.state === 'live'"
            )
            yield tab
    finally:
        server.stop()


def big(name: str) -> str:
    return f"document.querySelector('.big').textContent === '{name}'"


@needs_browser
@pytest.mark.asyncio
async def test_a_failover_is_seen_on_the_open_page(
    dsn: str, ha_uuid: str
) -> None:
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    cluster = Cluster(first, second)
    async with pair(first, second), opened(cluster) as tab:
        await tab.wait_for(big("w1"))
        first.request_step_down("test")
        await leads(second)
        assert await tab.wait_for(big("w2")) <= SEEN_WITHIN
        assert await tab.run("document.title") == (
            "ansible-rulebook HA: w2 leads"
        )
        assert (
            await tab.run("document.getElementById('news').textContent")
            == "w2 leads."
        )
        assert not tab.told


@needs_browser
@pytest.mark.asyncio
async def test_the_page_says_when_the_worker_is_gone_and_comes_back(
    dsn: str, ha_uuid: str
) -> None:
    assert BINARY is not None
    cluster = Cluster(make(dsn, ha_uuid, "w1"))
    state = "document.getElementById('live').dataset.state"
    server = cluster.serve()
    port = int(server.address.rpartition(":")[2])
    async with browser(BINARY) as tab:
        await tab.go(f"http://{server.address}/")
        await tab.wait_for(f"{state} === 'live'")
        server.stop()
        await tab.wait_for(f"{state} === 'lost'")
        sockets = bind(Listen("127.0.0.1", port), "test")
        server = HttpServer(sockets, cluster.snapshot, Metrics(), cluster.view)
        server.start()
        await tab.wait_for(f"{state} === 'live'")
        server.stop()


@needs_browser
@pytest.mark.asyncio
async def test_a_hostile_text_runs_nothing(dsn: str, ha_uuid: str) -> None:
    cluster = Cluster(make(dsn, ha_uuid, "w1"))
    cluster.pause = PauseView(HOSTILE, HOSTILE, 1.0)
    cluster.terms = (TermView(1, HOSTILE, 1.0, 2.0, HOSTILE, HOSTILE),)
    async with opened(cluster) as tab:
        assert await tab.run("document.querySelectorAll('img').length") == 0
        # What stands in the page must not run, not even if it got there.
        await tab.run(
            "document.getElementById('state').innerHTML ="
            " '<img src=x onerror=\"window.hacked = 1\">'"
        )
        # By the time that a later image is known to be missing, the handler
        # of that one would have run.
        await tab.run(
            "new Promise(done => { const later = new Image();"
            " later.onerror = () => done(true); later.src = 'x'; })"
        )
        assert await tab.run("window.hacked === undefined")


@needs_browser
@pytest.mark.asyncio
async def test_the_page_fits_a_phone_and_is_used_with_a_keyboard(
    dsn: str, ha_uuid: str
) -> None:
    cluster = Cluster(make(dsn, ha_uuid, "w" * 150))
    async with opened(cluster) as tab:
        for width in (320, 1280):
            await tab.look_like(width, 700)
            assert await tab.run("document.body.scrollWidth") <= width
        focused = []
        for _ in range(7):
            await tab.press("Tab")
            focused.append(
                await tab.run(
                    "document.activeElement.id"
                    " || document.activeElement.getAttribute('href')"
                )
            )
        assert focused[0] == "#main"
        assert {"workers", "terms", "status", "metrics"} <= set(focused)
        # An update does not take the focus away.
        await tab.run("document.getElementById('terms').focus()")
        cluster.terms = (TermView(9, "w9", time.time()),)
        await tab.wait_for(
            "document.getElementById('terms').textContent.includes('w9')"
        )
        assert await tab.run("document.activeElement.id") == "terms"


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The checks of axe-core, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run(
        [npm, "pack", "--silent", AXE],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if packed.returncode:
        pytest.skip(f"npm has no {AXE}")
    with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        yield script.read().decode()


@needs_browser
@pytest.mark.asyncio
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
async def test_axe_finds_nothing(
    axe: str, dsn: str, ha_uuid: str, dark: bool, width: int
) -> None:
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    cluster = Cluster(first, second)
    cluster.pause = PauseView("ann@host", "an update", 1.0, 4e9)
    async with pair(first, second), opened(cluster) as tab:
        await tab.look_like(width, 800, dark)
        await tab.run(axe + "; true")
        found: dict[str, Any] = await tab.run(
            "axe.run(document, {resultTypes: ['violations', 'incomplete']})"
            ".then(({violations, incomplete, passes}) => ({"
            "wrong: violations.map(({id}) => id),"
            "bad: [...violations, ...incomplete].map(({id, nodes}) =>"
            " [id, nodes.map((node) => node.html)]),"
            "good: passes.map(({id}) => id)}))"
        )
        # What is scrolled out of sight on a phone has no contrast to see.
        unsure = ["color-contrast"] if width < 600 else []
        assert [b for b in found["bad"] if b[0] not in unsure] == []
        assert found["wrong"] == []
        assert "color-contrast" in found["good"]


@needs_browser
@pytest.mark.asyncio
async def test_the_database_is_asked_only_while_somebody_looks(
    dsn: str, ha_uuid: str
) -> None:
    election = make(dsn, ha_uuid, "w1")
    cluster = Cluster(election)
    asked = 0

    class Counting(Cluster):
        def view(self) -> ClusterView:
            nonlocal asked
            asked += 1
            return super().view()

    cluster = Counting(election)
    async with opened(cluster) as tab:
        await until(lambda: asked > 3)
        await tab.call("Page.navigate", url="about:blank")
        before = -1
        while before != asked:  # it stops
            before = asked
            await asyncio.sleep(2)
