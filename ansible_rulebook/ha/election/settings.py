"""What the settings of a session are to be, and whether they are.

A managed server may refuse one, a role or a connection pooler may replace or
drop it without a word. So each is read again once all have been set.
"""

from __future__ import annotations

from typing import Iterable, List, Mapping, Sequence

from .lease import SHORTEST_LEASE, Timings

Found = Mapping[str, Sequence[str]]
"""For each setting that the server knows its value and where it is from."""

# Limits of a role that would end a wait or a busy leader without need.
UNLIMITED = ("statement_timeout", "transaction_timeout")
# Each of these frees the lock of a silent leader.
LEASE_LIMITS = ("idle_session_timeout", "tcp_user_timeout")
SHORTEST_MS = int(SHORTEST_LEASE * 1000)
# The server cannot set these on a Unix socket, where no network can fail.
ON_TCP = "tcp_"
# Where a value is from that the connection string asks for.
ASKED_FOR = ("client", "session")

IN_LOCK = ("log_lock_waits", "lock_timeout", "client_min_messages")
IN_ALL = ("application_name", "client_encoding")

_NETWORK = "the lock of a leader behind a dead network is freed later"
_CUT_OFF = "a statement that takes long is cut off"
_MEANING = {
    "idle_session_timeout": "a leader that is paused but not dead is not "
    "replaced",
    "tcp_user_timeout": _NETWORK,
    "tcp_keepalives_idle": _NETWORK,
    "tcp_keepalives_interval": _NETWORK,
    "tcp_keepalives_count": _NETWORK,
    "client_connection_check_interval": "a worker that was killed while it "
    "waits for the lock stays in the queue",
    "lock_timeout": "a wait for the lock ends by the loss of the session",
    "statement_timeout": _CUT_OFF,
    "transaction_timeout": _CUT_OFF,
    "client_min_messages": "each wait for the lock takes a query more",
    "client_encoding": "names cannot be compared",
    "application_name": "pg_stat_activity does not show this worker",
    "default_transaction_isolation": "a new leader may not see what was "
    "written last",
}
_MEANING_OF_OTHERS = "the connection string's options are not heeded"


def stricter(ours: int, theirs: str | None) -> int:
    """The smaller of two limits, where 0 and nothing stand for no limit."""
    try:
        return min(ours, int(theirs or 0) or ours)
    except ValueError:
        return ours


def lock_limits(timings: Timings) -> dict[str, int]:
    """What makes the server notice, within the lease, that we are gone.

    Milliseconds, but seconds for the two keepalive times. Each closes
    another gap (measured on PostgreSQL 15): ``idle_session_timeout`` a paused
    process, keepalives an idle and ``tcp_user_timeout`` a talking session
    behind a dead network, ``client_connection_check_interval`` a waiter
    that was killed. None may free the lock while the leader trusts it.
    """
    lease = timings.lease_duration
    check = min(max(timings.poll_interval / 5, 0.1), 1.0)
    return {
        "idle_session_timeout": int(lease * 1000),
        "tcp_user_timeout": int(lease * 1000),
        "tcp_keepalives_idle": max(1, int(lease / 3)),
        "tcp_keepalives_interval": max(1, int(lease / 9)),
        "tcp_keepalives_count": 9,
        "client_connection_check_interval": int(check * 1000),
    }


def names_to_read(*names: Iterable[str]) -> list[str]:
    """The names of all these settings, as the server is asked for them."""
    return sorted({name.lower() for some in names for name in some})


def dropped(options: Mapping[str, str], found: Found) -> dict[str, str]:
    """What the connection string asks for and did not reach the server."""
    return {
        name: value
        for name, value in options.items()
        if name not in found or found[name][1] not in ASKED_FOR
    }


def not_in_effect(
    wanted: Mapping[str, str], asked: Iterable[str], found: Found
) -> list[str]:
    """The settings that are not as they were set. A lower limit is fine.

    :param wanted: name and value, in the server's unit.
    :param asked: names; for these it counts where the value is from.
    """
    missed = [
        name
        for name, value in wanted.items()
        if name in found and not _will_do(value, found[name][0])
    ]
    return missed + [
        name
        for name in asked
        if name not in wanted
        and name in found
        and found[name][1] not in ASKED_FOR
    ]


def _will_do(wanted: str, found: str) -> bool:
    if wanted == found:
        return True
    if not (wanted.isdigit() and found.isdigit()):
        return False
    return 0 < int(found) < int(wanted)


def warning(
    missed: Sequence[str], found: Found, refusals: Mapping[str, str]
) -> str:
    """One line: what did not take effect, and what follows from it.

    :param refusals: the server's words, for those that it refused.
    """
    meanings: dict[str, List[str]] = {}
    for name in missed:
        words = f"{name} is {found[name][0] or 'empty'}"
        if name in refusals:
            words += f" ({refusals[name]})"
        meaning = _MEANING.get(name, _MEANING_OF_OTHERS)
        meanings.setdefault(meaning, []).append(words)
    told = [
        f"{', '.join(words)}: {meaning}" for meaning, words in meanings.items()
    ]
    return f"Settings did not take effect: {'; '.join(told)}"
