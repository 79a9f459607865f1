"""The clock that leases are judged with."""

from __future__ import annotations

import time
from functools import partial
from typing import Callable

now: Callable[[], float] = time.monotonic
"""Seconds that go on while the machine is suspended.

``CLOCK_BOOTTIME`` (see ``clock_gettime(2)``) never steps, and unlike
``CLOCK_MONOTONIC`` it counts a suspended laptop or a paused virtual machine:
a lease must not survive either. Where there is no such clock,
:func:`time.monotonic` stands in for it.
"""

if hasattr(time, "CLOCK_BOOTTIME"):
    # Asked several times an event, so without a frame of its own.
    now = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
