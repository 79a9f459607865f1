"""The dashboard and the alerts ask for nothing that no worker tells."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deployments import DASHBOARD, alert_rules, dashboard, expressions
from observed import UUID, Observed
from prometheus_client.parser import text_string_to_metric_families

from ansible_rulebook.ha.operations.metrics import Metrics
from ansible_rulebook.ha.operations.prometheus import (
    PREFIX,
    PrometheusMetrics,
    render,
)

Told = dict[str, dict[str, set[str]]]

SAMPLE = {"str": "s", "int": 1, "float": 1.0, "float | None": 1.0}
ADDED = {"job", "instance"}  # by Prometheus
LISTS = r"\b(?:by|on|group_left)\s*\(([^)]*)\)"
SELECTOR = re.compile(rf"({PREFIX}\w+)(?:\{{([^}}]*)\}})?")
MATCHER = re.compile(r'(\w+)\s*=~?\s*"([^"]*)"')
FIXED = ("to", "outcome", "role")  # labels whose values are in the code


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """What a worker tells: by metric and label, the values seen."""
    worker = Observed(
        retained=1,
        pending=2,
        behind=0.5,
        last_renewal=5.0,
        in_session=True,
    )
    metrics = PrometheusMetrics(UUID, worker)
    for name, call in vars(Metrics).items():
        values = list(inspect.signature(call).parameters.values())[1:] if (
            inspect.isfunction(call)
        ) else []  # fmt: skip
        if values:
            getattr(metrics, name)(*(SAMPLE[v.annotation] for v in values))
    metrics.event("s", "processed")
    found: Told = {}
    for family in text_string_to_metric_families(render().decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    metrics.close()
    yield found


def all_expressions() -> list[str]:
    rules = [rule["expr"] for rule in alert_rules()]
    return [*rules, *expressions(UUID)]


def test_each_metric_and_each_label_is_told(told: Told) -> None:
    asked = set()
    for expression in all_expressions():
        for name, selector in SELECTOR.findall(expression):
            assert name in told, f"{name}: {expression}"
            asked.add(name)
            for label, value in MATCHER.findall(selector):
                assert label in told[name], f"{label}: {expression}"
                if label in FIXED:
                    assert value in told[name][label], expression
        known = ADDED.union(
            *(told[name] for name, _ in SELECTOR.findall(expression))
        )
        for names in re.findall(LISTS, expression):
            assert {n.strip() for n in names.split(",")} <= known, expression
    assert len(asked) > 20


def test_legends_name_labels_that_are_left(told: Told) -> None:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                lists = re.findall(LISTS, target["expr"])
                by = any(label in names for names in lists)
                assert by or "by (" not in target["expr"], target


def test_promtool_reads_each_expression(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    rules = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(expressions(UUID))
    ]
    path = tmp_path / "rules.yml"
    path.write_text(
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]})
    )
    done = subprocess.run(
        [promtool, "check", "rules", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    numbers = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        numbers.add(panel["id"])
    assert len(numbers) == len(dashboard()["panels"])
    assert DASHBOARD.read_text("utf-8").endswith("}\n")
