"""Prometheus and Alertmanager, if this machine has them installed."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rig.haproxy import HOST
from rig.ports import free_port
from rig.process import ManagedProcess, ProcessError

START_TIMEOUT = 60.0  # seconds
LOOK_EVERY = 0.1  # seconds
SCRAPE = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: [rules.yml]
scrape_configs:
  - job_name: ansible-rulebook
    file_sd_configs:
      - files: [targets.json]
        refresh_interval: 1s
"""
SEND = """
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["{address}"]
"""
NOTIFY = """
route:
  receiver: rulebook
  group_by: [alertname]
  group_wait: 1s
  group_interval: 1m
receivers:
  - name: rulebook
    webhook_configs:
      - url: {url}
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    wanted = ("prometheus", "prometheus-alertmanager", "promtool")
    return [name for name in wanted if shutil.which(name) is None]


class HttpProcess(ManagedProcess):
    """A program that answers HTTP on a free port of loopback."""

    def __init__(self, argv: list[str], *, name: str, root: Path) -> None:
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        listen = f"--web.listen-address={self.address}"
        super().__init__(
            [*argv, listen], name=name, log=root / f"{name}.log", cwd=root
        )

    def get(self, path: str, **values: str) -> str:
        query = urllib.parse.urlencode(values)
        url = f"http://{self.address}{path}?{query}"
        with urllib.request.urlopen(url, timeout=START_TIMEOUT) as answer:
            return str(answer.read().decode())

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.get("/-/ready")
                return
            except (OSError, urllib.error.HTTPError) as error:
                if time.monotonic() > deadline or not self.alive:
                    raise ProcessError(f"{error}\n{self.tail()}") from None
                time.sleep(LOOK_EVERY)


class PrometheusProcess(HttpProcess):
    """Scrapes each second what :meth:`watch` names, and has these rules.

    :param rules: the text of a file of rules.
    :param alertmanager: who is sent the alerts, ``host:port``.
    """

    def __init__(
        self, rules: str, *, root: Path, alertmanager: str | None = None
    ) -> None:
        self._targets = root / "targets.json"
        self._watched: list[str] = []
        self.watch(())
        config = SCRAPE
        if alertmanager is not None:
            config += SEND.format(address=alertmanager)
        (root / "rules.yml").write_text(rules, "utf-8")
        (root / "prometheus.yml").write_text(config, "utf-8")
        super().__init__(
            [
                "prometheus",
                "--config.file=prometheus.yml",
                f"--storage.tsdb.path={root / 'data'}",
            ],
            name="prometheus",
            root=root,
        )

    def watch(self, ports: Iterable[int]) -> None:
        """Scrape these, too."""
        self._watched += [f"{HOST}:{port}" for port in ports]
        draft = self._targets.with_suffix(".draft")
        draft.write_text(json.dumps([{"targets": self._watched}]), "utf-8")
        draft.rename(self._targets)

    def value(self, expression: str) -> float | None:
        """What it evaluates to now; None if that is nothing."""
        answer = json.loads(self.get("/api/v1/query", query=expression))
        found = answer["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def firing(self, **labels: str) -> set[str]:
        """The names of the alerts that fire with these labels."""
        answer = json.loads(self.get("/api/v1/alerts"))
        return {
            each["labels"]["alertname"]
            for each in answer["data"]["alerts"]
            if each["state"] == "firing"
            and labels.items() <= each["labels"].items()
        }


class AlertmanagerProcess(HttpProcess):
    """Sends all alerts to a webhook.

    :param url: the webhook's.
    """

    def __init__(self, url: str, *, root: Path) -> None:
        config = root / "alertmanager.yml"
        config.write_text(NOTIFY.format(url=url), "utf-8")
        super().__init__(
            [
                "prometheus-alertmanager",
                f"--config.file={config}",
                f"--storage.path={root / 'notifications'}",
                "--cluster.listen-address=",  # it is alone
            ],
            name="alertmanager",
            root=root,
        )

    def alert(self, labels: Mapping[str, str]) -> None:
        """Have an alert fire, as Prometheus would."""
        body: Any = json.dumps([{"labels": dict(labels)}]).encode()
        request = urllib.request.Request(
            f"http://{self.address}/api/v2/alerts",
            body,
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=START_TIMEOUT).close()
