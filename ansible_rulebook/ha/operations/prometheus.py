"""Metrics for Prometheus. Imported only where they are asked for."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..election.reasons import Reason
from ..redaction import clean
from .metrics import ACTION_OUTCOMES, EVENT_OUTCOMES, OTHER, Metrics
from .snapshot import Snapshot, TakeSnapshot

PREFIX = "eda_ha_"
ROLES = ("leader", "follower")
QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
SLOW = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class PrometheusMetrics(Metrics, Collector):
    """Counts, and asks the worker when it is asked itself.

    :param ha_uuid: the cluster, which is a label of everything.
    :param take_snapshot: asked at each scrape.
    :param registry: where plugins' own metrics are as well.
    """

    def __init__(
        self,
        ha_uuid: str,
        take_snapshot: TakeSnapshot,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._uuid = ha_uuid
        self._take_snapshot = take_snapshot
        self._registry = registry
        self._fed: list[Any] = []
        self._transitions = self._make(
            Counter, "transitions", "Changes of role.", ("to", "reason")
        )
        self._renewals = self._make(
            Histogram,
            "lease_renewal_duration_seconds",
            "Time that the server took to confirm the lock.",
            buckets=QUICK,
        )
        self._failed_renewals = self._make(
            Counter,
            "lease_renewal_failures",
            "Renewals that the server did not confirm.",
        )
        self._reconnects = self._make(
            Counter,
            "session_reconnects",
            "Sessions opened after an earlier one had ended.",
        )
        self._promotions = self._make(
            Histogram,
            "promotion_duration_seconds",
            "Time from the lock to the first event of a term.",
            buckets=SLOW,
        )
        self._failover = self._make(
            Gauge,
            "last_failover_duration_seconds",
            "Time without a leader before this worker's last term.",
        )
        self._events = self._make(
            Counter, "events", "Events by what became of them.",
            ("source", "outcome"),
        )  # fmt: skip
        self._last_events = self._make(
            Gauge,
            "source_last_event_timestamp_seconds",
            "When the source gave its last event.",
            ("source",),
        )
        self._actions = self._make(
            Counter, "actions", "Actions by how they ended.", ("outcome",)
        )
        self._commits = self._make(
            Histogram,
            "journal_commit_duration_seconds",
            "Time that a transaction of the journal took.",
            buckets=QUICK,
        )
        self._failed_writes = self._make(
            Counter, "state_write_failures", "Failed writes of the state."
        )
        self._inbox_depth = self._make(
            Gauge, "inbox_depth", "Events that wait in an inbox.", ("source",)
        )
        self._inbox_oldest = self._make(
            Gauge,
            "inbox_oldest_seconds",
            "Age of the oldest event in an inbox.",
            ("source",),
        )
        self._lag = self._make(
            Gauge,
            "loop_lag_seconds",
            "Time that the rulebook's event loop takes to answer.",
        )
        # They begin with 0, or a first transition would be no increase.
        for role, reason in itertools.product(ROLES, Reason):
            self._transitions.labels(self._uuid, role, reason.value)
        self._telling = threading.Lock()
        self._by_event: dict[tuple[str, str], _Count] = {}
        self._last: dict[str, list[float]] = {}  # by source
        self._by_outcome = {
            outcome: _Count(self._actions.labels(self._uuid, outcome))
            for outcome in ACTION_OUTCOMES
        }
        registry.register(self)

    def _make(
        self,
        kind: Any,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        **more: Any,
    ) -> Any:
        made = kind(
            PREFIX + name, text, ("ha_uuid", *labels), registry=None, **more
        )
        self._fed.append(made)
        return made if labels else made.labels(self._uuid)

    # -- counting --------------------------------------------------------

    def transition(self, to: str, reason: str) -> None:
        role = to if to in ROLES else OTHER
        known = Reason.of(reason).value
        self._transitions.labels(self._uuid, role, known).inc()

    def event(self, source: str, outcome: str) -> None:
        counted = self._by_event.get((source, outcome))
        if counted is None:
            counted = self._begin_event(source, outcome)
        counted.number += 1
        counted.last[0] = time.time()

    def _begin_event(self, source: str, outcome: str) -> _Count:
        name = clean(source)
        known = outcome if outcome in EVENT_OUTCOMES else OTHER
        counted = _Count(
            self._events.labels(self._uuid, name, known),
            self._last_events.labels(self._uuid, name),
            self._last.setdefault(name, [0.0]),
        )
        self._by_event[source, outcome] = counted
        return counted

    def action(self, outcome: str) -> None:
        counted = self._by_outcome.get(outcome)
        if counted is None:
            made = self._actions.labels(self._uuid, OTHER)
            counted = self._by_outcome.setdefault(OTHER, _Count(made))
        counted.number += 1

    def renewal(self, seconds: float) -> None:
        self._renewals.observe(seconds)

    def renewal_failed(self) -> None:
        self._failed_renewals.inc()

    def reconnected(self) -> None:
        self._reconnects.inc()

    def promotion(self, seconds: float) -> None:
        self._promotions.observe(seconds)

    def failover(self, seconds: float) -> None:
        self._failover.set(seconds)

    def commit(self, seconds: float) -> None:
        self._commits.observe(seconds)

    def write_failed(self) -> None:
        self._failed_writes.inc()

    def loop_lag(self, seconds: float) -> None:
        self._lag.set(seconds)

    def inbox(self, name: str, events: int, oldest: float | None) -> None:
        labels = (self._uuid, clean(name))
        self._inbox_depth.labels(*labels).set(events)
        age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        self._inbox_oldest.labels(*labels).set(age)

    # -- telling ---------------------------------------------------------

    def totals(self) -> tuple[float, float]:
        events = list(self._by_event.items())
        return (
            float(sum(c.number for (_, o), c in events if o == "processed")),
            float(
                sum(
                    counted.number
                    for outcome, counted in list(self._by_outcome.items())
                    if outcome != "refused"
                )
            ),
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: to register must not take a snapshot."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What was counted, and what the worker knows now."""
        with self._telling:
            for counted in (
                *list(self._by_event.values()),
                *list(self._by_outcome.values()),
            ):
                counted.tell()
        yield from self._asked(self._take_snapshot())
        for each in self._fed:
            for family in each.collect():
                # Gauges that tell when a counter was made are no news.
                family.samples = [
                    sample
                    for sample in family.samples
                    if not sample.name.endswith("_created")
                ]
                yield family

    def close(self) -> None:
        self._registry.unregister(self)

    def _asked(self, now: Snapshot) -> Iterator[Metric]:
        worker = {"worker": clean(now.worker_id), "version": now.version}
        yield self._gauge("info", "The worker.", (worker, 1.0))
        yield self._gauge("leader", "Whether it leads.", ({}, now.leads))
        yield self._gauge(
            "role",
            "1 for the role that the worker has.",
            *(({"role": role}, now.role == role) for role in ROLES),
        )
        for name, text, value in (
            (
                "can_take_over",
                "Whether it is a follower that could lead next.",
                now.can_take_over,
            ),
            (
                "paused",
                "Whether the cluster is paused, as the worker last saw it.",
                now.is_paused,
            ),
            ("term", "The term that it is in, or 0.", now.term),
            ("lease_duration_seconds", "As in force.", now.lease_duration),
            (
                "lease_last_renewal_timestamp_seconds",
                "When the lock was last asked for and confirmed.",
                now.last_renewal,
            ),
            (
                "state_retained_events",
                "Events that the rules keep.",
                now.retained,
            ),
            (
                "state_pending_matches",
                "Matches whose actions have not ended.",
                now.pending,
            ),
            (
                "journal_lag_seconds",
                "Age of the oldest change that is not durable yet.",
                now.behind,
            ),
        ):
            yield self._gauge(name, text, ({}, value))

    def _gauge(
        self,
        name: str,
        text: str,
        *samples: tuple[dict[str, str], float | None],
    ) -> Metric:
        family = GaugeMetricFamily(PREFIX + name, text)
        for labels, value in samples:
            if value is not None:
                family.add_sample(
                    PREFIX + name,
                    {"ha_uuid": self._uuid, **labels},
                    float(value),
                )
        return family


def render(registry: CollectorRegistry = REGISTRY) -> bytes:
    """All metrics as text. May take as long as a plugin's own ones do."""
    return generate_latest(registry)


class _Count:
    """A number that one thread counts up, several times an event.

    A counter of the library takes a lock each time, which costs four times
    as much. So it is told the difference when somebody asks.

    :param counter: the library's.
    :param gauge: the time of the last one, if that is told, too.
    :param last: that time; one list for all that share the gauge.
    """

    __slots__ = ("_counter", "_gauge", "_told", "last", "number")

    def __init__(
        self, counter: Any, gauge: Any = None, last: list[float] | None = None
    ) -> None:
        self.number = 0
        self.last = [0.0] if last is None else last
        self._told = 0
        self._counter = counter
        self._gauge = gauge

    def tell(self) -> None:
        """Bring the library's up to date. For one thread at a time."""
        number = self.number
        self._counter.inc(number - self._told)
        self._told = number
        if self._gauge is not None:
            self._gauge.set(self.last[0])
