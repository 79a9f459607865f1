"""The configurations of HAProxy, before workers whose leader changes.

Two workers have a webhook. HAProxy stands before them with the file from
deploy/ as it is, Prometheus watches them with the alerts from deploy/, and
Alertmanager sends the alerts to the webhook, through HAProxy.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_runs import COMMAND
from deployments import (
    ALERTS,
    DEPLOY,
    expressions,
    needs_monitors,
    until,
)
from e2e_support import needs_sources, needs_state
from rig.haproxy import find_binary
from rig.workers import LOST

if TYPE_CHECKING:
    from bench.haproxy import Pair
    from bench.steady import Answered
    from rig.haproxy import HaProxyProcess
    from rig.monitors import AlertmanagerProcess, PrometheusProcess
    from rig.server import Server

HAPROXY = find_binary()
CONFIG = DEPLOY / "haproxy" / "haproxy.cfg"
INBOX_CONFIG = DEPLOY / "haproxy" / "haproxy-inbox.cfg"
RATE = 10.0  # posts per second
ENOUGH = 10  # posts before a fault, and after it
REORDERED = 5  # places; clients of one moment pass each other
POLL, LEASE = 1.0, 6.0  # seconds
RULEBOOK = """
- name: front
  hosts: localhost
  sources:
    - eda.builtin.webhook:
        host: 127.0.0.1
        port: "{{ PORT }}"
  rules:
    - name: each
      condition: event.payload.name is defined
      action:
        debug:
          msg: "got {{ event.payload.name }}"
    - name: alert
      condition: event.payload.alerts is defined
      action:
        debug:
          msg: "alert {{ event.payload.alerts[0].labels.alertname }}"
"""

needs_haproxy = pytest.mark.skipif(
    HAPROXY is None, reason="not installed: haproxy"
)


@dataclass
class Front:
    """Workers, and what stands before and beside them."""

    pair: Pair
    haproxy: HaProxyProcess
    alertmanager: AlertmanagerProcess
    prometheus: PrometheusProcess


@pytest.fixture(scope="module")
def front(
    server: Server,
    tmp_path_factory: pytest.TempPathFactory,
    quick_variables: dict[str, str],
) -> Iterator[Front]:
    from bench.haproxy import Pair
    from rig.haproxy import HaProxyProcess
    from rig.monitors import AlertmanagerProcess, PrometheusProcess

    root = tmp_path_factory.mktemp("front")
    rules = re.sub(r"for: \w+", "for: 3s", ALERTS.read_text("utf-8"))
    dsn = server.create_database()
    with contextlib.ExitStack() as stack:
        stack.callback(server.drop_database, dsn)
        pair = Pair(
            root,
            dsn,
            stack,
            RULEBOOK,
            env=quick_variables,
            poll_interval=POLL,
            lease_duration=LEASE,
        )
        haproxy = HaProxyProcess(CONFIG, pair.ports, root=root)
        alertmanager = AlertmanagerProcess(
            f"http://127.0.0.1:{haproxy.port}/", root=root
        )
        prometheus = PrometheusProcess(
            rules, root=root, alertmanager=alertmanager.address
        )
        prometheus.watch(http for _, http in pair.ports)
        for each in (haproxy, alertmanager, prometheus):
            stack.enter_context(each)
        haproxy.wait_listens()
        for each in (alertmanager, prometheus):
            each.wait_ready()
        # What changes before the first scrape is not seen as a change.
        until(
            lambda: prometheus.value("count (eda_ha_leader)") == 2,
            "both workers to be scraped",
        )
        yield Front(pair, haproxy, alertmanager, prometheus)


def answered(front: Front, fault: str) -> list[Answered]:
    """Posts before, during and after a fault."""
    from bench.steady import Stream

    stream = Stream(front.haproxy.port, RATE, fault.replace("kill -9", "kill"))
    try:
        until(lambda: len(stream.answers) >= ENOUGH, "posts before")
        front.pair.strike(fault)
        seen = len(stream.answers)
        until(lambda: len(stream.answers) >= seen + ENOUGH, "posts after")
    finally:
        found = stream.end()
    return found


def is_held(port: int) -> bool:
    """Whether a client has been connected to a port of loopback."""
    client = f" 0100007F:{port:04X} "
    rows = Path("/proc/net/tcp").read_text("utf-8").splitlines()
    # Its address is the second one; 01 is a connection.
    return any(f"{client}01 " in row for row in rows)


def number(name: str) -> int:
    return int(name.rpartition("-")[2])


@pytest.mark.parametrize("config", [CONFIG, INBOX_CONFIG])
@needs_haproxy
def test_haproxy_finds_nothing_in_a_configuration(config: Path) -> None:
    assert HAPROXY is not None
    done = subprocess.run(
        [HAPROXY, "-c", "-f", str(config)],
        env={**os.environ, "EDA_W1": "127.0.0.1:1", "EDA_W2": "127.0.0.1:2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


@needs_haproxy
@needs_monitors
@needs_sources
def test_a_switchover_fails_no_post_that_comes_during_it(
    front: Front,
) -> None:
    from bench.haproxy import SWITCHOVER, lost

    former = front.pair.leader
    answers = answered(front, SWITCHOVER)
    ended = former.find(LOST)[-1].at
    # A post that had begun can fail with the source that took it.
    assert all(each.sent < ended for each in answers if not each.is_ok)
    assert any(each.sent > ended for each in answers)
    assert lost(front.pair, answers) == []


@needs_haproxy
@needs_monitors
@needs_sources
def test_an_alert_waits_for_the_next_leader(front: Front) -> None:
    until(
        lambda: front.pair.follower.find(r"Worker \S+: Following"),
        "a follower",
    )
    pause = subprocess.Popen(
        [*COMMAND, "pause"],
        env={**os.environ, **front.pair.variables},
        stdout=subprocess.PIPE,
    )
    try:
        assert pause.stdout is not None
        assert pause.stdout.readline().startswith(b"Paused")
        front.alertmanager.alert({"alertname": "MeanwhileNobodyLeads"})
        until(lambda: is_held(front.haproxy.port), "HAProxy to hold it")
    finally:
        pause.terminate()
        pause.communicate()
    workers = front.pair.workers
    until(
        lambda: any(
            each.find("alert MeanwhileNobodyLeads") for each in workers
        ),
        "the alert to reach a rule",
    )


@needs_haproxy
@needs_monitors
@needs_sources
@needs_state
def test_the_dashboard_finds_something_for_each_panel(front: Front) -> None:
    for expression in expressions(front.pair.ha_uuid):
        if "eda_ha_inbox_" not in expression:
            until(
                lambda now=expression: front.prometheus.value(now) is not None,
                expression,
            )


@needs_haproxy
@needs_monitors
@needs_sources
def test_a_killed_leader_fails_what_it_had_in_hand_and_the_alert_arrives(
    front: Front,
) -> None:
    from bench.haproxy import GOT, KILL, lost

    workers = front.pair.workers
    front.pair.leader = next(
        each for each in workers if each.leads_since() is not None
    )
    killed = front.pair.leader
    answers = answered(front, KILL)
    died = killed.exited_at
    assert died is not None
    assert all(each.sent < died for each in answers if not each.is_ok)
    assert any(each.sent > died and each.is_ok for each in answers)
    # What it had answered and not processed, and nothing before that.
    ours = [n for n in GOT.findall(killed.text) if n.startswith("kill-")]
    last = max(map(number, ours))
    gone = lost(front.pair, answers)
    assert all(number(name) > last - REORDERED for name in gone)
    assert len(gone) < len(answers) / 2
    # Prometheus sees it, and Alertmanager tells the rule of the next leader.
    front.pair.leader.wait_for("alert EdaHaNoReserve", 120.0)
