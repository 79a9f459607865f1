"""HAProxy before two workers with a webhook, while the leader changes.

Several HAProxies with unlike settings stand before the same workers, and
through each come posts at a steady rate. Then the leader is asked to hand
over, killed, stopped with SIGTERM and stopped with SIGSTOP. Of each setting it
is counted how many posts failed, how long the slowest answer took, and how
many events were answered with success and met no rule.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rig.haproxy import CONFIG, HaProxyProcess, find_binary
from rig.ports import free_port
from rig.process import ProcessError
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess, wait_leader

from .report import Figure, Result
from .setting import AS_A_SERVER, Setting, operate
from .steady import Answered, Stream

PART = "haproxy"
RATE = 10.0  # posts per second through each HAProxy
TIMEOUT = 90.0  # seconds for anything
STOOD_BY = 6.0  # seconds, for a standby that has warmed itself
BEFORE = 2.0  # seconds of posts before a fault
AFTER = 5.0  # seconds of posts after the next leader's promotion
SETTLES = 1.0  # seconds for posts that were answered at the same time
LOOK_EVERY = 0.1  # seconds
FOLLOWING = r"Worker \S+: Following"
GOT = re.compile(r"got (\w+-\d+)\b")
RULEBOOK = """
- name: haproxy
  hosts: localhost
  sources:
    - eda.builtin.webhook:
        host: 127.0.0.1
        port: "{{ PORT }}"
  rules:
    - name: each
      condition: event.payload.name is defined
      action:
        debug:
          msg: "got {{ event.payload.name }}"
"""
# What most people write first; {extra} and {server} make the difference.
PLAIN = """
global
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend posts
    bind "${{EDA_BIND}}"
    default_backend workers
backend workers
    {extra}
    default-server {server}
    server w1 "${{EDA_W1}}" check {port1}
    server w2 "${{EDA_W2}}" check {port2}
"""
PORTS = {
    "port1": 'port "${EDA_W1_HTTP}"',
    "port2": 'port "${EDA_W2_HTTP}"',
}
NO_PORTS = {"port1": "", "port2": ""}
CHECK = "option httpchk OPTIONS /leader"
DEFAULTS = "inter 2s fall 3 rise 2"
QUICK = "inter 500ms fall 1 rise 1"
RETRY = "option redispatch 1\n    retry-on conn-failure"
RECOMMENDED = "deploy/haproxy/haproxy.cfg"
SETTINGS: dict[str, str] = {
    f"TCP check, {DEFAULTS}": PLAIN.format(
        extra="", server=DEFAULTS, **NO_PORTS
    ),
    f"/leader, {DEFAULTS}": PLAIN.format(
        extra=CHECK, server=DEFAULTS, **PORTS
    ),
    f"/leader, {QUICK}": PLAIN.format(extra=CHECK, server=QUICK, **PORTS),
    "the same, redispatch, observe layer4": PLAIN.format(
        extra=f"{CHECK}\n    {RETRY}",
        server=f"{QUICK} observe layer4 error-limit 1 on-error mark-down",
        **PORTS,
    ),
    RECOMMENDED: CONFIG.read_text("utf-8"),
}
SWITCHOVER, KILL, TERM, STOP = "switchover", "kill -9", "SIGTERM", "SIGSTOP"
# What a stopped leader held comes again when it leads again.
FAULTS = (SWITCHOVER, KILL, TERM, STOP)


@dataclass(frozen=True)
class Round:
    """What came of the posts around one fault, by setting."""

    fault: str
    answers: Mapping[str, Sequence[Answered]]


class Pair:
    """Two workers, one of which leads.

    :param rulebook: its source listens at ``PORT``.
    :param env: more variables of the workers; ``options`` are as well
        theirs.
    """

    def __init__(
        self,
        root: Path,
        dsn: str,
        stack: ExitStack,
        rulebook: str = RULEBOOK,
        env: Mapping[str, str] | None = None,
        **options: object,
    ) -> None:
        self.dsn = dsn
        self.ha_uuid = str(uuid.uuid4())
        self._stack = stack
        self.ports = [(free_port(), free_port()) for _ in range(2)]
        self.ended: list[WorkerProcess] = []
        self.workers = [
            WorkerProcess(
                rulebook,
                root=root,
                name=f"worker-{number}",
                worker_id=f"worker-{number}",
                dsn=dsn,
                ha_uuid=self.ha_uuid,
                # The rulebook is the same for both, or the next leader would
                # begin without the state.
                args=["--ha-http-listen", str(http), "--env-vars", "PORT"],
                env={**(env or {}), "PORT": str(port)},
                **options,  # type: ignore[arg-type]
            )
            for number, (port, http) in enumerate(self.ports, 1)
        ]
        for each in self.workers:
            stack.enter_context(each)
        self.leader = wait_leader(self.workers, TIMEOUT)
        self.follower.wait_for(FOLLOWING, TIMEOUT)

    @property
    def follower(self) -> WorkerProcess:
        (found,) = (each for each in self.workers if each is not self.leader)
        return found

    @property
    def variables(self) -> dict[str, str]:
        """What ``ansible-rulebook-ha`` needs to find the cluster."""
        return {
            "EDA_HA_POSTGRES_DSN": self.dsn,
            "EDA_HA_UUID": self.ha_uuid,
        }

    def strike(self, fault: str) -> None:
        """Have the leader lose the lead, and wait until the other leads."""
        before, after = self.leader, self.follower
        at = time.monotonic()
        if fault == KILL:
            before.kill()
        elif fault == TERM:
            before.stop(TIMEOUT)
        elif fault == STOP:
            before.pause()
        else:
            operate(self.variables, "switchover", "--yes")
        after.wait_leads(TIMEOUT, after=at)
        self.leader = after

    def mend(self, fault: str) -> None:
        """Have the former leader follow."""
        worker = self.follower
        at = time.monotonic()
        if fault in (KILL, TERM):
            worker.close()
            self.ended.append(worker)
            again = worker.again()
            self._stack.callback(again.close)
            self.workers[self.workers.index(worker)] = again.start()
            worker = again
        elif fault == STOP:
            at = worker.resume()
        else:
            return
        worker.wait_for(FOLLOWING, TIMEOUT, after=at)

    def got(self) -> dict[str, int]:
        """How often a rule has met each post's event."""
        found: dict[str, int] = {}
        for worker in [*self.ended, *self.workers]:
            # Two writers may share a line.
            for name in GOT.findall(worker.text):
                found[name] = found.get(name, 0) + 1
        return found


def lost(pair: Pair, answers: Sequence[Answered]) -> list[str]:
    """The posts that were answered with success, and met no rule.

    Waits until the latest one has: rules take events in their order.

    :raises ProcessError: if it never does.
    """
    wanted = [each for each in answers if each.is_ok]
    latest = max(wanted, key=lambda each: each.sent + each.seconds).name
    deadline = time.monotonic() + TIMEOUT
    while latest not in pair.got():
        if time.monotonic() > deadline:
            raise ProcessError(f"{latest} met no rule\n{pair.leader.tail()}")
        time.sleep(LOOK_EVERY)
    time.sleep(SETTLES)
    return sorted({each.name for each in wanted} - set(pair.got()))


def strike(
    pair: Pair, fault: str, proxies: Mapping[str, HaProxyProcess], number: int
) -> Round:
    """One fault, with posts before, during and after it."""
    time.sleep(STOOD_BY)
    word = re.sub(r"\W", "", fault)
    streams = {
        name: Stream(proxy.port, RATE, f"{word}{number}_{place}")
        for place, (name, proxy) in enumerate(proxies.items())
    }
    try:
        time.sleep(BEFORE)
        pair.strike(fault)
        time.sleep(AFTER)
    finally:
        for each in streams.values():
            each.stop()
        answers = {name: each.end() for name, each in streams.items()}
    return Round(fault, answers)


def measure(setting: Setting) -> Result:
    title = "posts through HAProxy while the leader changes"
    if find_binary() is None:
        missing = Figure("posts that fail", "posts", [], missing="no haproxy")
        return Result(PART, title, [missing])
    server = setting.stack.enter_context(EmbeddedRig(AS_A_SERVER))
    root = setting.folder(PART)
    setting.say("workers")
    pair = Pair(root, server.create_database(), setting.stack, verbosity=0)
    proxies: dict[str, HaProxyProcess] = {}
    for number, (name, text) in enumerate(SETTINGS.items()):
        config = root / f"haproxy-{number}.cfg"
        config.write_text(text, "utf-8")
        proxy = HaProxyProcess(
            config, pair.ports, root=root, name=f"haproxy-{number}"
        )
        proxies[name] = setting.stack.enter_context(proxy)
        proxy.wait_listens()
    rounds = setting.pick(5, 1)
    done: list[Round] = []
    for number in range(rounds):
        for fault in FAULTS:
            setting.say(f"round {number + 1} of {rounds}, {fault}")
            done.append(strike(pair, fault, proxies, number))
            pair.mend(fault)
    # What a leader held when it was stopped comes when it leads again.
    time.sleep(STOOD_BY)
    pair.strike(SWITCHOVER)
    time.sleep(AFTER)
    figures, notes = _found(pair, done)
    return Result(PART, title, figures, notes=notes)


def _found(
    pair: Pair, done: Sequence[Round]
) -> tuple[list[Figure], list[str]]:
    everything = [a for each in done for s in each.answers.values() for a in s]
    missing = set(lost(pair, everything))
    figures: list[Figure] = []
    for fault in FAULTS:
        of_fault = [each.answers for each in done if each.fault == fault]
        failed, slow, gone = (
            f"{fault}: {what}"
            for what in (
                f"posts that failed, of {RATE:g} a second",
                "the slowest answer that was a success",
                "events that were answered with success and lost",
            )
        )
        for name in SETTINGS:
            answers = [each[name] for each in of_fault]
            bad = [sum(not a.is_ok for a in each) for each in answers]
            figures.append(Figure(name, "posts", bad, failed))
        for name in SETTINGS:
            slowest = [
                max(a.seconds for a in each[name] if a.is_ok)
                for each in of_fault
            ]
            figures.append(Figure(name, "s", slowest, slow))
        for name in SETTINGS:
            lost_ones = [
                sum(a.name in missing for a in each[name]) for each in of_fault
            ]
            figures.append(Figure(name, "events", lost_ones, gone))
    notes = [
        "all settings stand before the same workers at the same time",
        "no client posts again; a lease of 15 s, the default",
        f"posts from {BEFORE:g} s before the fault until {AFTER:g} s after "
        "the next leader's promotion",
    ]
    return figures, notes
