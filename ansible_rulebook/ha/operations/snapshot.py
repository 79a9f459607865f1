"""What one worker knows of itself at one instant."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Callable, NamedTuple

FORMAT = 1  # of the JSON in which it is told
DRAINING = "draining"
CHECKED = ("worker_id", "role", "state", "term", "leader")


class PauseView(NamedTuple):
    """A pause. Times are seconds since the epoch."""

    by: str
    reason: str = ""
    """What for."""
    since: float | None = None
    until: float | None = None
    """None if it ends by no time."""

    def as_json(self) -> dict[str, Any]:
        """The same wherever it is told."""
        return self._asdict()


@dataclass(frozen=True)
class Snapshot:
    """One worker, as it sees itself. Made on demand, in any thread.

    Times are seconds since the epoch.
    """

    ha_uuid: str
    worker_id: str
    version: str
    """Of this distribution."""
    host: str
    pid: int
    started_at: float
    role: str = "follower"
    """``leader`` or ``follower``."""
    state: str = "offline"
    """A value of :class:`.candidate.Phase`, or ``draining``."""
    term: int = 0
    """0 if this worker is in none."""
    since: float = 0.0
    """When the role began."""
    leads: bool = False
    """By the lease's clock, asked when the snapshot was made."""
    can_take_over: bool = False
    rulesets_up: bool = False
    in_session: bool = False
    """Whether there is a session with PostgreSQL, as far as is known."""
    leader: str = ""
    """The id of the leader, as last seen."""
    pause: PauseView | None = None
    """Who keeps everybody from leading, as this worker last saw it."""
    lease_duration: float = 0.0
    """Seconds, as in force."""
    last_renewal: float | None = None
    is_alive: bool = True
    """False if this worker is about to end with exit code 75."""
    retained: int | None = None
    """Events that the rules keep; None without state."""
    pending: int | None = None
    """Matches whose actions have not ended; None without state."""
    behind: float | None = None
    """Seconds since the oldest change that is not durable yet, 0.0 if all
    are; None without state."""

    @property
    def is_paused(self) -> bool | None:
        """Whether the cluster is paused, as last seen; None if not known."""
        return self.pause is not None if self.in_session else None

    @property
    def serves(self) -> bool:
        """Whether clients should be sent here: it leads, and does not end."""
        return self.leads and self.state != DRAINING

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        told = asdict(self)
        told["pause"] = None if self.pause is None else self.pause.as_json()
        return {"version": FORMAT, "worker": told}

    def brief(self) -> dict[str, Any]:
        """What the answer to a health check tells."""
        told = {name: getattr(self, name) for name in CHECKED}
        return {"version": FORMAT, **told}


TakeSnapshot = Callable[[], Snapshot]
