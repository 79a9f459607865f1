"""The alerts in deploy/, by promtool and on real clusters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest
from clusters import Cluster, Leader, create_tables
from command_runs import COMMAND, run
from deployments import ALERTS, alert_rules, needs_monitors, until
from observed import Observed, served

from ansible_rulebook.ha.operations.prometheus import PrometheusMetrics

if TYPE_CHECKING:
    from metered_worker import MeteredProcess
    from rig.monitors import PrometheusProcess
    from rig.server import Server

pytestmark = needs_monitors

ROUNDS = 4  # transitions, one more than may be


def hurried(rules: str) -> str:
    """The same rules, for clusters whose faults last for seconds."""
    rules, fors = re.subn(r"for: \w+", "for: 2s", rules)
    rules, ranges = re.subn(r"\[2m\]", "[5s]", rules)
    assert fors == 6 and ranges == 1
    return rules


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PrometheusProcess]:
    from rig.monitors import PrometheusProcess

    root = tmp_path_factory.mktemp("prometheus")
    rules = hurried(ALERTS.read_text("utf-8"))
    with PrometheusProcess(rules, root=root) as made:
        made.wait_ready()
        yield made


@pytest.fixture
def metered(
    prometheus: PrometheusProcess, dsn: str, ha_uuid: str, tmp_path: Path
) -> Iterator[Callable[..., MeteredProcess]]:
    """Start workers that are scraped: metered("w1", dsn=...)."""
    from metered_worker import MeteredProcess
    from rig.ports import free_port

    with contextlib.ExitStack() as stack:

        def make(name: str, dsn: str = dsn) -> MeteredProcess:
            worker = MeteredProcess(dsn, ha_uuid, name, free_port(), tmp_path)
            stack.enter_context(worker)
            prometheus.watch([worker.port])
            return worker

        yield make


def test_promtool_finds_nothing_in_the_rules() -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None
    for words in (["check", "rules"], ["test", "rules"]):
        name = "alerts.yml" if words[0] == "check" else "alerts_test.yml"
        done = subprocess.run(
            [promtool, *words, name],
            cwd=ALERTS.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_and_has_a_runbook() -> None:
    tests = ALERTS.with_name("alerts_test.yml").read_text("utf-8")
    for rule in alert_rules():
        name = rule["alert"]
        fires = rf"alertname: {name}\n +exp_alerts:|{name}, exp_alerts:"
        assert re.search(fires, tests), name
        page = ALERTS.parents[2] / rule["annotations"]["runbook"]
        assert page.name == f"{name}.rst"
        title, line = page.read_text("utf-8").splitlines()[1:3]
        assert title == name and set(line) == {"="}


def test_who_could_take_over_and_then_who_leads_is_gone(
    prometheus: PrometheusProcess,
    metered: Callable[..., MeteredProcess],
    ha_uuid: str,
) -> None:
    def firing() -> set[str]:
        return prometheus.firing(ha_uuid=ha_uuid)

    first = metered("w1")
    until(lambda: firing() == {"EdaHaNoReserve"}, "a leader alone")
    second = metered("w2")
    until(lambda: not firing(), "a healthy cluster")
    first.kill()
    until(lambda: firing() == {"EdaHaNoReserve"}, "the next leader alone")
    second.kill()
    until(lambda: "EdaHaNoLeader" in firing(), "nobody")


def test_two_databases_have_two_leaders(
    prometheus: PrometheusProcess,
    metered: Callable[..., MeteredProcess],
    server: Server,
    ha_uuid: str,
) -> None:
    metered("w1")
    other = server.create_database()
    try:
        worker = metered("w2", other)
        until(
            lambda: "EdaHaTwoLeaders" in prometheus.firing(ha_uuid=ha_uuid),
            "a leader in each",
        )
        worker.stop()
        until(
            lambda: (
                "EdaHaTwoLeaders" not in prometheus.firing(ha_uuid=ha_uuid)
            ),
            "one is stopped",
        )
    finally:
        worker.close()
        server.drop_database(other)


def test_many_transitions_and_then_a_pause(
    prometheus: PrometheusProcess,
    metered: Callable[..., MeteredProcess],
    dsn: str,
    ha_uuid: str,
) -> None:
    many = next(
        rule["expr"].rpartition(">")[0]
        for rule in alert_rules()
        if rule["alert"] == "EdaHaManyTransitions"
    )

    def firing() -> set[str]:
        return prometheus.firing(ha_uuid=ha_uuid)

    def seen() -> float:
        ours = many.replace("{", f'{{ha_uuid="{ha_uuid}",')
        return prometheus.value(ours) or 0.0

    variables = {"EDA_HA_POSTGRES_DSN": dsn, "EDA_HA_UUID": ha_uuid}
    workers = [metered("w1"), metered("w2")]

    def scraped(name: str) -> bool:
        labels = f'ha_uuid="{ha_uuid}"'
        return bool(prometheus.value(f"eda_ha_{name}{{{labels}}} == 1"))

    # The first transition counts if it was after the first scrape.
    until(lambda: scraped("leader"), "a worker leads")
    for count in range(1, ROUNDS + 1):
        # A transition before the first scrape would be no change.
        until(lambda: scraped("can_take_over"), "a worker stands by")
        before = seen()
        done = run("switchover", "--yes", **variables)
        assert done.code == 0, (done, [each.tail() for each in workers])
        until(lambda now=before: seen() == now + 1, f"switchover {count}")
        assert ("EdaHaManyTransitions" in firing()) <= (seen() > 3)
    until(lambda: "EdaHaManyTransitions" in firing(), "the alert")

    pause = subprocess.Popen(
        [*COMMAND, "pause"], env={**os.environ, **variables}
    )
    try:
        until(
            lambda: firing() >= {"EdaHaPaused"} and not firing() & {
                "EdaHaNoLeader", "EdaHaNoReserve",
            },
            "a pause, which is no failure",
        )  # fmt: skip
    finally:
        pause.terminate()
        pause.wait()
    until(lambda: "EdaHaPaused" not in firing(), "the end of the pause")


@pytest.mark.asyncio
async def test_a_journal_whose_table_is_locked_is_behind(
    prometheus: PrometheusProcess, dsn: str
) -> None:
    create_tables(dsn)
    with contextlib.ExitStack() as stack:
        cluster = Cluster(dsn, stack)
        ha_uuid = str(cluster.uuid)
        leader = Leader(cluster.worker("w1"), limit=600.0)
        worker = Observed(ha_uuid=ha_uuid, leads=True, role="leader")

        def take() -> object:
            worker.set(behind=leader.journal.behind)
            return worker.now

        def fires() -> bool:
            found = prometheus.firing(ha_uuid=ha_uuid)
            return "EdaHaJournalBehind" in found

        metrics = PrometheusMetrics(ha_uuid, take)  # type: ignore[arg-type]
        stack.callback(metrics.close)
        server = stack.enter_context(served(take, metrics=metrics))
        prometheus.watch([int(server.address.rpartition(":")[2])])
        with cluster.held():
            mark = leader.write(1)
            await asyncio.to_thread(until, fires, "the alert")
        assert await mark.is_durable()
        await asyncio.to_thread(until, lambda: not fires(), "its end")
