"""Posts to ``ha_webhook``, which are durable when they are acknowledged.

Two workers with state are one cluster: what is posted to the leader it stores
and processes, and what is posted to the follower goes through the database to
the leader. Ansible-rulebook alone has upstream's webhook, which acknowledges
what is in its memory. The three take turns, and each turn waits until the
rules have had all of the one before. The action is ``debug``.

An inbox acknowledges what the rules have not processed yet. So beside what is
acknowledged in a second stands what has come to its action, of the same posts.
Then the time from post to action at a moderate rate.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rig.process import ProcessError
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess

from ansible_rulebook.ha.state import sql

from .bursts import WITH_STATE
from .poster import Posted, post
from .report import Figure, Goal, Result
from .setting import AS_A_SERVER, Setting
from .webhook import MOST_CLIENTS, START_TIMEOUT, Hook, percentile

PART = "inbox"
CLIENTS = (1, 4, 32)
GOAL_CLIENTS = (4, 32)
RATE_GOAL = 0.5  # of the posts that upstream acknowledges
RATE = 100.0  # posts per second, for the time to the action
WARM_UP = 2  # rounds that do not count
TIMEOUT = 120.0  # seconds
LOOK_EVERY = 0.02  # seconds
LEADER, FOLLOWER, PLAIN = "leader", "follower", "upstream"
KINDS = (LEADER, FOLLOWER, PLAIN)
SOURCES = {
    LEADER: "ha_webhook",
    FOLLOWER: "ha_webhook",
    PLAIN: "eda.builtin.webhook",
}
RULEBOOK = """
- name: inbox
  hosts: localhost
  sources:
    - SOURCE:
        host: 127.0.0.1
        port: {port}
  rules:
    - name: each
      condition: event.payload.at is defined
      action:
        debug:
          msg: "posted at {{{{ event.payload.at }}}} of the clock"
"""
SAID = re.compile(
    r"\*\* (?P<stamp>\d{4}-\d\d-\d\d [\d:.]+) \[debug\]"
    r"|posted at (?P<at>[\d.]+) of the clock"
)
LEFT = f"""
SELECT (SELECT count(*) FROM {sql.INBOX}) + (SELECT count(*) FROM {sql.MATCH})
"""


@dataclass(frozen=True)
class Turn:
    """Posts to one process, one after another or at a rate.

    :param group: turns of one group are alike.
    """

    kind: str
    group: str
    posted: Posted
    ended: float  # all had been processed; seconds since 1970


@dataclass(frozen=True)
class Act:
    """An action, and the post that it is for: seconds since 1970."""

    posted_at: float
    at: float


def acts_in(text: str) -> list[Act]:
    """The actions in a log."""
    found: list[Act] = []
    at = 0.0
    for match in SAID.finditer(text):
        if match["stamp"]:
            at = datetime.fromisoformat(match["stamp"]).timestamp()
        else:
            found.append(Act(float(match["at"]), at))
    return found


def acts_of(turn: Turn, acts: Iterable[Act]) -> list[Act]:
    """Those of one turn.

    :raises ProcessError: if it is not one for each post.
    """
    began = turn.posted.began
    found = [a for a in acts if began <= a.posted_at <= turn.ended]
    if len(found) != len(turn.posted.delays):
        posts = len(turn.posted.delays)
        raise ProcessError(f"{len(found)} actions for {posts} posts")
    return found


class Bench:
    """The server and the three processes."""

    def __init__(self, setting: Setting, root: Path, stack: ExitStack) -> None:
        server = stack.enter_context(EmbeddedRig(AS_A_SERVER))
        self.dsn = server.create_database()
        self.server = server
        ha_uuid = str(uuid.uuid4())
        self.hooks: dict[str, Hook] = {}
        for kind in KINDS:
            has_state = kind != PLAIN
            hook = Hook(
                kind,
                root,
                self.dsn if has_state else None,
                WITH_STATE if has_state else (),
                RULEBOOK.replace("SOURCE", SOURCES[kind]),
                ha_uuid,
            )
            self.hooks[kind] = hook
            stack.enter_context(hook.worker)
            if kind == LEADER:
                hook.worker.wait_leads(START_TIMEOUT)
            hook.wait_listens()
        self.turns: list[Turn] = []

    def turn(
        self,
        kind: str,
        group: str,
        posts: int,
        clients: int,
        rate: float | None = None,
    ) -> Turn:
        """Post, and wait until all is processed."""
        posted = post(self.hooks[kind].port, posts, clients, rate)
        self._wait_done()
        return Turn(kind, group, posted, time.time())

    def _wait_done(self) -> None:
        # Upstream has answered when it processes the event before: it is done
        # a moment later.
        deadline = time.monotonic() + TIMEOUT
        while True:
            ((left,),) = self.server.query(LEFT, dsn=self.dsn)
            time.sleep(LOOK_EVERY)
            if not left:
                return
            if time.monotonic() > deadline:
                tail = self.hooks[LEADER].worker.tail()
                raise ProcessError(f"{left} are not processed\n{tail}")

    def acts(self) -> dict[str, list[Act]]:
        """What each process did, by kind of turn; ends the processes."""
        logs: dict[str, list[Act]] = {}
        for kind, hook in self.hooks.items():
            hook.worker.stop(TIMEOUT)
            logs[kind] = acts_in(_text(hook.worker))
        if logs[FOLLOWER]:
            raise ProcessError("the follower has led")
        return {**logs, FOLLOWER: logs[LEADER]}


def _text(worker: WorkerProcess) -> str:
    return worker.log.read_text("utf-8", "replace")


def _group(clients: int) -> str:
    return f"{clients} client{'s' if clients > 1 else ''}"


def figures_of(
    turns: Sequence[Turn], acts: Mapping[str, Sequence[Act]]
) -> list[Figure]:
    """Posts acknowledged and processed per second, by clients."""
    figures: list[Figure] = []
    for clients in CLIENTS:
        group = _group(clients)
        for what in ("acknowledged", "processed"):
            for kind in KINDS:
                values = [
                    each.posted.rate
                    if what == "acknowledged"
                    else _processed(each, acts_of(each, acts[kind]))
                    for each in turns
                    if (each.kind, each.group) == (kind, group)
                ]
                name = f"{kind}: {what}"
                figures.append(Figure(name, "posts/s", values, group))
    return figures


def _processed(turn: Turn, acts: Sequence[Act]) -> float:
    return len(acts) / (max(act.at for act in acts) - turn.posted.began)


def delays_of(
    turns: Sequence[Turn], acts: Mapping[str, Sequence[Act]], group: str
) -> list[Figure]:
    """From post to action, and to the answer, of each turn."""
    figures: list[Figure] = []
    for kind in KINDS:
        of_kind = [t for t in turns if (t.kind, t.group) == (kind, group)]
        acted = [
            [act.at - act.posted_at for act in acts_of(each, acts[kind])]
            for each in of_kind
        ]
        answered = [each.posted.delays for each in of_kind]
        for what, delays in (("action", acted), ("answer", answered)):
            for name, percent in (("median", 50.0), ("p99", 99.0)):
                values = [percentile(each, percent) for each in delays]
                title = f"{kind}: post to {what}, {name}"
                figures.append(Figure(title, "s", values, group))
    return figures


def goals_of(figures: Sequence[Figure]) -> list[Goal]:
    medians = {(each.group, each.name): each.median for each in figures}
    return [
        Goal(
            f"posts/s of the {kind}, {_group(clients)}, times {PLAIN}",
            medians[_group(clients), f"{kind}: acknowledged"]
            / medians[_group(clients), f"{PLAIN}: acknowledged"],
            RATE_GOAL,
            at_least=True,
        )
        for clients in GOAL_CLIENTS
        for kind in (LEADER, FOLLOWER)
    ]


def measure(setting: Setting) -> Result:
    heats = setting.pick(3, 1)
    rounds = setting.pick(8, 3)
    posts = setting.pick(1000, 300)
    seconds = setting.pick(10, 4)
    at_rate = f"{RATE:g} posts/s for {seconds} s"
    rates: list[Figure] = []
    delays: list[Figure] = []
    for heat in range(heats):
        with ExitStack() as stack:
            root = setting.folder(f"{PART}-{heat}")
            bench = Bench(setting, root, stack)
            turns: list[Turn] = []
            for number in range(WARM_UP + rounds):
                setting.say(
                    f"processes {heat + 1} of {heats}, round {number + 1}"
                )
                order = KINDS if number % 2 else KINDS[::-1]
                done = [
                    bench.turn(kind, _group(clients), posts, clients)
                    for clients in CLIENTS
                    for kind in order
                ]
                done += [
                    bench.turn(
                        kind, at_rate, int(RATE * seconds), MOST_CLIENTS, RATE
                    )
                    for kind in order
                ]
                turns += done if number >= WARM_UP else []
            acts = bench.acts()
        rates = _joined(rates, figures_of(turns, acts))
        delays = _joined(delays, delays_of(turns, acts, at_rate))
    return Result(
        PART,
        "posts to ha_webhook with a debug action",
        [*rates, *delays],
        goals_of(rates),
        [
            f"{posts} posts at a time, over connections that stay; each "
            "client posts again when it has its answer",
            "the server flushes to its disk at each commit",
            "processed: until the last action of these posts has begun",
            "at a rate, the time is from when a post was due",
        ],
    )


def _joined(before: list[Figure], more: list[Figure]) -> list[Figure]:
    """The values of both; the figures are the same ones."""
    if not before:
        return more
    return [
        Figure(a.name, a.unit, [*a.values, *b.values], a.group)
        for a, b in zip(before, more)
    ]
