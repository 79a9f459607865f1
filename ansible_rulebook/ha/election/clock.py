"""The clock that leases are judged with."""

from __future__ import annotations

import time
from functools import partial
from typing import Callable

now: Callable[[], float] = time.monotonic
"""Seconds that go on while the machine is suspended.

``CLOCK_BOOTTIME`` (see ``clock_gettime(2)``) never steps, and unlike
``CLOCK_MONOTONIC`` it counts the time for which a machine was suspended by
its own kernel: a lease must not survive that. It does not count a pause by
the hypervisor, of which the machine's kernel knows nothing. So before
anything with effects outside, the server is asked
(:meth:`.Elector.confirm`). Where there is no such clock,
:func:`time.monotonic` stands in for it.
"""

if hasattr(time, "CLOCK_BOOTTIME"):
    # Asked several times an event, so without a frame of its own.
    now = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
