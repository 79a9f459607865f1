"""Keeps a label on the pod of the worker that leads, and on no other."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Callable

from ..log import WorkerLog
from .kubernetes import ApiFailed, PodChanged, Pods
from .label_plan import LabelPlan, Step
from .pod import Pod

LOOK_EVERY = 0.5  # seconds between two looks at this worker
CLOSE_WITHIN = 5.0  # seconds for the label to be taken away at the end
END_WITHIN = 1.0  # seconds, for a call that was cancelled


class LeaderLabel:
    """One for each worker, in a thread with an event loop of its own.

    Nothing waits for it: not the election, not the rulebook. It looks at the
    worker again and again, so it does not rely on being told of each change.
    What fails is tried again; the log says so once.

    :param pod: the worker's own, and the label.
    :param ha_uuid: of the cluster.
    :param serves: whether clients shall be sent to this worker. For any
        thread; must not wait.
    :param log: for what fails.
    """

    def __init__(
        self,
        pod: Pod,
        ha_uuid: str,
        serves: Callable[[], bool],
        log: WorkerLog,
    ) -> None:
        self._pod = pod
        self._ha_uuid = ha_uuid
        self._serves = serves
        self._log = log
        self._plan = LabelPlan()
        self._fails = False  # and the log says so
        self._ends_at: float | None = None
        self._loop = asyncio.new_event_loop()
        self._news: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(
            target=self._run, name="ha-label", daemon=True
        )

    def start(self) -> None:
        """Begin: take away what an earlier process of this pod has left."""
        self._task = self._loop.create_task(self._follow())
        self._thread.start()

    def look(self) -> None:
        """The worker may have changed: look at once. For any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._wake)

    def leave(self) -> None:
        """The worker ends: take the label away, and then do no more."""
        self._ends_at = time.monotonic() + CLOSE_WITHIN
        self.look()

    def close(self) -> None:
        """Wait for that, for a bounded time since :meth:`leave`."""
        if self._ends_at is None:
            self.leave()
        assert self._ends_at is not None
        self._thread.join(max(0.0, self._ends_at - time.monotonic()))
        if self._task is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(END_WITHIN)

    # -- in the thread ---------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        assert self._task is not None
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)
        finally:
            self._loop.close()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()

    def _is_wanted(self) -> bool:
        return self._ends_at is None and self._serves()

    async def _follow(self) -> None:
        self._news = asyncio.Event()
        async with Pods(self._pod, self._ha_uuid) as pods:
            while self._ends_at is None or not self._plan.is_clear:
                self._news.clear()
                step = self._plan.next(self._is_wanted(), time.monotonic())
                if step is not None:
                    await self._try(pods, step)
                    continue
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._news.wait(), LOOK_EVERY)

    async def _try(self, pods: Pods, step: Step) -> None:
        try:
            has_label = await self._do(pods, step)
        except Exception as error:
            self._plan.failed(step, time.monotonic())
            self._warn(error)
            return
        self._plan.done(step, time.monotonic(), has_label)
        if self._fails:
            self._log.info("The label of the leader's pod is kept again")
        self._fails = False

    def _warn(self, error: Exception) -> None:
        if not self._fails:
            why = str(error)
            if not isinstance(error, ApiFailed):
                why = f"{type(error).__name__}: {error}"
            self._log.warning(
                "The label of the leader's pod cannot be kept, retrying",
                why,
                pod=self._pod.name,
            )
        self._fails = True

    async def _do(self, pods: Pods, step: Step) -> bool:
        """Returns whether the own pod has the label, as far as is known."""
        if step is Step.LOOK:
            return await self._look_at_all(pods)
        if step is Step.CLEAR:
            await pods.clear_own()
            return False
        await pods.set_own()
        self._log.info(
            "This pod has the label of the leader", pod=self._pod.name
        )
        return True

    async def _look_at_all(self, pods: Pods) -> bool:
        found = await pods.labelled()
        for each in found:
            if each.name == self._pod.name or not self._is_wanted():
                continue
            try:
                await pods.clear(each)
            except PodChanged:  # the next look will tell
                continue
            self._log.info(
                "The label of the leader was taken from another pod",
                pod=each.name,
            )
        return any(each.name == self._pod.name for each in found)
