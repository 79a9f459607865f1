"""High availability for ansible-rulebook.

The names below are the public API; they are imported when first used, so
that a run without HA options pays nothing for them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .election.leader_election import LeaderElection as LeaderElection
    from .election.leadership import fencing_token as fencing_token
    from .election.lease import Timings as Timings
    from .election.term import Term as Term
    from .errors import HaError as HaError
    from .errors import LeadershipLost as LeadershipLost
    from .errors import OptionError as OptionError
    from .errors import PromotionFailed as PromotionFailed
    from .errors import ServerRefused as ServerRefused
    from .errors import StateRefused as StateRefused

_HOMES = {
    "LeaderElection": "election.leader_election",
    "HaError": "errors",
    "LeadershipLost": "errors",
    "OptionError": "errors",
    "PromotionFailed": "errors",
    "ServerRefused": "errors",
    "StateRefused": "errors",
    "fencing_token": "election.leadership",
    "Timings": "election.lease",
    "Term": "election.term",
}

__all__ = list(_HOMES)


def _refuse_a_plain_run() -> None:
    """End a rulebook that runs without us though HA is asked for.

    That is so where Python reads no .pth file and upstream was called by its
    own script. All that can notice it is this import, by a source plugin.

    :raises ImportError: if it is such a run.
    """
    if "ansible_rulebook.app" not in sys.modules:
        return
    if "_ansible_rulebook_ha" in sys.modules:
        return
    from _ansible_rulebook_ha import ha_is_wanted

    if ha_is_wanted():
        raise ImportError(
            "high availability is asked for, but this ansible-rulebook runs "
            "without it: Python has not read ansible_rulebook_ha.pth, see "
            "'Is the extension there?' in the guide"
        )


_refuse_a_plain_run()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
