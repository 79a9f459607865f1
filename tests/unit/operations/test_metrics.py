"""What Prometheus is told, and what that costs."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from observed import UUID, Observed, ask, served
from prometheus_client import REGISTRY, Counter
from prometheus_client.parser import text_string_to_metric_families

import ansible_rulebook.ha
from ansible_rulebook.ha.election.reasons import Reason
from ansible_rulebook.ha.operations import http as ours
from ansible_rulebook.ha.operations.metrics import (
    ACTION_OUTCOMES,
    EVENT_OUTCOMES,
    Metrics,
)
from ansible_rulebook.ha.operations.prometheus import (
    PREFIX,
    PrometheusMetrics,
    render,
)
from ansible_rulebook.ha.operations.snapshot import PauseView

ROOT = Path(__file__).parents[3]
HOSTILE = '<b>\n"\\{}\x1b[31m\udcff; DROP TABLE x'


@pytest.fixture
def worker() -> Observed:
    return Observed(
        retained=1,
        pending=2,
        behind=0.5,
        last_renewal=5.0,
        in_session=True,
    )


@pytest.fixture
def metrics(worker: Observed) -> Iterator[PrometheusMetrics]:
    made = PrometheusMetrics(UUID, worker)
    yield made
    made.close()


def use_all(metrics: Metrics) -> None:
    metrics.transition("leader", "killed")
    metrics.event("range", "processed")
    metrics.action("successful")
    metrics.renewal(0.001)
    metrics.renewal_failed()
    metrics.reconnected()
    metrics.promotion(0.3)
    metrics.failover(1.5)
    metrics.commit(0.002)
    metrics.write_failed()
    metrics.loop_lag(0.01)
    metrics.inbox("ha_webhook", 3, 5.0)


def values() -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Our samples by name, then by labels without ``ha_uuid``."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(render().decode()):
        for sample in family.samples:
            if sample.name.startswith(PREFIX):
                assert sample.labels.pop("ha_uuid") == UUID
                labels = tuple(sorted(sample.labels.items()))
                name = sample.name[len(PREFIX) :]
                found.setdefault(name, {})[labels] = sample.value
    return found


def counted(
    samples: dict[tuple[tuple[str, str], ...], float],
) -> dict[tuple[tuple[str, str], ...], float]:
    """What is more than 0."""
    return {labels: value for labels, value in samples.items() if value}


def test_a_first_transition_is_an_increase(
    metrics: PrometheusMetrics,
) -> None:
    before = values()["transitions_total"]
    assert set(before.values()) == {0}
    for reason in Reason:
        metrics.transition("leader", reason.value)
        metrics.transition("follower", reason.value)
    after = values()["transitions_total"]
    assert set(after) == set(before) and set(after.values()) == {1}


def test_what_was_called_is_told(metrics: PrometheusMetrics) -> None:
    use_all(metrics)
    told = values()
    reason = (("reason", "killed"), ("to", "leader"))
    assert counted(told["transitions_total"]) == {reason: 1}
    source = (("outcome", "processed"), ("source", "range"))
    assert told["events_total"] == {source: 1}
    last = told["source_last_event_timestamp_seconds"]
    assert abs(last[(("source", "range"),)] - time.time()) < 60
    assert told["actions_total"][(("outcome", "successful"),)] == 1
    assert told["lease_renewal_duration_seconds_count"] == {(): 1}
    assert told["lease_renewal_failures_total"] == {(): 1}
    assert told["session_reconnects_total"] == {(): 1}
    assert told["promotion_duration_seconds_sum"] == {(): 0.3}
    assert told["last_failover_duration_seconds"] == {(): 1.5}
    assert told["journal_commit_duration_seconds_sum"] == {(): 0.002}
    assert told["state_write_failures_total"] == {(): 1}
    assert told["loop_lag_seconds"] == {(): 0.01}
    assert metrics.totals() == (1, 1)


def test_counting_goes_on_after_a_scrape(metrics: PrometheusMetrics) -> None:
    metrics.event("range", "processed")
    metrics.action("odd")
    metrics.event("range", "held")
    first = values()["source_last_event_timestamp_seconds"]
    metrics.event("range", "processed")
    metrics.action("odd")
    told = values()
    source = ("source", "range")
    assert told["events_total"] == {
        (("outcome", "processed"), source): 2,
        (("outcome", "held"), source): 1,
    }
    assert told["actions_total"][(("outcome", "other"),)] == 2
    last = told["source_last_event_timestamp_seconds"]
    assert last[(source,)] > first[(source,)]
    assert values() == told


def test_the_worker_is_asked_at_each_scrape(
    metrics: PrometheusMetrics, worker: Observed
) -> None:
    told = values()
    assert told["leader"] == {(): 0}
    assert told["role"][(("role", "follower"),)] == 1
    assert told["can_take_over"] == told["paused"] == {(): 0}
    assert told["state_retained_events"] == {(): 1}
    assert told["state_pending_matches"] == {(): 2}
    assert told["journal_lag_seconds"] == {(): 0.5}
    assert told["lease_duration_seconds"] == {(): 15}
    assert told["lease_last_renewal_timestamp_seconds"] == {(): 5}
    worker.set(can_take_over=True, in_session=True, pause=PauseView("ann"))
    told = values()
    assert told["can_take_over"] == told["paused"] == {(): 1}
    worker.set(leads=True, role="leader", term=9, retained=None)
    worker.set(in_session=False)
    told = values()
    assert told["leader"] == {(): 1}
    assert told["term"] == {(): 9}
    assert told["role"][(("role", "follower"),)] == 0
    assert "state_retained_events" not in told  # no state, no number
    assert "paused" not in told  # no session, nothing known


def test_only_info_names_the_worker(metrics: PrometheusMetrics) -> None:
    use_all(metrics)
    for name, samples in values().items():
        for labels in samples:
            assert ("worker" in dict(labels)) == (name == "info"), name


def test_hostile_names_harm_nothing(
    metrics: PrometheusMetrics, worker: Observed
) -> None:
    worker.set(worker_id=HOSTILE)
    metrics.event(HOSTILE, HOSTILE)
    metrics.action(HOSTILE)
    metrics.transition(HOSTILE, HOSTILE)
    text = render().decode()
    assert "\x1b" not in text
    told = values()
    transition = (("reason", "unknown"), ("to", "other"))
    assert counted(told["transitions_total"]) == {transition: 1}
    assert told["actions_total"][(("outcome", "other"),)] == 1
    [labels] = told["events_total"]
    assert dict(labels)["outcome"] == "other"
    assert dict(labels)["source"].startswith('<b>\\n"\\{}')


def test_a_second_worker_of_the_process_may_follow(
    worker: Observed,
) -> None:
    for _ in range(2):
        made = PrometheusMetrics(UUID, worker)
        made.reconnected()
        assert values()["session_reconnects_total"] == {(): 1}
        made.close()
    assert not values()


def test_metrics_of_plugins_are_served_too(
    metrics: PrometheusMetrics, worker: Observed
) -> None:
    plugin = Counter("test_plugin_things", "Of a plugin.")
    try:
        with served(worker, metrics=metrics) as server:
            answer = ask(server, "/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert b"test_plugin_things_total 0.0" in answer.body
        assert b"eda_ha_leader" in answer.body
    finally:
        REGISTRY.unregister(plugin)


def test_a_plugin_that_hangs_in_a_scrape_holds_up_nothing_else(
    worker: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    monkeypatch.setattr(ours, "ANSWER_WITHIN", 0.5)
    for_ever = threading.Event()

    class Hanging:
        def describe(self) -> list[Any]:
            return []

        def collect(self) -> list[Any]:
            for_ever.wait()
            return []

    hanging = Hanging()
    REGISTRY.register(hanging)
    try:
        with served(worker) as server:
            assert ask(server, "/metrics").status == 503
            assert ask(server, "/livez").status == 200
    finally:
        for_ever.set()
        REGISTRY.unregister(hanging)


def test_without_http_the_calls_do_nothing() -> None:
    use_all(Metrics())
    assert Metrics().totals() == (0, 0)


def test_each_call_that_does_nothing_is_one_that_counts() -> None:
    def calls(of: type[Metrics]) -> set[str]:
        return {name for name in vars(of) if not name.startswith("_")}

    assert calls(Metrics) <= calls(PrometheusMetrics)


def test_promtool_finds_nothing(metrics: PrometheusMetrics) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    use_all(metrics)
    ours_alone = "".join(
        line
        for line in render().decode().splitlines(keepends=True)
        if PREFIX in line
    )
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=ours_alone,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def documented() -> dict[str, tuple[str, set[str]]]:
    """The kind and the labels of each metric, as the page has them."""
    text = (ROOT / "docs/run/reference/metrics.rst").read_text("utf-8")
    rows = re.findall(
        r"^   \* - ``(\w+)``\n     - (\w+)\n     - ((?:.+\n)+?)(?=   \*|\n)",
        text,
        re.MULTILINE,
    )
    return {
        name: (kind, set(re.findall(r"(?:labels?|and) ``(\w+)``", meaning)))
        for name, kind, meaning in rows
    }


def test_the_documentation_has_each_metric(
    metrics: PrometheusMetrics,
) -> None:
    use_all(metrics)
    told = {
        name: (family.type, set(sample.labels) - {"ha_uuid", "le"})
        for family in text_string_to_metric_families(render().decode())
        for sample in family.samples
        if sample.name.startswith(PREFIX)
        for name in [re.sub("_(bucket|count|sum)$", "", sample.name)]
        for name in [name[len(PREFIX) :]]
    }
    assert documented() == told
    text = (ROOT / "docs/run/reference/metrics.rst").read_text("utf-8")
    for label in (*Reason, *EVENT_OUTCOMES, *ACTION_OUTCOMES):
        name = label.value if isinstance(label, Reason) else label
        assert f"``{name}``" in text


@pytest.mark.parametrize(
    ("module", "outcomes"),
    [("gate", EVENT_OUTCOMES), ("actions", ACTION_OUTCOMES)],
)
def test_what_is_counted_while_rules_run_has_a_name(
    module: str, outcomes: tuple[str, ...]
) -> None:
    (home,) = map(Path, ansible_rulebook.ha.__path__)
    code = (home / "rulebook" / f"{module}.py").read_text("utf-8")
    counted = re.findall(r'_count\((?:[^()"]*, )?"(\w+)"\)', code)
    assert set(counted) == set(outcomes)
