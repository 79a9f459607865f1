"""Tells others how a worker is: HTTP, metrics, systemd, a label, a command.

Each of these is imported and made only if the operator asked for it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Callable

from ..election.observer import Observer
from ..election.reasons import Reason
from ..election.term import Term
from ..log import WorkerLog
from ..options import HaOptions
from .metrics import Metrics
from .snapshot import Snapshot
from .systemd import Systemd

if TYPE_CHECKING:
    from .http import HttpServer
    from .leader_label import LeaderLabel
    from .on_transition import TransitionHook

HOOK_WITHIN = 5.0  # seconds for the last commands at the end
FOLLOWER, LEADER, STOPPED = "follower", "leader", "stopped"


class Reporter(Observer):
    """One for each worker. Its calls do not wait, and are for any thread.

    :param options: what the operator asked for.
    :param worker_id: of this worker.
    :param snapshot: how the worker is, for any thread.
    :param log: for commands that fail.
    :param began: told each term that begins, and how long nobody led.
    :param ended: told each term that has ended, and why.
    :param responds: whether the election's thread answers within so many
        seconds; systemd's watchdog is fed only then.
    """

    def __init__(
        self,
        options: HaOptions,
        worker_id: str,
        snapshot: Callable[[], Snapshot],
        log: WorkerLog,
        began: Callable[[int, float | None], None],
        ended: Callable[[int, Reason], None],
        responds: Callable[[float], bool] = lambda within: True,
    ) -> None:
        self._responds = responds
        self._began = began
        self._ended_term = ended
        self._options = options
        self._snapshot = snapshot
        self._systemd = Systemd(os.environ)
        self._sessions = 0
        self._term = 0  # the last one of this worker
        self._ended = threading.Event()
        self.metrics = Metrics()
        """Counts what happens; counts nothing without ``/metrics``."""
        self._http: HttpServer | None = None
        self._hook: TransitionHook | None = None
        self._label: LeaderLabel | None = None
        if options.http_sockets:
            self._http = self._make_http()
        if options.on_transition:
            from .on_transition import TransitionHook

            self._hook = TransitionHook(
                list(options.on_transition),
                worker_id,
                str(options.ha_uuid),
                log,
            )
        if options.pod is not None:
            from .leader_label import LeaderLabel

            self._label = LeaderLabel(
                options.pod,
                str(options.ha_uuid),
                lambda: self._snapshot().serves,
                log,
            )

    def _make_http(self) -> HttpServer:
        from .http import HttpServer
        from .look import looking_at
        from .prometheus import PrometheusMetrics

        self.metrics = PrometheusMetrics(
            str(self._options.ha_uuid), self._snapshot
        )
        return HttpServer(
            list(self._options.http_sockets),
            self._snapshot,
            self.metrics,
            looking_at(self._options.conninfo, self._options.ha_uuid),
            asyncio.get_running_loop(),
        )

    @property
    def address(self) -> str:
        """Where HTTP is answered, ``host:port``, or nothing."""
        return "" if self._http is None else self._http.address

    # -- the worker's life -----------------------------------------------

    def start(self) -> None:
        """The worker begins."""
        if self._http is not None:
            self._http.start()
        if self._label is not None:
            self._label.start()
        if self._systemd.watchdog_every is not None:
            threading.Thread(
                target=self._watch, name="ha-watchdog", daemon=True
            ).start()

    def _watch(self) -> None:
        every = self._systemd.watchdog_every
        while not self._ended.wait(every):
            if self._snapshot().is_alive and self._responds(every or 0.0):
                self._systemd.watchdog()

    def ready(self) -> None:
        """All rulesets are up: the worker follows, or leads."""
        self._systemd.ready()
        self._systemd.status(FOLLOWER)

    def draining(self, seconds: float) -> None:
        """The worker has begun to end.

        :param seconds: the longest that this takes.
        """
        self._systemd.stopping()
        self._systemd.extend(seconds)
        self._systemd.status("draining")
        self._look_at_label()

    def close(self) -> None:
        """The worker has ended. May block for a few seconds."""
        self._ended.set()
        if self._label is not None:
            self._label.leave()
        if self._hook is not None:
            self._run_hook(STOPPED, self._term, "", None)
            self._hook.close(HOOK_WITHIN)
        if self._http is not None:
            self._http.stop()
        if self._label is not None:
            self._label.close()
        self.metrics.close()

    # -- the election ----------------------------------------------------

    def connected(self) -> None:
        """See :class:`.Observer`."""
        self._sessions += 1
        if self._sessions > 1:
            self.metrics.reconnected()

    def renewed(self, seconds: float) -> None:
        """See :class:`.Observer`."""
        self.metrics.renewal(seconds)

    def renewal_failed(self) -> None:
        """See :class:`.Observer`."""
        self.metrics.renewal_failed()

    def acquired(self, term: Term, gap: float | None, took: float) -> None:
        """See :class:`.Observer`."""
        self._term = term.number
        self.metrics.promotion(took)
        if gap is not None:
            self.metrics.failover(gap)
        reason = term.cause.reason.value
        self.metrics.transition(LEADER, reason)
        self._systemd.status(LEADER, term.number)
        self._look_at_label()
        self._run_hook(LEADER, term.number, reason, gap)
        self._began(term.number, gap)

    def lost(self, term: Term, reason: Reason) -> None:
        """See :class:`.Observer`."""
        self.metrics.transition(FOLLOWER, reason.value)
        self._systemd.status(FOLLOWER)
        self._look_at_label()
        self._run_hook(FOLLOWER, term.number, reason.value, None)
        self._ended_term(term.number, reason)

    def _look_at_label(self) -> None:
        if self._label is not None:
            self._label.look()

    def _run_hook(
        self, role: str, term: int, reason: str, gap: float | None
    ) -> None:
        if self._hook is not None:
            from .on_transition import Transition

            self._hook.tell(Transition(role, term, reason, gap))
