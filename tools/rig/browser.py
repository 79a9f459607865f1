"""A headless Chromium, driven through its debugging port."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
LIMIT = 60.0  # seconds for anything that the browser is asked for
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # root has none; what is shown here is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_browser() -> str | None:
    """Where one is, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page. ``told`` has what its console and its security policy said."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.ensure_future(self._read())
        self.told: list[str] = []

    async def _read(self) -> None:
        async for message in self._socket:
            heard = json.loads(message.data)
            answer = self._answers.pop(heard.get("id", 0), None)
            if answer is not None and not answer.done():
                answer.set_result(heard)
            elif heard.get("method") in (
                "Log.entryAdded",
                "Runtime.exceptionThrown",
                "Runtime.consoleAPICalled",
            ):
                self.told.append(json.dumps(heard["params"]))

    async def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its result."""
        number = next(self._ids)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        await self._socket.send_json(
            {"id": number, "method": method, "params": params}
        )
        heard = await asyncio.wait_for(answer, LIMIT)
        assert "error" not in heard, heard
        return heard["result"]

    async def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        result = await self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def go(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self.wait_for("document.readyState === 'complete'")

    async def wait_for(self, script: str, limit: float = LIMIT) -> float:
        """Wait until an expression is true.

        :returns: the seconds that took.
        """
        began = time.monotonic()
        while not await self.run(script):
            if time.monotonic() - began > limit:
                shown = await self.run("document.body.innerText")
                raise AssertionError(f"not so: {script}\n{shown}")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def press(self, key: str) -> None:
        """One key."""
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key)

    async def look_like(
        self, width: int, height: int, dark: bool = False
    ) -> None:
        """Have a window of that size, and a colour scheme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = "dark" if dark else "light"
        await self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    async def picture(self) -> bytes:
        """All of the page as PNG."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        taken = await self.call(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={**size, "scale": 1},
        )
        return base64.b64decode(taken["data"])

    async def close(self) -> None:
        self._reading.cancel()
        await self._socket.close()


@contextlib.asynccontextmanager
async def browser(binary: str) -> AsyncIterator[Tab]:
    """An empty tab of a browser of its own."""
    with _folder() as folder:
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            binary,
            *OPTIONS,
            f"--user-data-dir={folder}",
            "about:blank",
            stdin=nowhere,
            stdout=nowhere,
            stderr=nowhere,
        )
        try:
            port = await _port(Path(folder) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                made = await session.put(f"http://127.0.0.1:{port}/json/new")
                target = json.loads(await made.text())
                socket = await session.ws_connect(
                    target["webSocketDebuggerUrl"], max_msg_size=0
                )
                tab = Tab(socket)
                try:
                    yield tab
                finally:
                    await tab.close()
        finally:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()


async def _port(file: Path) -> str:
    deadline = time.monotonic() + LIMIT
    while True:
        port = _first_line(file)
        if port:
            return port
        assert time.monotonic() < deadline, "the browser did not start"
        await asyncio.sleep(0.05)


def _first_line(file: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return file.read_text("utf-8").partition("\n")[0]
    return ""


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp()
    try:
        yield folder
    finally:  # the browser's children may still write
        shutil.rmtree(folder, ignore_errors=True)
