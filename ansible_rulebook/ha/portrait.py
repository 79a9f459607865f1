"""Takes snapshots: what a worker's parts say at one instant."""

from __future__ import annotations

import os
import socket
import time

from .election.candidate import Phase
from .election.leadership import Leadership
from .election.observer import View
from .election.thread import ElectionThread
from .operations.snapshot import DRAINING, PauseView, Snapshot
from .options import HaOptions
from .rulebook.rulesets import Rulesets
from .rulebook.self_fence import SelfFence
from .state.keeper import StateKeeper
from .version import own_version


class Portrait:
    """Takes snapshots of one worker, in any thread.

    :param options: what the operator asked for.
    :param worker_id: of the worker; the other parameters are its parts.
    """

    def __init__(
        self,
        options: HaOptions,
        worker_id: str,
        election: ElectionThread,
        leadership: Leadership,
        rulesets: Rulesets,
        keeper: StateKeeper,
        self_fence: SelfFence,
    ) -> None:
        self._options = options
        self._worker_id = worker_id
        self._election = election
        self._leadership = leadership
        self._rulesets = rulesets
        self._keeper = keeper
        self._self_fence = self_fence
        self._host = socket.gethostname()
        self._started_at = time.time()

    def take(self) -> Snapshot:
        """The worker as it is now."""
        view, store = self._election.view(), self._keeper.store
        is_leaving = self._leadership.shutdown_event.is_set()
        is_up = self._rulesets.up.is_set()
        phase = Phase.OFFLINE.value if view is None else view.phase
        lease = self._options.timings.lease_duration
        return Snapshot(
            str(self._options.ha_uuid),
            self._worker_id,
            own_version(),
            self._host,
            os.getpid(),
            self._started_at,
            role="leader" if phase == Phase.LEADING.value else "follower",
            state=DRAINING if is_leaving else phase,
            term=0 if view is None else view.term,
            since=self._started_at if view is None else view.since,
            leads=self._leadership.is_open(),
            can_take_over=phase == Phase.CONTENDING.value
            and is_up
            and not is_leaving
            and self._keeper.obstacle is None
            and self._options.priority > 0,
            rulesets_up=is_up,
            in_session=view is not None and view.in_session,
            leader="" if view is None else view.leader,
            pause=pause_seen(view),
            lease_duration=lease if view is None else view.lease,
            last_renewal=None if view is None else view.last_renewal,
            is_alive=not self._self_fence.is_called,
            retained=None if store is None else store.retained,
            pending=None if store is None else store.pending,
            behind=None if store is None else store.behind,
        )


def pause_seen(view: View | None) -> PauseView | None:
    """The pause of the cluster, as the election last saw it."""
    if view is None or view.pause is None or not view.in_session:
        return None
    said = view.pause
    return PauseView(
        said.worker, said.reason, said.since or None, said.until or None
    )
