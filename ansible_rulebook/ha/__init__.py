"""High availability for ansible-rulebook.

The names below are the public API; they are imported when first used, so
that a run without HA options pays nothing for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .upstream.plain_run import refuse_a_plain_run

if TYPE_CHECKING:
    from .election.beacon import Beacon as Beacon
    from .election.leader_election import LeaderElection as LeaderElection
    from .election.leadership import fencing_token as fencing_token
    from .election.lease import Timings as Timings
    from .election.requests import Request as Request
    from .election.term import Term as Term
    from .errors import HaError as HaError
    from .errors import LeadershipLost as LeadershipLost
    from .errors import OptionError as OptionError
    from .errors import PromotionFailed as PromotionFailed
    from .errors import ServerRefused as ServerRefused
    from .errors import ServerUnavailable as ServerUnavailable
    from .errors import StateRefused as StateRefused
    from .inbox.delivery import Delivery as Delivery
    from .inbox.inbox import EventRefused as EventRefused
    from .inbox.inbox import Inbox as Inbox
    from .inbox.inbox import InboxFull as InboxFull

_HOMES = {
    "Beacon": "election.beacon",
    "Request": "election.requests",
    "LeaderElection": "election.leader_election",
    "Delivery": "inbox.delivery",
    "EventRefused": "inbox.inbox",
    "Inbox": "inbox.inbox",
    "InboxFull": "inbox.inbox",
    "HaError": "errors",
    "LeadershipLost": "errors",
    "OptionError": "errors",
    "PromotionFailed": "errors",
    "ServerRefused": "errors",
    "ServerUnavailable": "errors",
    "StateRefused": "errors",
    "fencing_token": "election.leadership",
    "Timings": "election.lease",
    "Term": "election.term",
}

__all__ = list(_HOMES)


refuse_a_plain_run()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
