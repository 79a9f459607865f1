"""Which fault comes when: random, and decided by a seed.

Nothing here looks at a clock or at a cluster, so the same seed gives the same
schedule anywhere. A fault's durations are in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

LEADER = "leader"
FOLLOWER = "follower"
SERVER = "server"
LEADER_SHARE = 0.7  # of the faults that befall one worker

# What a cluster can have.
STANDBY = "standby"
PROXIES = "proxies"
VOLUME = "volume"
CLOCKS = "clocks"
PATRONI = "patroni"  # three nodes under it, in place of a server
CHOICES = (STANDBY, PROXIES, VOLUME, CLOCKS, PATRONI)
STATE = "state"


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    :param title: how tables name it.
    :param share: how many of them there are among all, roughly.
    :param shortest: how long it lasts at least, in leases.
    :param longest: and at most.
    :param modes: variants, one is taken at random.
    :param befalls: one worker at random, or only that which leads, or the
        server.
    :param needs: what a cluster has to have for it: "standby", "proxies",
        "state", "volume", "clocks" or "patroni".
    :param two_primaries: there are two servers for a while, and so two locks.
    :param takes_the_lock: the server takes it away, and its word to who had
        it has a way of its own: who gets it next may hear of that before.
    """

    title: str
    share: int
    shortest: float = 0.0
    longest: float = 0.0
    modes: tuple[str, ...] = ("",)
    befalls: str = ""
    needs: str = ""
    takes_the_lock: bool = False
    two_primaries: bool = False


KINDS: dict[str, Kind] = {
    "kill": Kind("worker killed (SIGKILL)", 3),
    "kill-two": Kind(
        "two workers killed or paused at once",
        1,
        0.5,
        1.5,
        modes=("kill", "pause"),
    ),
    "kill-guardian": Kind(
        "guardian of the playbooks killed",
        1,
        0.1,
        0.5,
        modes=("alone", "then its worker"),
        # A follower's is told nothing, so nobody would notice.
        befalls=LEADER,
    ),
    "terminate": Kind("worker terminated (SIGTERM)", 2),
    "pause-short": Kind("worker paused, shorter than the lease", 2, 0.1, 0.5),
    "pause-long": Kind("worker paused, longer than the lease", 2, 1.2, 2.2),
    "end-session": Kind(
        "session terminated", 3, modes=("lock", "all"), takes_the_lock=True
    ),
    "end-writer": Kind("state's session terminated", 2, needs=STATE),
    "lock-journal": Kind(
        "state's table locked by somebody else",
        1,
        0.05,
        0.6,
        befalls=SERVER,
        needs=STATE,
    ),
    "restart-fast": Kind(
        "server restarted, fast", 1, befalls=SERVER, takes_the_lock=True
    ),
    "restart-immediate": Kind(
        "server crashed and restarted",
        1,
        befalls=SERVER,
        takes_the_lock=True,
    ),
    "stop": Kind(
        "server stopped for a while",
        1,
        0.1,
        0.9,
        modes=("fast", "immediate"),
        befalls=SERVER,
        takes_the_lock=True,
    ),
    "full": Kind(
        "server at its connection limit",
        1,
        0.2,
        0.6,
        befalls=LEADER,
        takes_the_lock=True,
    ),
    "disk-full": Kind(
        "server's volume full",
        1,
        0.2,
        0.8,
        modes=("tables", "log"),
        befalls=SERVER,
        needs=VOLUME,
        takes_the_lock=True,
    ),
    "slow-disk": Kind("commits that take long", 1, 0.3, 1.2, befalls=SERVER),
    "password": Kind(
        "password changed, sessions ended",
        1,
        0.1,
        0.6,
        modes=("file first", "file later"),
        befalls=SERVER,
        takes_the_lock=True,
    ),
    "read-only": Kind(
        "role made read-only for a while",
        1,
        0.2,
        0.8,
        modes=("new sessions", "all sessions"),
        befalls=SERVER,
        takes_the_lock=True,
    ),
    "clock": Kind(
        "clock of a worker set by hours",
        1,
        0.3,
        1.2,
        modes=("-26h", "-1h", "+1h", "+26h"),
        needs=CLOCKS,
    ),
    "promote": Kind(
        "standby promoted",
        2,
        modes=("fast", "immediate"),
        befalls=SERVER,
        needs=STANDBY,
        takes_the_lock=True,
    ),
    "patroni-switchover": Kind(
        "PostgreSQL switched over by Patroni",
        1,
        befalls=SERVER,
        needs=PATRONI,
        takes_the_lock=True,
    ),
    "patroni-crash": Kind(
        "primary's node killed, under Patroni",
        1,
        befalls=SERVER,
        needs=PATRONI,
        takes_the_lock=True,
    ),
    "patroni-freeze": Kind(
        "primary's Patroni paused, its PostgreSQL not",
        1,
        0.5,
        2.0,
        befalls=SERVER,
        needs=PATRONI,
        takes_the_lock=True,
        two_primaries=True,
    ),
    "cut-off": Kind(
        "network dropped without a reset", 2, 0.2, 2.2, needs=PROXIES
    ),
    "cut-off-and-crash": Kind(
        "server crashed while a worker was cut off",
        1,
        0.4,
        1.6,
        needs=PROXIES,
        takes_the_lock=True,
    ),
    "one-way": Kind(
        "network dropped in one direction",
        1,
        0.4,
        1.6,
        modes=("to server", "from server"),
        needs=PROXIES,
    ),
    "slow": Kind(
        "slow network",
        1,
        0.3,
        0.8,
        modes=("0.02", "0.1", "0.25"),
        needs=PROXIES,
    ),
    "unstorable": Kind(
        "event that cannot be stored",
        1,
        # One of a source without either is known to one worker only, which
        # may not lead again.
        modes=("feedback", "posted"),
        befalls=SERVER,
        needs=STATE,
    ),
    "stubborn": Kind(
        "source that does not end, session terminated",
        1,
        befalls=LEADER,
        takes_the_lock=True,
    ),
    "block": Kind("main loop blocked by a plugin", 1, 0.3, 1.4),
    "block-and-end": Kind(
        "main loop blocked, session terminated",
        1,
        1.5,
        1.5,
        befalls=LEADER,
        takes_the_lock=True,
    ),
}


@dataclass(frozen=True)
class Fault:
    """One fault of a schedule.

    :param number: its place, from 1.
    :param kind: one of :data:`KINDS`.
    :param target: whom it befalls: "leader", "follower" or "server".
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
    :param has: what the cluster has that kinds of faults may need.
    :param kinds: which kinds of faults, all if empty.
    :param calmest: seconds, the longest calm between two faults.
    """

    lease: float = 3.0
    has: frozenset[str] = frozenset({PROXIES})
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
            and (not kind.needs or kind.needs in self.has)
            and not self._is_patronis(kind)
            for _ in range(kind.share)
        ]
        if not bag:
            needed = {KINDS[name].needs for name in self.kinds}
            raise ValueError(f"these faults need {', '.join(sorted(needed))}")
        return bag

    def _is_patronis(self, kind: Kind) -> bool:
        """Whether it is done to a server that is Patroni's to care for."""
        return (
            PATRONI in self.has
            and kind.befalls == SERVER
            and kind.needs not in (PATRONI, STATE)
        )


def cluster_of(seed: int, kinds: Iterable[str] = ()) -> frozenset[str]:
    """What the cluster of a schedule has, by its seed.

    Every other one has a standby, and the rest a primary on a volume of its
    own. Two of four have proxies; in the others workers reach the server
    directly, and nothing but that can delay an answer.

    :param kinds: the faults that are to be done, if not all.
    """
    if any(KINDS[kind].needs == PATRONI for kind in kinds if kind in KINDS):
        return frozenset({PATRONI})
    either = [STANDBY, VOLUME] if seed % 2 == 0 else [VOLUME, STANDBY]
    has = {either[0]}
    if seed % 4 < 2:
        has.add(PROXIES)
    if seed % 3 == 0:
        has.add(CLOCKS)
    needed = {KINDS[kind].needs for kind in kinds if kind in KINDS}
    has |= needed - {"", STATE}
    if has.issuperset(either):
        has.discard(either[0 if either[0] not in needed else 1])
    return frozenset(has)


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
        yield Fault(
            number,
            name,
            kind.befalls or target,
            round(leases * plan.lease, 3),
            mode,
            round(calm, 3),
            dice.random(),  # rounded, it could be 1
        )
