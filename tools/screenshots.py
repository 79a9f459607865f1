"""Pictures of the page for the documentation: ``make screenshots``.

They show a cluster that is thought up, at a time that is fixed.
"""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path

from rig.browser import browser, find_browser

from ansible_rulebook.ha.operations.page.files import FILES
from ansible_rulebook.ha.operations.page.render import Moment, Rate, document
from ansible_rulebook.ha.operations.snapshot import Snapshot
from ansible_rulebook.ha.operations.view import (
    ClusterView,
    TermView,
    WorkerView,
)

FOLDER = Path(__file__).parents[1] / "docs" / "images"
NOW = 1_800_000_000.0
HOUR = 3600.0
LOOKS = (
    ("page-light.png", 1200, False),
    ("page-dark.png", 1200, True),
    ("page-phone.png", 390, False),
)
WORKERS = (
    WorkerView(
        "eda-2", "leader", "leading", "host-2", 812, NOW - 2 * HOUR
    )._replace(http="10.0.0.2:8080"),
    WorkerView("eda-1", "follower", "contending", "host-1", 455, NOW - HOUR),
    WorkerView("eda-3", "follower", "contending", "host-3", 97, NOW - HOUR),
)
TERMS = (
    TermView(
        14, "eda-2", NOW - 2 * HOUR, None,
        "replaces eda-1, whose session had ended", "", 0.006, 93_412, 1_204,
    ),
    TermView(
        13, "eda-1", NOW - 7 * HOUR, NOW - 2 * HOUR - 0.006,
        "asked by ann: maintenance", "killed", 0.081, 214_005, 2_816,
    ),
    TermView(
        12, "eda-3", NOW - 9 * HOUR, NOW - 7 * HOUR - 0.081,
        "replaces eda-2, whose lease ran out", "switchover", 15.2, 71_220, 919,
    ),
    TermView(
        11, "eda-2", NOW - 12 * HOUR, NOW - 9 * HOUR - 15.2,
        "the first of this cluster", "lease_expired", None, 120_300, 1_511,
    ),
)  # fmt: skip


def moment() -> Moment:
    """What is shown."""
    worker = Snapshot(
        ha_uuid="0d8f3a52-7d6e-4b6c-8f0e-5f2f5f0c9a11",
        worker_id="eda-2",
        version="0.1.0",
        host="host-2",
        pid=812,
        started_at=NOW - 8 * HOUR,
        role="leader",
        state="leading",
        term=14,
        since=NOW - 2 * HOUR,
        leads=True,
        in_session=True,
        lease_duration=15.0,
        last_renewal=NOW - 1.2,
        retained=1_284,
        pending=3,
        behind=0.004,
    )
    waves = [14 + 6 * math.sin(at / 9) + 3 * math.sin(at) for at in range(240)]
    return Moment(
        worker,
        ClusterView(WORKERS, TERMS),
        NOW,
        True,
        NOW,
        Rate(tuple(waves)),
        Rate(tuple(wave / 9 for wave in waves)),
    )


def standing_alone() -> str:
    """The page without a server, since only what it looks like is wanted."""
    style = FILES["/page.css"].content.decode()
    text = document(moment()).replace("as of when the page was opened", "live")
    text = text.replace('class="live"', 'class="live" data-state="live"')
    return text.replace(
        '<link rel="stylesheet" href="page.css">', f"<style>{style}</style>"
    )


async def main() -> int:
    binary = find_browser()
    if binary is None:
        print("no Chromium is installed", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with browser(binary) as tab:
        await tab.go("about:blank")
        tree = await tab.call("Page.getFrameTree")
        frame = tree["frameTree"]["frame"]["id"]
        for name, width, dark in LOOKS:
            await tab.look_like(width, 800, dark)
            await tab.call(
                "Page.setDocumentContent", frameId=frame, html=standing_alone()
            )
            _write(FOLDER / name, await tab.picture())
    return 0


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    print(file)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
