"""What the tests of deploy/ share."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml
from rig import monitors

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
PATIENCE = 60.0  # seconds
LOOK_EVERY = 0.1  # seconds

missing = monitors.missing()
needs_monitors = pytest.mark.skipif(
    bool(missing), reason=f"not installed: {', '.join(missing)}"
)


def alert_rules() -> list[dict[str, Any]]:
    """All rules of the file."""
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return list(group["rules"])


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return found


def expressions(ha_uuid: str) -> list[str]:
    """What its panels ask for, of one cluster."""
    return [
        target["expr"]
        .replace("$cluster", ha_uuid)
        .replace("$__rate_interval", "1m")
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    ]


def until(what: Callable[[], Any], why: str) -> Any:
    """Wait until it gives something true, and return that."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, f"not in time: {why}"
        time.sleep(LOOK_EVERY)
