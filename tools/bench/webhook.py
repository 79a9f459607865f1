"""Posts to upstream's webhook, answered as they come.

The webhook answers a post when its event is in the queue, which has room for
one: so posts are answered as fast as events are processed. The action is
``debug``. A leading worker with state, one without, and ansible-rulebook
alone take turns, with one client that posts as soon as it has its answer, and
with some of them.

Then how long a post takes at a moderate rate to a leader that has just
started, whose Java is cold: posts begin as soon as the webhook listens.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rig.ports import free_port
from rig.process import ProcessError
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess

from .bursts import WITH_STATE, WITHOUT_STATE
from .poster import Posted, post
from .report import Figure, Goal, Result
from .setting import AS_A_SERVER, Setting

RATE_GOAL = 0.9  # of the posts that upstream alone answers
JUST_STARTED_GOAL = 3.0  # times upstream's p99
CLIENTS = (1, 4)
WARM_UP = 2  # rounds that do not count
RATE = 100.0  # posts per second to a leader that has just started
MOST_CLIENTS = 64
START_TIMEOUT = 60.0  # seconds
LOOK_EVERY = 0.005  # seconds
OURS, OFF, PLAIN = "with state", "--ha-state off", "upstream"
RULEBOOK = """
- name: webhook
  hosts: localhost
  sources:
    - eda.builtin.webhook:
        host: 127.0.0.1
        port: {port}
  rules:
    - name: each
      condition: event.payload.number is defined
      action:
        debug:
          msg: "number {{{{ event.payload.number }}}}"
"""


class Hook:
    """A process with a webhook.

    :param ha_uuid: of its cluster; one of its own if it is not given.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        dsn: str | None,
        args: Sequence[str],
        rulebook: str = RULEBOOK,
        ha_uuid: str | None = None,
    ) -> None:
        self.port = free_port()
        self.worker = WorkerProcess(
            rulebook.format(port=self.port),
            root=root,
            name=name,
            verbosity=0,
            dsn=dsn,
            ha_uuid=(ha_uuid or str(uuid.uuid4())) if dsn else None,
            worker_id=name if dsn else None,
            args=args,
        )

    def wait_listens(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if time.monotonic() > deadline or not self.worker.alive:
                    tail = self.worker.tail()
                    raise ProcessError(f"nobody listens\n{tail}") from None
                time.sleep(LOOK_EVERY)


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that so many percent do not exceed."""
    ordered = sorted(values)
    place = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(place), 1) - 1]


class Bench:
    """The server and the processes on it."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.server = setting.stack.enter_context(EmbeddedRig(AS_A_SERVER))
        self.root = setting.folder("webhook")
        self.dsn = self.server.create_database()

    def hook(self, kind: str, name: str) -> Hook:
        if kind == PLAIN:
            return Hook(f"plain-{name}", self.root, None, ())
        args = WITH_STATE if kind == OURS else WITHOUT_STATE
        return Hook(f"{args[-1]}-{name}", self.root, self.dsn, args)

    def rates(
        self, posts: int, rounds: int, heat: int
    ) -> list[dict[tuple[str, int], float]]:
        """Posts per second of each kind with each number of clients."""
        done: list[dict[tuple[str, int], float]] = []
        with ExitStack() as stack:
            hooks = {k: self.hook(k, str(heat)) for k in (OURS, OFF, PLAIN)}
            for hook in hooks.values():
                stack.enter_context(hook.worker)
            for hook in hooks.values():
                hook.wait_listens()
            for number in range(WARM_UP + rounds):
                order = list(hooks) if number % 2 else list(hooks)[::-1]
                found = {
                    (kind, clients): post(
                        hooks[kind].port, posts, clients
                    ).rate
                    for clients in CLIENTS
                    for kind in order
                }
                if number >= WARM_UP:
                    done.append(found)
        return done

    def just_started(self, kind: str, posts: int, number: int) -> Posted:
        """Start a process, and post at once."""
        hook = self.hook(kind, f"new-{number}")
        with hook.worker:
            hook.wait_listens()
            return post(hook.port, posts, MOST_CLIENTS, RATE)


def measure(setting: Setting) -> Result:
    bench = Bench(setting)
    heats = setting.pick(3, 1)
    rounds = setting.pick(8, 3)
    posts = setting.pick(500, 200)
    found: list[dict[tuple[str, int], float]] = []
    for heat in range(heats):
        setting.say(f"processes {heat + 1} of {heats}")
        found += bench.rates(posts, rounds, heat)
    figures: list[Figure] = []
    goals: list[Goal] = []
    for clients in CLIENTS:
        group = f"{clients} client{'s' if clients > 1 else ''}"
        by_kind = {
            kind: Figure(
                kind, "posts/s", [each[kind, clients] for each in found], group
            )
            for kind in (OURS, OFF, PLAIN)
        }
        figures += by_kind.values()
        goals.append(
            Goal(
                f"posts/s, {group}, times {PLAIN}",
                by_kind[OURS].median / by_kind[PLAIN].median,
                RATE_GOAL,
                at_least=True,
            )
        )
    starts = setting.pick(8, 2)
    seconds = setting.pick(10, 3)
    slow: dict[str, list[float]] = {OURS: [], PLAIN: []}
    usual: dict[str, list[float]] = {OURS: [], PLAIN: []}
    for number in range(starts):
        setting.say(f"just started, {number + 1} of {starts}")
        order = (OURS, PLAIN) if number % 2 else (PLAIN, OURS)
        for kind in order:
            delays = bench.just_started(
                kind, int(seconds * RATE), number
            ).delays
            slow[kind].append(percentile(delays, 99))
            usual[kind].append(percentile(delays, 50))
    group = f"just started, {RATE:g} posts/s for {seconds} s"
    p99 = {k: Figure(f"{k}: p99", "s", v, group) for k, v in slow.items()}
    p50 = [Figure(f"{k}: p50", "s", v, group) for k, v in usual.items()]
    goals.append(
        Goal(
            f"p99 of a leader that has just started, times {PLAIN}",
            p99[OURS].median / p99[PLAIN].median,
            JUST_STARTED_GOAL,
        )
    )
    return Result(
        "webhook",
        "posts to a webhook with a debug action",
        [*figures, *p99.values(), *p50],
        goals,
        [
            f"{posts} posts at a time, over connections that stay; each "
            "client posts again when it has its answer",
            "at a rate, the time is from when a post was due to its answer",
        ],
    )
