"""By what a repeated request is told from a new one."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ansible_rulebook.ha.webhook.idempotency import KNOWN, Idempotency

NOTIFICATION: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}:{alertname="DiskFull"}',
    "receiver": "eda",
    "status": "firing",
    "externalURL": "http://am-1:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "DiskFull"},
            "startsAt": "2026-01-31T10:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "bd89880863e2a021",
        }
    ],
}


def key(
    headers: dict[str, str] | None = None,
    endpoint: str = "hook",
    payload: Any = None,
    now: float = 0.0,
    **options: Any,
) -> str | None:
    return Idempotency(**options).key(
        CIMultiDict(headers or {}), endpoint, payload, now
    )


@pytest.mark.parametrize("name", KNOWN)
def test_the_headers_of_known_senders_name_a_request(name: str) -> None:
    first = key({name: "1"})
    assert first is not None
    assert key({name.lower(): " 1 "}, payload=5, now=9e9) == first
    assert key({name: "2"}) not in (None, first)
    # GitHub gives one event the same id at several webhooks.
    assert key({name: "1"}, endpoint="other") not in (None, first)
    assert key({name: ""}) is None


def test_one_name_in_two_headers_is_two_names() -> None:
    assert key({KNOWN[0]: "1"}) != key({KNOWN[2]: "1"})


def test_a_header_of_ones_own_is_the_only_one_that_counts() -> None:
    own = Idempotency(headers=("X-Mine",))

    def made(given: dict[str, str]) -> str | None:
        return own.key(CIMultiDict(given), "", None, 0.0)

    assert made({"X-Mine": "1", KNOWN[0]: "2"}) == made({"x-mine": "1"})
    assert made({KNOWN[0]: "2"}) is None


@given(st.text(), st.text())
def test_any_value_will_do(one: str, other: str) -> None:
    made = [key({KNOWN[0]: each}) for each in (one, other)]
    assert all(each is None or len(each) == 64 for each in made)
    if one.strip() != other.strip():
        assert made[0] != made[1]


def test_a_notification_is_known_again_for_a_while_only() -> None:
    first = key(payload=NOTIFICATION, now=1000.0, repeat_interval=100.0)
    assert first is not None

    def again(now: float = 1001.0, **changes: Any) -> str | None:
        payload = {**copy.deepcopy(NOTIFICATION), **changes}
        return key(payload=payload, now=now, repeat_interval=100.0)

    assert again() == first  # a retry, soon
    assert again(externalURL="http://am-2:9093") == first  # of its cluster
    assert again(now=1100.0) not in (None, first)  # on purpose
    resolved = [{**NOTIFICATION["alerts"][0], "status": "resolved"}]
    assert again(status="resolved", alerts=resolved) not in (None, first)
    other = key(payload=NOTIFICATION, endpoint="x", now=1000.0)
    assert other not in (None, first)


@given(
    st.floats(1, 86400),
    st.floats(0, 2e9),
    st.floats(-0.4, 0.4),
)
def test_what_is_sent_on_purpose_is_never_taken_for_a_retry(
    interval: float, now: float, skew: float
) -> None:
    # The second comes to a worker whose clock differs a little.
    later = now + interval * (1 + skew)
    one, other = (
        key(payload=NOTIFICATION, now=at, repeat_interval=interval)
        for at in (now, later)
    )
    assert one != other


@pytest.mark.parametrize(
    "payload",
    [
        *(None, 5, "text", [], {}, {"alerts": []}, {"groupKey": "x"}),
        {**NOTIFICATION, "alerts": {}},
        {**NOTIFICATION, "alerts": ["x"]},
        {**NOTIFICATION, "alerts": [{}]},
        {**NOTIFICATION, "groupKey": 5},
    ],
    ids=lambda payload: json.dumps(payload)[:30],
)
def test_other_payloads_name_nothing(payload: Any) -> None:
    assert key(payload=payload) is None


def test_notifications_can_be_left_alone() -> None:
    assert key(payload=NOTIFICATION, repeat_interval=0.0) is None
