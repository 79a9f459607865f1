"""Poll interval and lease, and what they may not be."""

from __future__ import annotations

import math
import time

import pytest

from ansible_rulebook.ha.election import clock
from ansible_rulebook.ha.election.lease import LONGEST, SHORTEST_LEASE, Timings


def test_the_lease_is_three_poll_intervals_unless_given():
    assert Timings.of(5.0) == Timings(5.0, 15.0)
    assert Timings.of(5.0, 7.0) == Timings(5.0, 7.0)


@pytest.mark.parametrize(
    ("poll", "lease"), [(0.1, SHORTEST_LEASE), (3000.0, LONGEST)]
)
def test_the_default_lease_stays_in_its_bounds(poll, lease):
    assert Timings.of(poll).lease_duration == lease


@pytest.mark.parametrize("poll", [0.05, 1.0, 5.0, 60.0, 3600.0])
@pytest.mark.parametrize("lease", [1.0, 2.0, 15.0, 3600.0])
def test_trust_ends_a_demotion_before_the_server_frees_the_lock(poll, lease):
    timings = Timings(poll, lease)
    assert timings.trust_for + timings.demote_within <= lease * (1 + 1e-12)
    # A renewal may be lost or late without the end of the term.
    assert timings.renew_every <= timings.trust_for / 2 * (1 + 1e-12)
    assert timings.renew_every <= poll


def test_the_server_can_shorten_the_lease_but_not_lengthen_it():
    timings = Timings(5.0, 15.0)
    assert timings.shortened(6.0) == Timings(5.0, 6.0)
    assert timings.shortened(20.0) is timings
    assert timings.shortened(0.2).lease_duration == SHORTEST_LEASE


BAD = [0, -1.0, 0.001, math.nan, math.inf, -math.inf, 3600.1]


@pytest.mark.parametrize("value", BAD)
def test_a_poll_interval_that_cannot_be_is_named(value):
    with pytest.raises(ValueError, match="poll_interval must be"):
        Timings(value, 15.0)
    with pytest.raises(ValueError, match="poll_interval must be"):
        Timings.of(value)


@pytest.mark.parametrize("value", [*BAD, 0.999])
def test_a_lease_that_cannot_be_is_named(value):
    with pytest.raises(ValueError, match="lease_duration must be"):
        Timings(5.0, value)


def test_the_lease_clock_goes_on_while_the_machine_sleeps():
    first = clock.now()
    assert clock.now() >= first
    if hasattr(time, "CLOCK_BOOTTIME"):
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert boot - 60 < first <= boot
