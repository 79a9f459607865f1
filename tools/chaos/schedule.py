"""Which fault comes when: random, and decided by a seed.

Nothing here looks at a clock or at a cluster, so the same seed gives the same
schedule anywhere. A fault's durations are in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

LEADER = "leader"
FOLLOWER = "follower"
SERVER = "server"
LEADER_SHARE = 0.7  # of the faults that befall one worker


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    :param title: how tables name it.
    :param share: how many of them there are among all, roughly.
    :param shortest: how long it lasts at least, in leases.
    :param longest: and at most.
    :param modes: variants, one is taken at random.
    :param on_server: it befalls the server, not a worker.
    """

    title: str
    share: int
    shortest: float = 0.0
    longest: float = 0.0
    modes: tuple[str, ...] = ("",)
    on_server: bool = False


KINDS: dict[str, Kind] = {
    "kill": Kind("worker killed (SIGKILL)", 3),
    "terminate": Kind("worker terminated (SIGTERM)", 2),
    "pause-short": Kind("worker paused, shorter than the lease", 2, 0.1, 0.5),
    "pause-long": Kind("worker paused, longer than the lease", 2, 1.2, 2.2),
    "end-session": Kind("session terminated", 3, modes=("lock", "all")),
    "end-writer": Kind("state's session terminated", 2),
    "lock-journal": Kind(
        "state's table locked by somebody else", 1, 0.05, 0.6, on_server=True
    ),
    "restart-fast": Kind("server restarted, fast", 1, on_server=True),
    "restart-immediate": Kind(
        "server crashed and restarted", 1, on_server=True
    ),
    "stop": Kind(
        "server stopped for a while",
        1,
        0.1,
        0.9,
        modes=("fast", "immediate"),
        on_server=True,
    ),
    "full": Kind("server at its connection limit", 1, 0.2, 0.6),
    "promote": Kind(
        "standby promoted", 2, modes=("fast", "immediate"), on_server=True
    ),
    "cut-off": Kind("network dropped without a reset", 2, 0.2, 2.2),
    "cut-off-and-crash": Kind(
        "server crashed while a worker was cut off", 1, 0.4, 1.6
    ),
    "one-way": Kind(
        "network dropped in one direction",
        1,
        0.4,
        1.6,
        modes=("to server", "from server"),
    ),
    "slow": Kind("slow network", 1, 0.3, 0.8, modes=("0.02", "0.1", "0.25")),
    "block": Kind("main loop blocked by a plugin", 1, 0.3, 1.4),
    "block-and-end": Kind(
        "main loop blocked, session terminated", 1, 1.5, 1.5
    ),
}
NEEDS_STANDBY = frozenset({"promote"})
NEEDS_STATE = frozenset({"end-writer", "lock-journal"})
NEEDS_PROXIES = frozenset({"cut-off", "cut-off-and-crash", "one-way", "slow"})
# In these the server takes the lock away, and its word to who had it has a
# way of its own: who gets the lock next may hear of that before.
TAKEN_AWAY = frozenset(
    {
        "end-session",
        "restart-fast",
        "restart-immediate",
        "stop",
        "full",
        "promote",
        "block-and-end",
        "cut-off-and-crash",
    }
)


@dataclass(frozen=True)
class Fault:
    """One fault of a schedule.

    :param number: its place, from 1.
    :param kind: one of :data:`KINDS`.
    :param target: "leader", "follower" or "server".
    :param seconds: how long it lasts, 0 for an instant.
    :param mode: a variant of the kind.
    :param calm: seconds from the end of the one before to this one.
    :param choice: in [0, 1): which one, where there are several followers.
    """

    number: int
    kind: str
    target: str
    seconds: float
    mode: str
    calm: float
    choice: float

    def as_row(self) -> dict[str, Any]:
        """As the record of the run has it."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What a schedule is made from, besides the seed.

    :param lease: seconds.
    :param standby: whether there is a standby to promote.
    :param proxied: whether workers go through proxies that can be deaf.
    :param state: whether workers keep state.
    :param kinds: which kinds of faults, all if empty.
    :param calmest: seconds, the longest calm between two faults.
    """

    lease: float = 3.0
    standby: bool = False
    proxied: bool = True
    state: bool = False
    kinds: tuple[str, ...] = ()
    calmest: float = 1.0

    def bag(self) -> list[str]:
        """Each kind as often as its share says.

        :raises ValueError: if there is no such kind, or nothing is left.
        """
        for name in self.kinds:
            if name not in KINDS:
                raise ValueError(
                    f"no such fault: {name}; there are {', '.join(KINDS)}"
                )
        bag = [
            name
            for name, kind in KINDS.items()
            if (not self.kinds or name in self.kinds)
            and (self.standby or name not in NEEDS_STANDBY)
            and (self.proxied or name not in NEEDS_PROXIES)
            and (self.state or name not in NEEDS_STATE)
            for _ in range(kind.share)
        ]
        if not bag:
            raise ValueError("these faults need a standby, state or proxies")
        return bag


def faults(seed: int, plan: Plan) -> Iterator[Fault]:
    """The faults of a schedule, without end.

    Each kind comes once at first, so that a short schedule has the rare ones,
    too. Then they are drawn from a bag that is filled again when it is empty.
    """
    # A string is hashed the same everywhere, and tells apart what two
    # generators draw from the same seed.
    dice = random.Random(f"faults {seed}")
    bag = sorted(set(plan.bag()))
    dice.shuffle(bag)
    number = 0
    while True:
        if not bag:
            bag = plan.bag()
            dice.shuffle(bag)
        number += 1
        name = bag.pop()
        kind = KINDS[name]
        # Always the same draws, whatever the kind has a use for.
        target = LEADER if dice.random() < LEADER_SHARE else FOLLOWER
        leases = dice.uniform(kind.shortest, kind.longest)
        mode = kind.modes[int(dice.random() * len(kind.modes))]
        calm = dice.uniform(0.05, 1.0) * plan.calmest
        choice = dice.random()
        if kind.on_server:
            target = SERVER
        elif name in ("full", "block-and-end"):
            target = LEADER
        yield Fault(
            number,
            name,
            target,
            round(leases * plan.lease, 3),
            mode,
            round(calm, 3),
            round(choice, 3),
        )
