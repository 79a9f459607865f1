"""A run of upstream's that should be highly available and is not."""

from __future__ import annotations

import sys

# The command as every Python starts it, with what its .pth file does. Exits
# with 0 if it has our options.
HOOK = (
    "import sys; from ansible_rulebook.cli import get_parser; "
    "sys.exit('--ha-uuid' not in get_parser().format_help())"
)


def refuse_a_plain_run() -> None:
    """End a rulebook that runs without us though HA is asked for.

    That is so where Python reads no .pth file and upstream was called by its
    own script. All that can notice it is an import of ``ansible_rulebook.ha``
    by a source plugin.

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
