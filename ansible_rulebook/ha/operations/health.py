"""Whether a cluster is as it should be."""

from __future__ import annotations

from typing import Iterable, NamedTuple

from ..redaction import clean
from .cluster import Cluster, Stranger
from .exit_codes import ExitCode
from .plain import count, duration, moment

# From good to bad.
_ORDER = (ExitCode.DONE, ExitCode.DEGRADED, ExitCode.REFUSED)


class Health(NamedTuple):
    """An exit code, and a sentence for each thing that is wrong."""

    code: ExitCode
    problems: tuple[str, ...] = ()


def judge(cluster: Cluster, followers: int = 0) -> Health:
    """The health of one cluster.

    :param followers: how many are required.
    """
    problems = []
    code = ExitCode.DONE
    if cluster.pause is not None:
        code = ExitCode.DEGRADED
        problems.append(f"paused by {pause_words(cluster.pause)}")
    elif cluster.leader is None:
        code = ExitCode.REFUSED
        problems.append("nobody leads")
        if not cluster.workers:
            problems.append(
                "no worker of this cluster is connected: start one, or "
                "compare the DSN and the UUID of the workers with those of "
                "this command. status --all shows the clusters that are here"
            )
        if cluster.stranger is not None:
            problems.append(
                f"the session {clean(cluster.stranger.name) or '(no name)'} "
                f"(PostgreSQL process {cluster.stranger.backend}) holds the "
                "lock, and is no worker"
            )
    elif cluster.is_silent:
        code = ExitCode.DEGRADED
        problems.append(
            "the leader has given no sign for "
            f"{duration(cluster.leader.silent)}, longer than its lease"
        )
    present = len(cluster.followers)
    if present < followers:
        code = max(code, ExitCode.DEGRADED, key=_ORDER.index)
        problems.append(
            f"{count(present, 'follower')} where {followers} are required"
        )
    return Health(code, tuple(problems))


def pause_words(pause: Stranger) -> str:
    """Who pauses a cluster, since when, until when, and what for."""
    words = f"{clean(pause.name)} since {moment(pause.since)}"
    if pause.until:
        words += f" until {moment(pause.until)}"
    return f"{words}: {clean(pause.reason)}" if pause.reason else words


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The worst of them. Without any cluster, nobody leads."""
    return max(codes, key=_ORDER.index, default=ExitCode.REFUSED)
