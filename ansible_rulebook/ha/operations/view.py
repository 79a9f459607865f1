"""The cluster as a person looks at it, wherever the answer comes from."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, NamedTuple, Union

from .snapshot import FORMAT, PauseView


class WorkerView(NamedTuple):
    """A worker. Times are seconds since the epoch, 0.0 if not known."""

    worker: str
    role: str
    """``leader`` or ``follower``."""
    state: str = ""
    host: str = ""
    pid: int = 0
    since: float = 0.0
    last_seen: float = 0.0
    version: str = ""
    priority: int = 100
    http: str = ""
    """``host:port`` of its own page, if it has one."""


class TermView(NamedTuple):
    """A term. Times are seconds since the epoch."""

    term: int
    worker: str
    began: float
    ended: float | None = None
    """None while it goes on, and if it is not known."""
    why_began: str = ""
    why_ended: str = ""
    gap: float | None = None
    """Seconds before it in which nobody led; None if not known."""
    events: int | None = None
    actions: int | None = None


class ClusterView(NamedTuple):
    """All of the workers, and the last terms, the newest one first."""

    workers: tuple[WorkerView, ...] = ()
    terms: tuple[TermView, ...] = ()
    pause: PauseView | None = None
    """Who keeps everybody from leading, if somebody does."""

    def as_json(self) -> dict[str, Any]:
        """The terms, as ``/history`` tells them."""
        terms = [term._asdict() for term in self.terms]
        return {"version": FORMAT, "terms": terms}


LookAtCluster = Callable[[], Union[ClusterView, Awaitable[ClusterView]]]
