"""When a worker ended its term, and the next one began: by their logs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rich")

from bench.switchover import last_of
from bench.worker import LEADS, STAMP, moment, stamp_of
from rig.workers import LOST

DAY = "2026-11-27 "
NAME = "ansible_rulebook.ha.election"
PROCESS: Any = SimpleNamespace(
    text=f"""\
{DAY}10:00:00,250 - {NAME} - INFO - Worker a: Successfully acquired leadership
{DAY}10:00:01,000 - {NAME} - INFO - Worker a: Lost leadership: asked
{DAY}10:00:09,500 - {NAME} - INFO - Worker a: Successfully acquired leadership
{DAY}10:00:10,046 - {NAME} - WARNING - Worker a: Lost leadership: asked
"""
)


def test_the_last_of_several_terms_counts():
    began, ended = last_of(PROCESS, LEADS), last_of(PROCESS, STAMP + LOST)
    assert ended - began == pytest.approx(0.546)


def test_the_first_one_is_another():
    first = stamp_of(PROCESS, LEADS)
    assert last_of(PROCESS, LEADS) - first == pytest.approx(9.25)


def test_actions_and_logs_tell_a_time_in_two_ways():
    assert moment(f"{DAY}10:00:00,250") == moment(f"{DAY}10:00:00.25")
