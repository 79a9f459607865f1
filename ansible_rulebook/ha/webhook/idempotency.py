"""By what a repeated request is told from a new one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Mapping

# The first that a request has counts. Each stays the same when the sender
# repeats a delivery. In this order: GitLab and others, Standard Webhooks,
# GitHub, Gitea, Forgejo, Jira.
KNOWN = (
    "Idempotency-Key",
    "Webhook-Id",
    "X-GitHub-Delivery",
    "X-Gitea-Delivery",
    "X-Forgejo-Delivery",
    "X-Atlassian-Webhook-Identifier",
)


@dataclass(frozen=True)
class Idempotency:
    """How requests are told apart.

    :param headers: those that name a request; the first one that it has.
    :param repeat_interval: seconds after which Alertmanager, at the
        earliest, sends a notification again on purpose; 0 to look at no
        notification. It names none of them, and what it repeats after a
        failure equals what it repeats on purpose, but for the time.
    """

    headers: tuple[str, ...] = KNOWN
    repeat_interval: float = 60.0

    def key(
        self,
        headers: Mapping[str, str],
        endpoint: str,
        payload: Any,
        now: float,
    ) -> str | None:
        """The key of a request, or None if nothing tells it from others.

        It is a hash, so that any header will do. The endpoint is part of
        it: GitHub gives one event the same name at each of its webhooks.

        :param headers: looked up without regard to case.
        :param now: seconds since the epoch.
        """
        for name in self.headers:
            value = headers.get(name, "").strip()
            if value:
                return _hash(name.lower(), endpoint, value)
        if self.repeat_interval and _is_notification(payload):
            # Two that are sent on purpose never share half an interval, even
            # if the clocks of two workers differ a little.
            span = int(now // (self.repeat_interval / 2))
            # Each Alertmanager of a cluster has an address of its own.
            same = {
                key: payload[key] for key in payload.keys() - {"externalURL"}
            }
            return _hash(
                "notification",
                endpoint,
                str(span),
                json.dumps(same, sort_keys=True),
            )
        return None


def _is_notification(payload: Any) -> bool:
    """Alertmanager's form, which Grafana has as well."""
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("groupKey"), str)
        and isinstance(payload.get("alerts"), list)
        and all(
            isinstance(each, dict) and "fingerprint" in each
            for each in payload["alerts"]
        )
    )


def _hash(*parts: str) -> str:
    text = "\0".join(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
