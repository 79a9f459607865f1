"""What is to be done next about the label of the leader's pod."""

from __future__ import annotations

import enum

LOOK_EVERY = 10.0  # seconds between two looks of a leader at the other pods
FIRST_PAUSE = 0.5  # seconds before a call that failed is tried again
LONGEST_PAUSE = 15.0  # seconds


class Step(enum.Enum):
    """One thing to do."""

    SET = "set"
    """Give the own pod the label."""
    CLEAR = "clear"
    """Take it from the own pod."""
    LOOK = "look"
    """See which pods have it, and take it from those that are not ours."""


class LabelPlan:
    """Decides; :class:`.LeaderLabel` does it, and tells what came of it.

    A leader sets its own label first, so that clients find it, and then takes
    the label from the others: one that is dead cannot do so itself. It looks
    again from time to time, since a leader that was paused may have set its
    label late. Whoever does not lead clears its own label, at its start as
    well: a container that was started again has the pod, and so perhaps the
    label, of the one before.
    """

    def __init__(self) -> None:
        self._has_label: bool | None = None  # None: not known
        self._wanted: bool | None = None
        self._look_at = 0.0
        self._try_at = 0.0
        self._pause = 0.0

    @property
    def is_clear(self) -> bool:
        """Whether the own pod surely has no label."""
        return self._has_label is False

    def next(self, serves: bool, now: float) -> Step | None:
        """What to do now, if anything.

        :param serves: whether this worker's pod is to have the label.
        :param now: seconds on any clock that is never set back.
        """
        if serves is not self._wanted:
            self._wanted = serves
            self._look_at = self._try_at = now
            self._pause = 0.0
        if now < self._try_at:
            return None
        if not serves:
            return None if self.is_clear else Step.CLEAR
        if self._has_label is not True:
            return Step.SET
        return Step.LOOK if now >= self._look_at else None

    def done(self, step: Step, now: float, has_label: bool = True) -> None:
        """It has succeeded.

        :param has_label: what a look has found out about the own pod.
        """
        self._pause = 0.0
        if step is Step.CLEAR:
            self._has_label = False
        elif step is Step.SET:
            self._has_label = True
        else:
            self._has_label = has_label or None
            self._look_at = now + LOOK_EVERY

    def failed(self, step: Step, now: float) -> None:
        """It has failed, or it is not known what came of it."""
        if step is not Step.LOOK:
            self._has_label = None
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
        self._try_at = now + self._pause
