#!/usr/bin/env python3
"""Somebody's own asyncio script, made highly available.

Four tasks of a script are driven by the three events of a `LeaderElection`;
neither rulebook nor ansible-rulebook takes part. Two workers run the script,
and leadership is taken from each of them in turn:

    python test_customer_scripts.py
    python test_customer_scripts.py --dsn postgresql://user@host/database

Without a DSN it starts a PostgreSQL of its own (from the `embedded` extra).
Under pytest the same run is checked: see the tests at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable, Coroutine

import psycopg

from ansible_rulebook.ha import LeaderElection, Term
from ansible_rulebook.ha.election.names import application_name, lock_key

POLL_INTERVAL = 1.0  # seconds; it is no part of a takeover
PATIENCE = 20.0  # seconds for anything that is waited for

# -- the script -------------------------------------------------------------


class Script:
    """A worker: what a user of `LeaderElection` writes.

    :param name: the worker's id.
    :param dsn: the database that all workers share.
    :param ha_uuid: names the cluster.
    :param pace: seconds between two things that a task does.
    :param tell: gets what each task did: worker, task, text.
    """

    def __init__(
        self,
        name: str,
        dsn: str,
        ha_uuid: uuid.UUID,
        pace: float,
        tell: Callable[[Script, str, str], None],
    ) -> None:
        self.name = name
        self.pace = pace
        self.tell = tell
        self.polled = 0
        self.election = LeaderElection(
            dsn,
            ha_uuid,
            worker_id=name,
            poll_interval=POLL_INTERVAL,
            lease_duration=3.0,
            on_promotion=self.promoted,
            on_demotion=self.demoted,
        )

    async def run(self) -> None:
        """Take part until `election.stop()` is called, here or elsewhere."""
        leader = self.election.leader_event
        follower = self.election.follower_event
        async with self.election:
            await asyncio.gather(
                self.while_set(leader, self.poller, self.pace),
                self.while_set(leader, self.reporter, self.pace * 4),
                self.while_set(follower, self.warmer, self.pace * 2),
                self.heartbeat(),
            )

    # The tasks. What only one worker may do asks `is_leader()` right before
    # it, with no `await` in between: an event can lag behind, this cannot.

    async def poller(self) -> None:
        """Fetch what is new, and take it."""
        await asyncio.sleep(self.pace / 10)  # a remote service answers
        if self.election.is_leader():
            self.polled += 1
            self.tell(self, "poller", f"took batch {self.polled}")

    async def reporter(self) -> None:
        """Write a report."""
        await asyncio.sleep(self.pace / 10)
        if self.election.is_leader():
            self.tell(self, "reporter", f"wrote: {self.polled} batches")

    async def warmer(self) -> None:
        """Keep the caches of a follower warm, so that it can take over."""
        self.tell(self, "warmer", "loaded the cache")

    async def heartbeat(self) -> None:
        """Say that this worker lives, whatever its role."""
        while not self.election.shutdown_event.is_set():
            leads = self.election.is_leader()
            self.tell(self, "heartbeat", "leads" if leads else "follows")
            await self.until_shutdown(asyncio.sleep(self.pace * 3))

    # What all tasks share.

    async def while_set(
        self,
        event: asyncio.Event,
        work: Callable[[], Awaitable[None]],
        every: float,
    ) -> None:
        """Do the work at intervals while the event is set; end at shutdown."""
        while not self.election.shutdown_event.is_set():
            if not event.is_set():
                await self.until_shutdown(event.wait())
                continue
            await work()
            await self.until_shutdown(asyncio.sleep(every))

    async def until_shutdown(self, waiting: Coroutine[Any, Any, Any]) -> None:
        """Wait for that, but no longer than until this worker shuts down."""
        shutdown = asyncio.ensure_future(self.election.shutdown_event.wait())
        tasks = {asyncio.ensure_future(waiting), shutdown}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def promoted(self, term: Term) -> None:
        """Called before `leader_event` is set."""
        self.tell(self, "election", f"leads, term {term.number}")

    def demoted(self, reason: str) -> None:
        """Called before the lock is given up."""
        self.tell(self, "election", f"leads no more: {reason}")


# -- a play with two of them --------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One thing that a task did."""

    at: float  # seconds since the play began
    worker: str
    task: str
    text: str
    leaders: tuple[str, ...]  # who answered is_leader() with true just then


@dataclass
class Handover:
    """One time that leadership was taken from a worker."""

    what: str
    at: float  # seconds since the play began
    loser: str
    winner: str = ""
    seconds: float = 0.0  # until the other answered is_leader() with true


@dataclass
class Play:
    """Two workers, from the start of both to the end of both."""

    dsn: str
    pace: float = 0.2  # seconds
    show: Callable[[Entry], None] = lambda entry: None
    announce: Callable[[str], None] = lambda text: None
    ha_uuid: uuid.UUID = field(default_factory=uuid.uuid4)
    entries: list[Entry] = field(default_factory=list)
    handovers: list[Handover] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    sessions_left: int = -1
    seconds: float = 0.0
    _began: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> float:
        """Seconds since the play began."""
        return time.monotonic() - self._began

    def tell(self, script: Script, task: str, text: str) -> None:
        """Note what a task did, and who led at that instant."""
        leaders = tuple(
            each.name for each in self.scripts if each.election.is_leader()
        )
        entry = Entry(self.now, script.name, task, text, leaders)
        self.entries.append(entry)
        self.show(entry)

    async def run(self) -> None:
        """Start two workers, take leadership away three times, end."""
        self._began = time.monotonic()
        self.scripts = [
            Script(name, self.dsn, self.ha_uuid, self.pace, self.tell)
            for name in ("one", "two")
        ]
        self.announce("two workers start")
        running = [asyncio.ensure_future(each.run()) for each in self.scripts]
        try:
            await self.leader()
            await self.scene()
            await self.hand_over("is told to step down", self.step_down)
            await self.hand_over("loses its session", self.kill_session)
            await self.hand_over("ends", self.stop)
            self.announce("the other one ends, too")
        finally:
            for script in self.scripts:
                await script.election.stop()
            await asyncio.wait_for(asyncio.gather(*running), PATIENCE)
        self.seconds = self.now
        self.sessions_left = await self.count_sessions()

    async def scene(self) -> None:
        """Let everybody do something.

        A worker that stepped down does not contend for one poll interval; here
        it is to be back in time for its turn.
        """
        await asyncio.sleep(max(self.pace * 6, POLL_INTERVAL * 1.2))

    async def leader(self, other_than: Script | None = None) -> Script:
        """Wait until a worker leads."""
        patience = time.monotonic() + PATIENCE
        while time.monotonic() < patience:
            for script in self.scripts:
                if script is not other_than and script.election.is_leader():
                    return script
            await asyncio.sleep(0.001)
        raise TimeoutError("nobody leads")

    async def hand_over(
        self, what: str, take_away: Callable[[Script], Awaitable[None]]
    ) -> None:
        """Take leadership from a worker and wait until the other leads."""
        loser = await self.leader()
        handover = Handover(what, self.now, loser.name)
        self.handovers.append(handover)
        self.announce(f"worker {loser.name} {what}")
        taking = asyncio.ensure_future(take_away(loser))
        winner = await self.leader(other_than=loser)
        handover.winner = winner.name
        handover.seconds = self.now - handover.at
        await taking
        await self.scene()

    async def step_down(self, script: Script) -> None:
        """As an operator would for maintenance."""
        await script.election.step_down()

    async def stop(self, script: Script) -> None:
        """As at SIGTERM."""
        await script.election.stop()

    async def kill_session(self, script: Script) -> None:
        """As a server does that loses a client."""
        name = application_name(lock_key(self.ha_uuid), script.name)
        await self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE %s",
            name + "%",
        )

    async def count_sessions(self) -> int:
        """How many sessions the cluster has, once closing ones are gone."""
        prefix = application_name(lock_key(self.ha_uuid), "").rstrip(":")
        count = -1
        patience = time.monotonic() + PATIENCE
        while count and time.monotonic() < patience:
            rows = await self.query(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name LIKE %s",
                prefix + "%",
            )
            count = rows[0][0]
        return count

    async def query(self, statement: str, *params: Any) -> list[Any]:
        """Ask the server on another session."""
        connection = await psycopg.AsyncConnection.connect(
            self.dsn, autocommit=True
        )
        async with connection:
            return await (
                await connection.execute(statement, params)
            ).fetchall()


# -- worth watching -----------------------------------------------------------

COLOURS = {
    "election": "bold yellow",
    "poller": "green",
    "reporter": "cyan",
    "warmer": "blue",
    "heartbeat": "dim",
}
COLUMNS = 60  # of the timeline


class Screen:
    """Prints the play, in colours if `rich` is installed."""

    def __init__(self) -> None:
        self._console: Any = None
        try:
            from rich.console import Console
        except ImportError:
            return
        self._console = Console(highlight=False)

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line."""
        if self._console is None:
            print(text, flush=True)
        else:
            self._console.print(
                text, style=style or None, markup=False, soft_wrap=True
            )

    def announce(self, text: str) -> None:
        """What happens next."""
        self.line(f"--- {text} ".ljust(COLUMNS + 8, "-"), "bold")

    def show(self, entry: Entry) -> None:
        """One thing that a task did; each worker has a column."""
        indent = "" if entry.worker == "one" else " " * 12
        self.line(
            f"{entry.at:7.2f} s  {indent}{entry.worker:<12}"
            f"{entry.task:<10} {entry.text}",
            COLOURS[entry.task],
        )

    def summary(self, play: Play) -> None:
        """Who led when, who did how much, how long the handovers took."""
        self.line()
        self.announce("who led (#) and who followed (.)")
        for name in ("one", "two"):
            bar = timeline(play, name)
            self.line(f"{name:<7}{bar}", "green" if name == "one" else "cyan")
        self.line(f"{'':<7}0{play.seconds:>{COLUMNS - 1}.1f} s")
        self.announce("what each did")
        self.line("       " + "".join(f"{task:>10}" for task in COLOURS))
        for name in ("one", "two"):
            counts = (
                sum(e.worker == name and e.task == t for e in play.entries)
                for t in COLOURS
            )
            self.line(f"{name:<7}" + "".join(f"{n:>10}" for n in counts))
        self.announce("handovers")
        for each in play.handovers:
            self.line(
                f"{each.at:7.2f} s  {each.loser} {each.what}, "
                f"{each.winner} leads after {each.seconds * 1000:.0f} ms"
            )


def terms(play: Play, worker: str) -> list[tuple[float, float]]:
    """From when to when a worker led."""
    found = []
    begin = None
    for entry in play.entries:
        if entry.worker != worker or entry.task != "election":
            continue
        if begin is None:
            begin = entry.at
        else:
            found.append((begin, entry.at))
            begin = None
    return found


def timeline(play: Play, worker: str) -> str:
    """One character for each small piece of time."""
    step = play.seconds / COLUMNS
    spans = terms(play, worker)
    return "".join(
        "#" if any(b <= (i + 0.5) * step < e for b, e in spans) else "."
        for i in range(COLUMNS)
    )


def main(argv: list[str] | None = None) -> int:
    """Run the play in this terminal."""
    parser = argparse.ArgumentParser(
        description="Two workers with four tasks each, one of them leads."
    )
    parser.add_argument(
        "--dsn",
        default=os.environ.get("EDA_HA_POSTGRES_DSN"),
        help="PostgreSQL connection string, also EDA_HA_POSTGRES_DSN; "
        "default: an embedded server",
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=0.25,
        metavar="SECONDS",
        help="between two things that a task does, default 0.25",
    )
    args = parser.parse_args(argv)
    screen = Screen()

    def perform(dsn: str) -> int:
        play = Play(dsn, args.pace, screen.show, screen.announce)
        asyncio.run(play.run())
        screen.summary(play)
        return 0

    if args.dsn:
        return perform(args.dsn)
    from ansible_rulebook.ha.embedded.errors import EmbeddedError
    from ansible_rulebook.ha.embedded.server import EmbeddedServer

    try:
        with EmbeddedServer() as server:
            return perform(server.dsn)
    except EmbeddedError as error:
        print(f"{error}, or give --dsn", file=sys.stderr)
        return 1


# -- the tests --------------------------------------------------------------


class TestCustomerScripts:
    """One play, and what must be true of it."""

    play: Play

    @classmethod
    def setup_class(cls) -> None:
        """Take the server that all tests take, see tools/rig."""
        from rig.server import pick_server

        with pick_server() as server:
            dsn = server.create_database()
            cls.play = Play(dsn, pace=0.1)
            asyncio.run(cls.play.run())
            server.drop_database(dsn)

    def did(self, task: str, worker: str = "") -> list[Entry]:
        """What a task did."""
        return [
            entry
            for entry in self.play.entries
            if entry.task == task and worker in ("", entry.worker)
        ]

    def test_the_other_took_over_each_time(self) -> None:
        handovers = self.play.handovers
        assert len(handovers) == 3
        for handover in handovers:
            assert {handover.loser, handover.winner} == {"one", "two"}
        for before, after in zip(handovers, handovers[1:]):
            assert before.winner == after.loser

    def test_takeover_is_no_matter_of_polling(self) -> None:
        for handover in self.play.handovers:
            assert handover.seconds < POLL_INTERVAL / 2, handover

    def test_nothing_was_done_by_two_at_once(self) -> None:
        for entry in self.play.entries:
            assert len(entry.leaders) <= 1, entry

    def test_only_the_leader_did_the_work_of_a_leader(self) -> None:
        for task in ("poller", "reporter"):
            assert self.did(task)
            for entry in self.did(task):
                assert entry.leaders == (entry.worker,), entry

    def test_only_followers_warmed_their_caches(self) -> None:
        assert self.did("warmer")
        for entry in self.did("warmer"):
            assert entry.worker not in entry.leaders, entry

    def test_the_work_went_on_after_each_handover(self) -> None:
        ends = [each.at for each in self.play.handovers[1:]]
        ends.append(self.play.seconds)
        for handover, end in zip(self.play.handovers, ends):
            begin = handover.at + handover.seconds
            for task in ("poller", "reporter"):
                assert any(
                    begin <= entry.at <= end
                    for entry in self.did(task, handover.winner)
                ), (handover, task)

    def test_in_good_order_the_next_term_begins_after_the_last(self) -> None:
        # A session that is killed takes the lock with it at once.
        for handover in self.play.handovers:
            if handover.what == "loses its session":
                continue
            end, begin = (
                entry
                for entry in self.did("election")
                if handover.at <= entry.at <= handover.at + handover.seconds
            )
            assert (end.worker, begin.worker) == (
                handover.loser,
                handover.winner,
            )

    def test_every_worker_said_so_in_either_role(self) -> None:
        for name in ("one", "two"):
            said = {entry.text for entry in self.did("heartbeat", name)}
            assert said == {"leads", "follows"}

    def test_reasons_are_told(self) -> None:
        texts = [entry.text for entry in self.did("election")]
        reasons = [t for t in texts if t.startswith("leads no more")]
        assert "stepped down" in reasons[0]
        assert "session ended" in reasons[1]
        assert "stopping" in reasons[2]
        assert "stopping" in reasons[3]

    def test_every_task_ended_at_shutdown(self) -> None:
        # Play.run() waits for all of them, and would raise what one raised.
        last = max(entry.at for entry in self.play.entries)
        assert last <= self.play.seconds
        assert self.play.sessions_left == 0


if __name__ == "__main__":
    sys.exit(main())
