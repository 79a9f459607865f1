"""What it costs to keep the rules' state in PostgreSQL.

First with nothing retained: four processes run the same rulebook and take
turns, ansible-rulebook alone, with its own ``--persistence-id``, a leading
worker without state, and one with it. Then with events in the memory of the
rules: a worker that retains none, one that retains so many, and upstream with
``--persistence-id`` that retains as many. Every event is matched, and all
write to one server that flushes to its disk as servers do.

A burst shows what a worker can do. Events that come one at a time show what
each of them waits for, which a burst hides: from when the source put it until
its action runs. After each heat nothing may be left to be recovered.
"""

from __future__ import annotations

import json
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from rig.server import EmbeddedRig

from ansible_rulebook.ha.state import sql

from .bursts import (
    WITH_STATE,
    WITHOUT_STATE,
    Contestant,
    Turn,
    compete,
    delays,
    rates,
)
from .report import Figure, Goal, Result
from .setting import AS_A_SERVER, Setting

OF_OFF = 0.45  # of the events of a worker without state
OF_UPSTREAM = {0: 4.0, 4_000: 20.0}  # times, by what is retained
COST = 1.5  # times what an event costs with nothing retained
RETAINED = (1_000, 4_000, 10_000)
UPSTREAM_BURST = {0: 1000, 1_000: 300, 4_000: 100, 10_000: 50}  # events
OURS, THEIRS = "with state", "upstream, --persistence-id"
OFF, PLAIN = "--ha-state off", "upstream without persistence"
RECORDING = 10.0  # seconds until all that has run is recorded


def upstream_variables(dsn: str) -> dict[str, str]:
    """What upstream's own persistence is told."""
    parts = conninfo_to_dict(dsn)
    return {
        "drools_db_host": str(parts.get("host", "127.0.0.1")),
        "drools_db_port": str(parts.get("port", 5432)),
        "drools_db_name": str(parts["dbname"]),
        "drools_db_user": str(parts["user"]),
        "drools_db_password": str(parts.get("password") or "none"),
    }


class Stateful(Contestant):
    """A leading worker with state, in a database of its own."""

    LEFT = f"SELECT count(*) FROM {sql.MATCH}"
    KEPT = f"SELECT count(*) FROM {sql.RECORD} WHERE kind = 'E'"

    def __init__(
        self, name: str, root: Path, events: int, dsn: str, retained: int = 0
    ) -> None:
        super().__init__(name, root, events, dsn, WITH_STATE, retained)


class Persistent(Contestant):
    """Upstream with ``--persistence-id``, in a database of its own."""

    LEFT = "SELECT count(*) FROM drools_ansible_matching_event"
    KEPT = "SELECT count(*) FROM drools_ansible_event_record"

    def __init__(
        self, name: str, root: Path, events: int, dsn: str, retained: int = 0
    ) -> None:
        variables = root / f"{name}.json"
        variables.write_text(json.dumps(upstream_variables(dsn)), "utf-8")
        args = ("--vars", str(variables))
        own = ("--persistence-id", str(uuid.uuid4()))
        super().__init__(name, root, events, None, args + own, retained)
        self.dsn = dsn


def check(server: EmbeddedRig, contestant: Stateful | Persistent) -> None:
    """Look into the tables after the events.

    :raises AssertionError: if matches would be recovered, or another number
        of events is retained than there should be.
    """
    name, dsn = contestant.worker.name, contestant.dsn
    deadline = time.monotonic() + RECORDING
    while True:
        ((left,),) = server.query(contestant.LEFT, dsn=dsn)
        if not left:
            break
        assert time.monotonic() < deadline, f"{name}: {left} are pending"
        time.sleep(0.1)
    ((kept,),) = server.query(contestant.KEPT, dsn=dsn)
    assert kept == contestant.retained, f"{name} retains {kept}"


class Arena:
    """The server, and how many rounds there are."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.server = setting.stack.enter_context(EmbeddedRig(AS_A_SERVER))
        self.root = setting.folder("state")
        self.events = setting.pick(1000, 300)
        self.alone = setting.pick(50, 20)
        self.turns = setting.pick(8, 3)

    def stateful(self, name: str, retained: int = 0) -> Stateful:
        dsn = self.server.create_database()
        return Stateful(name, self.root, self.events, dsn, retained)

    def persistent(self, name: str, retained: int = 0) -> Persistent:
        events = min(UPSTREAM_BURST[retained], self.events)
        dsn = self.server.create_database()
        return Persistent(name, self.root, events, dsn, retained)

    def heat(self, *contestants: Contestant) -> list[tuple[Turn, ...]]:
        """All rounds of these processes."""
        with ExitStack() as stack:
            for each in contestants:
                stack.enter_context(each.worker)
            rounds = compete(contestants, self.turns, self.alone)
            for each in contestants:
                if isinstance(each, (Stateful, Persistent)):
                    check(self.server, each)
        return rounds

    def nothing_retained(self, heats: int) -> dict[str, list[Turn]]:
        """What the four did."""
        rounds: list[tuple[Turn, ...]] = []
        for heat in range(heats):
            self.setting.say(f"nothing retained, {heat + 1} of {heats}")
            rounds += self.heat(
                self.stateful(f"state-{heat}"),
                self.persistent(f"persistent-{heat}"),
                Contestant(
                    f"off-{heat}",
                    self.root,
                    self.events,
                    self.server.dsn,
                    WITHOUT_STATE,
                ),
                Contestant(f"plain-{heat}", self.root, self.events, None),
            )
        names = (OURS, THEIRS, OFF, PLAIN)
        return {n: list(turns) for n, turns in zip(names, zip(*rounds))}

    def with_retained(self, retained: int, heats: int) -> list[list[Turn]]:
        """What a worker with none, one with so many, and upstream did."""
        rounds: list[tuple[Turn, ...]] = []
        for heat in range(heats):
            self.setting.say(f"{retained:,} retained, {heat + 1} of {heats}")
            name = f"{retained}-{heat}"
            rounds += self.heat(
                self.stateful(f"none-{name}"),
                self.stateful(f"state-{name}", retained),
                self.persistent(f"persistent-{name}", retained),
            )
        return [list(turns) for turns in zip(*rounds)]


def figures_of(name: str, turns: list[Turn], group: str) -> list[Figure]:
    """Of a burst, and of events one at a time."""
    return [
        Figure(f"{name}: burst", "events/s", rates(turns), group),
        Figure(f"{name}: one at a time, median", "s", delays(turns), group),
    ]


def cost(turns: list[Turn]) -> float:
    """Seconds of an event in a burst."""
    return 1 / Figure("", "", rates(turns)).median


def wait(turns: list[Turn]) -> float:
    """Seconds of an event that comes alone."""
    return Figure("", "s", delays(turns)).median


def measure(setting: Setting) -> Result:
    arena = Arena(setting)
    figures: list[Figure] = []
    goals: list[Goal] = []
    done = arena.nothing_retained(setting.pick(3, 1))
    for name, turns in done.items():
        figures += figures_of(name, turns, "nothing retained")
    for name, bound in ((OFF, OF_OFF), (THEIRS, OF_UPSTREAM[0])):
        goals.append(_times(name, done[OURS], done[name], bound))
    ours = {0: cost(done[OURS])}
    theirs = {0: cost(done[THEIRS])}
    for retained in RETAINED[: setting.pick(len(RETAINED), 2)]:
        heats = setting.pick(2 if retained < max(RETAINED) else 1, 1)
        none, held, upstream = arena.with_retained(retained, heats)
        group = f"{retained:,} events retained"
        figures += figures_of(f"{OURS}, none retained", none, group)
        figures += figures_of(OURS, held, group)
        figures += figures_of(THEIRS, upstream, group)
        ours[retained], theirs[retained] = cost(held), cost(upstream)
        goals += [
            Goal(
                f"cost, {group}, times none's", cost(held) / cost(none), COST
            ),
            Goal(
                f"one at a time, {group}, times none's",
                wait(held) / wait(none),
                COST,
            ),
        ]
        if retained in OF_UPSTREAM:
            goals.append(
                _times(
                    f"{THEIRS}, {group}",
                    held,
                    upstream,
                    OF_UPSTREAM[retained],
                )
            )
    fewest = min(UPSTREAM_BURST[retained] for retained in ours)
    return Result(
        "state",
        "events that are matched and recorded",
        figures,
        goals,
        [
            f"bursts of {arena.events:,} events (of upstream fewer, down to "
            f"{fewest}, where much is retained) and {arena.alone} events one "
            "at a time, by turns; the server flushes at each commit",
            "after each heat no match was left to be recovered, and as many "
            "events were retained as should be",
        ],
        data={
            "cost": {
                OURS: [[n, seconds] for n, seconds in ours.items()],
                THEIRS: [[n, seconds] for n, seconds in theirs.items()],
            }
        },
    )


def _times(
    name: str, ours: list[Turn], others: list[Turn], bound: float
) -> Goal:
    """A ratio of the medians of bursts."""
    ratio = cost(others) / cost(ours)
    return Goal(f"times {name}", ratio, bound, at_least=True)
