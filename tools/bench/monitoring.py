"""What it costs to be watched: counters, scrapes, and an open page.

Two workers with state and nothing to do, each of a cluster of its own, take
turns. One serves HTTP, is scraped each second, and somebody looks at its page.
"""

from __future__ import annotations

import threading
import time
import urllib.request
import uuid
from typing import Callable

from prometheus_client import CollectorRegistry
from rig.ports import free_port
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess

from ansible_rulebook.ha.operations.prometheus import PrometheusMetrics
from ansible_rulebook.ha.operations.snapshot import Snapshot

from .costs import Costs
from .load import cpu_seconds
from .report import Figure, Result
from .setting import Setting
from .statements import IDLE_SOURCE, RULEBOOK
from .worker import TIMEOUT

SCRAPE_EVERY = 1.0  # seconds
SETTLE = 20  # seconds, for Java to be done with its start
WATCHED, UNWATCHED = "scraped, with an open page", "without --ha-http-listen"
COUNTED = "an event and its action are counted"


class Viewer:
    """Prometheus and a browser in one: a context manager.

    :raises OSError: at the end, if the worker did not answer.
    """

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._over = threading.Event()
        self._errors: list[OSError] = []
        self.scrapes = 0
        self.views = 0
        self._threads = [
            threading.Thread(target=self._run, args=(each,))
            for each in (self._scrape, self._view)
        ]

    def __enter__(self) -> Viewer:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()
        if self._errors:
            raise self._errors[0]

    def _run(self, what: Callable[[], None]) -> None:
        try:
            what()
        except OSError as error:
            self._errors.append(error)

    def _scrape(self) -> None:
        while not self._over.wait(SCRAPE_EVERY):
            with urllib.request.urlopen(
                f"{self._address}/metrics", timeout=TIMEOUT
            ) as answer:
                answer.read()
            self.scrapes += 1

    def _view(self) -> None:
        with urllib.request.urlopen(
            f"{self._address}/events", timeout=TIMEOUT
        ) as answer:
            while not self._over.is_set():
                line = answer.readline()
                if not line:
                    raise OSError("the page's stream has ended")
                self.views += line.startswith(b"data:")


def used(worker: WorkerProcess, seconds: float) -> float:
    """Processor time of a worker and its helpers, in ms for each second."""
    pids = [worker.pid, *worker.descendants()]
    before, began = cpu_seconds(pids), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return 1e3 * (cpu_seconds(pids) - before) / passed


def counting(rounds: int) -> list[Figure]:
    """What the rulebook's thread pays for the counters."""
    now = Snapshot("", "", "", "", 0, 0.0)
    metrics = PrometheusMetrics("", lambda: now, CollectorRegistry())

    def count() -> None:
        metrics.event("source", "processed")
        metrics.action("successful")

    costs = Costs(rounds)
    costs.call(COUNTED, count)
    metrics.close()
    return costs.figures


def measure(setting: Setting) -> Result:
    rounds = setting.pick(6, 1)
    seconds = setting.pick(15, 5)
    figures = counting(setting.pick(15, 3))
    server = setting.stack.enter_context(EmbeddedRig())
    root = setting.folder("monitoring")
    (root / "idle.py").write_text(IDLE_SOURCE, "utf-8")
    port = free_port()
    workers = {
        name: setting.stack.enter_context(
            WorkerProcess(
                RULEBOOK,
                root=root,
                name=f"worker-{number}",
                dsn=server.create_database(),
                ha_uuid=str(uuid.uuid4()),
                verbosity=0,
                args=["-S", str(root), *options],
            )
        )
        for number, (name, options) in enumerate(
            {WATCHED: ["--ha-http-listen", str(port)], UNWATCHED: []}.items()
        )
    }
    for each in workers.values():
        each.wait_leads(TIMEOUT)
    time.sleep(setting.pick(SETTLE, 1))
    found: dict[str, list[float]] = {name: [] for name in workers}
    scrapes = views = 0
    for number in range(rounds):
        setting.say(f"round {number + 1} of {rounds}")
        with Viewer(port) as viewer:
            found[WATCHED].append(used(workers[WATCHED], seconds))
        scrapes += viewer.scrapes
        views += viewer.views
        found[UNWATCHED].append(used(workers[UNWATCHED], seconds))
    figures += [
        Figure(name, "ms/s", values, "processor time of an idle leader")
        for name, values in found.items()
    ]
    return Result(
        "monitoring",
        "what it costs to be watched",
        figures,
        notes=[
            f"{seconds} s each, in turns; {scrapes} scrapes, and the page "
            f"heard {views} times"
        ],
    )
