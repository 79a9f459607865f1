"""Posts that no kill may lose: ``ha_webhook`` on three workers, in a storm.

A sender posts at a steady rate, to three workers with nothing in front of
them or through an HAProxy that knows nothing of the election. Every ten
seconds the leader is killed with -9, and started again. Then the same with a
restart of the server, as after a crash, and no kill.

What became of each post is told by three witnesses: the sender, which knows
what was acknowledged; the server, where triggers of this program note each
event that comes into the inbox and each that is in a transaction of the
journal, in that same transaction, for good; and the logs of the workers, for
the actions. So nothing is sampled, and nothing can be forgotten.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
import uuid
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rig.haproxy import HaProxyProcess, find_binary, listens
from rig.ports import free_port
from rig.process import ManagedProcess, ProcessError
from rig.server import EmbeddedRig
from rig.workers import WorkerProcess

from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.inbox.delivery import Delivery, Row
from ansible_rulebook.ha.state import schema, sql
from ansible_rulebook.ha.state.names import key_of
from ansible_rulebook.ha.state.session import StateSession

from .bursts import WITH_STATE
from .report import Figure, Goal, Result
from .sender import ACKNOWLEDGED, REFUSED, UNKNOWN, Try, read, sender
from .setting import AS_A_SERVER, Setting
from .webhook import percentile

WORKERS = 3
RATE = 200.0  # posts per second
LEASE, POLL = 3.0, 1.0  # seconds
KILL_EVERY = 10.0  # seconds
FIRST_KILL = 5.0  # seconds after the first post
STOOD_BY = 6.0  # seconds, for followers that have warmed themselves
TIMEOUT = 120.0  # seconds for anything
LOOK_EVERY = 0.05  # seconds
PART = "storm"
ALONE, BEHIND, RESTART = (
    "nothing in front, kill -9 of the leader",
    "HAProxy with TCP checks, kill -9 of the leader",
    "nothing in front, restart of the server",
)
KINDS = (ALONE, BEHIND, RESTART)
RULES = ("first", "second")
# The port is a variable: where it differs, the rules are the same ones.
RULEBOOK = """
- name: storm
  hosts: localhost
  match_multiple_rules: true
  sources:
    - ha_webhook:
        host: 127.0.0.1
        port: "{{ port }}"
  rules:
    - name: first
      condition: event.payload.number is defined
      action:
        debug:
          msg: "first {{ event.payload.number }} acts"
    - name: second
      condition: event.payload.number >= 0
      action:
        debug:
          msg: "second {{ event.payload.number }} acts"
"""
HAPROXY = """
global
    maxconn 4096
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    option redispatch 1
    retry-on conn-failure
    retries 3
frontend posts
    bind "${EDA_BIND}"
    default_backend workers
backend workers
    balance roundrobin
    default-server check inter 1s fall 2 rise 1
    server w1 "${EDA_W1}"
    server w2 "${EDA_W2}"
    server w3 "${EDA_W3}"
"""
# A line of another writer may stand between a stamp and what follows it.
SAID = re.compile(
    r"\*\* (?P<stamp>\d{4}-\d\d-\d\d [\d:.]+) \[debug\]"
    rf"|(?P<rule>{'|'.join(RULES)}) (?P<number>\d+) acts"
)
WITNESS = f"""
CREATE TABLE storm_event (id bigint, arrived float8, body text);
CREATE TABLE storm_processed (key uuid, mark bigint);
CREATE FUNCTION storm_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO storm_event
    VALUES (NEW.id, extract(epoch FROM NEW.arrived), NEW.body);
    RETURN NULL;
END $$;
CREATE FUNCTION storm_processed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO storm_processed SELECT unnest(NEW.events), NEW.mark;
    RETURN NULL;
END $$;
CREATE TRIGGER storm AFTER INSERT ON {sql.INBOX}
   FOR EACH ROW EXECUTE FUNCTION storm_event();
CREATE TRIGGER storm AFTER INSERT ON {sql.COMMIT}
   FOR EACH ROW EXECUTE FUNCTION storm_processed();
"""
LEADER = f"SELECT term, worker_id FROM {sql.CLUSTER} WHERE term > 0"
LEFT = f"""
SELECT (SELECT count(*) FROM {sql.INBOX}) + (SELECT count(*) FROM {sql.MATCH})
"""
PROMOTIONS = f"""
SELECT extract(epoch FROM since)::float8 FROM {sql.HISTORY} ORDER BY term
"""


@dataclass(frozen=True)
class Act:
    """An action that began. The time is in seconds since 1970."""

    rule: str
    number: int
    at: float


@dataclass
class Seen:
    """What the three witnesses say.

    :param events: by the number that was posted, the keys of its events.
    :param processed: by key, in how many transactions it was.
    :param promotions: when each term began.
    """

    tries: Sequence[Try]
    events: Mapping[int, Sequence[bytes]]
    processed: Mapping[bytes, int]
    acts: Sequence[Act]
    promotions: Sequence[float]
    faults: Sequence[float] = ()


@dataclass
class Verdict:
    """What follows from that. Sets are of numbers."""

    outcomes: Counter[str]
    posts: int
    given_up: int
    refused_taken: set[int] = field(default_factory=set)
    unknown_taken: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    not_processed: set[int] = field(default_factory=set)
    processed_twice: set[int] = field(default_factory=set)
    takeovers: int = 0
    strange: int = 0  # keys that are of no event
    acted_twice: int = 0  # actions
    acted_twice_in_a_term: int = 0
    delays: list[float] = field(default_factory=list)  # seconds
    slowest: list[float] = field(default_factory=list)  # after each fault


def judge(seen: Seen) -> Verdict:
    """Compare what was acknowledged with what was done."""
    of = {
        outcome: {t.number for t in seen.tries if t.outcome == outcome}
        for outcome in (ACKNOWLEDGED, REFUSED, UNKNOWN)
    }
    posts = {each.post for each in seen.tries}
    acknowledged = {t.post: t for t in seen.tries if t.outcome == ACKNOWLEDGED}
    found = Verdict(
        Counter({outcome: len(numbers) for outcome, numbers in of.items()}),
        len(posts),
        len(posts - acknowledged.keys()),
        takeovers=len(seen.promotions) - 1,
    )
    stored = set(seen.events)
    found.refused_taken = of[REFUSED] & stored
    found.unknown_taken = of[UNKNOWN] & stored
    known: set[bytes] = set()
    for number, keys in seen.events.items():
        known.update(keys)
        times = sum(seen.processed.get(key, 0) for key in keys)
        if not times:
            found.not_processed.add(number)
        elif times > 1:
            found.processed_twice.add(number)
    found.strange = len(seen.processed.keys() - known)
    acts: dict[tuple[str, int], list[float]] = {}
    for act in seen.acts:
        acts.setdefault((act.rule, act.number), []).append(act.at)
    for number in of[ACKNOWLEDGED]:
        has_acted = all((rule, number) in acts for rule in RULES)
        if number not in stored - found.not_processed or not has_acted:
            found.lost.add(number)
    _compare_acts(found, acts.values(), seen.promotions)
    _measure(found, acts, acknowledged.values(), seen.faults)
    return found


def _compare_acts(
    found: Verdict,
    acts: Iterable[Sequence[float]],
    promotions: Sequence[float],
) -> None:
    terms = sorted(promotions)
    for times in acts:
        if len(times) > 1:
            found.acted_twice += 1
            in_terms = [bisect(terms, at) for at in times]
            if len(set(in_terms)) < len(in_terms):
                found.acted_twice_in_a_term += 1


def _measure(
    found: Verdict,
    acts: Mapping[tuple[str, int], Sequence[float]],
    acknowledged: Iterable[Try],
    faults: Sequence[float],
) -> None:
    # After which fault, and 0 before the first.
    slowest = [0.0] * (len(faults) + 1)
    for each in acknowledged:
        for rule in RULES:
            times = acts.get((rule, each.number))
            if times:
                first = min(times)
                found.delays.append(first - each.due)
                place = bisect(faults, first)
                slowest[place] = max(slowest[place], first - each.due)
    found.slowest = slowest[1:]


def acts_in(text: str) -> list[Act]:
    """The actions in a worker's log."""
    found: list[Act] = []
    at = math.nan
    for match in SAID.finditer(text):
        if match["stamp"]:
            at = datetime.fromisoformat(match["stamp"]).timestamp()
        else:
            found.append(Act(match["rule"], int(match["number"]), at))
    return found


def key_of_row(inbox: str, number: int, arrived: float) -> bytes:
    """What the journal calls the event of a row."""
    row = Row(inbox, number)
    delivery = Delivery(row, {}, arrived, None, lambda row: None)
    key = key_of("storm", delivery.part({"meta": {}}).event)
    assert key is not None
    return key


class Storm:
    """Three workers on a database of their own."""

    def __init__(
        self, setting: Setting, server: EmbeddedRig, name: str
    ) -> None:
        self.setting = setting
        self.server = server
        self.dsn = server.create_database()
        self.root = setting.folder(name)
        self.ended: list[WorkerProcess] = []
        self.faults: list[float] = []
        self.ports = [free_port() for _ in range(WORKERS)]
        self.workers: dict[str, WorkerProcess] = {}
        self._make_tables()
        ha_uuid = str(uuid.uuid4())
        for number, port in enumerate(self.ports, 1):
            worker_id = f"worker-{number}"
            variables = self.root / f"{worker_id}.yml"
            variables.write_text(f"port: {port}\n", "utf-8")
            worker = WorkerProcess(
                RULEBOOK,
                root=self.root,
                name=worker_id,
                worker_id=worker_id,
                dsn=self.dsn,
                ha_uuid=ha_uuid,
                lease_duration=LEASE,
                poll_interval=POLL,
                verbosity=0,
                args=[*WITH_STATE, "--vars", str(variables)],
            )
            self.workers[worker_id] = setting.stack.enter_context(worker)
        self._until(lambda: all(map(listens, self.ports)), "all to listen")
        self.leader_after(0)
        time.sleep(STOOD_BY)

    def _make_tables(self) -> None:
        session = StateSession(Conninfo(self.dsn), "bench", Timings())
        with contextlib.closing(session):
            schema.create(session)
        self.server.query(WITNESS, dsn=self.dsn)

    def _until(self, is_so: Any, what: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not is_so():
            if time.monotonic() > deadline:
                raise self._failed(f"waited for {what}")
            time.sleep(LOOK_EVERY)

    def _failed(self, reason: str) -> ProcessError:
        tails = [each.tail(15) for each in self.workers.values()]
        return ProcessError("\n".join((reason, *tails)))

    def leader_after(self, term: int) -> tuple[int, str]:
        """The first term after that one, and whose it is. Waits for it."""
        found: list[tuple[int, str]] = []

        def has_begun() -> bool:
            found[:] = [
                (int(number), str(worker_id))
                for number, worker_id in self.server.query(
                    LEADER, dsn=self.dsn
                )
            ]
            return bool(found) and found[0][0] > term

        self._until(has_begun, "a leader")
        return found[0]

    def kill_the_leader(self, after: int) -> int:
        """Kill who leads, start it again; the number of its term.

        :param after: the term of the one that was killed before.
        """
        term, worker_id = self.leader_after(after)
        worker = self.workers[worker_id]
        self.faults.append(time.time())
        worker.kill()
        worker.wait_exit()
        self.ended.append(worker)
        again = worker.again()
        self.setting.stack.callback(again.close)
        self.workers[worker_id] = again.start()
        return term

    def wait_empty(self) -> None:
        """Until nothing waits: no event, and no action.

        That takes as long as it takes, while it becomes less.
        """
        least, deadline = math.inf, 0.0
        while (left := self.left()) > 0:
            now = time.monotonic()
            if left < least:
                least, deadline = left, now + TIMEOUT
            elif now > deadline:
                raise self._failed(f"waited for {left} in the inbox")
            time.sleep(LOOK_EVERY)

    def left(self) -> int:
        ((left,),) = self.server.query(LEFT, dsn=self.dsn)
        return int(left)

    def close(self) -> None:
        """End the workers."""
        for each in (*self.ended, *self.workers.values()):
            each.close()

    def seen(self, tries: Sequence[Try]) -> Seen:
        events: dict[int, list[bytes]] = {}
        for number, arrived, body in self.server.query(
            "SELECT id, arrived, body FROM storm_event", dsn=self.dsn
        ):
            key = key_of_row("ha_webhook", number, arrived)
            posted = json.loads(body)["payload"]["number"]
            events.setdefault(posted, []).append(key)
        processed = self.server.query(
            "SELECT key, count(*) FROM storm_processed GROUP BY key",
            dsn=self.dsn,
        )
        promotions = self.server.query(PROMOTIONS, dsn=self.dsn)
        logs = [each.log for each in (*self.ended, *self.workers.values())]
        return Seen(
            tries,
            events,
            {key.bytes: count for key, count in processed},
            [act for log in logs for act in acts_in(_text(log))],
            [at for (at,) in promotions],
            self.faults,
        )


def _text(log: Path) -> str:
    return log.read_text("utf-8", "replace")


def run(
    setting: Setting, server: EmbeddedRig, kind: str, seconds: float
) -> Verdict:
    """One storm; what came of it."""
    storm = Storm(setting, server, f"{PART}-{KINDS.index(kind)}")
    ports = storm.ports
    if kind == BEHIND:
        config = storm.root / "haproxy.cfg"
        config.write_text(HAPROXY, "utf-8")
        haproxy = HaProxyProcess(
            config, [(port, 0) for port in ports], root=storm.root
        )
        setting.stack.enter_context(haproxy).wait_listens()
        ports = [haproxy.port]
    process, out = sender(ports, RATE, seconds, storm.root)
    with process:
        began = time.monotonic()
        if kind == RESTART:
            _sleep_until(began + seconds / 2)
            storm.faults.append(time.time())
            server.restart("immediate")
        else:
            _kill(setting, storm, began, seconds)
        _wait_sent(process, seconds)
    setting.say(f"{kind}: until the inbox is empty")
    storm.wait_empty()
    seen = storm.seen(read(out))  # the end of a leader is a takeover, too
    storm.close()
    return judge(seen)


def _kill(
    setting: Setting, storm: Storm, began: float, seconds: float
) -> None:
    term, due = 0, began + FIRST_KILL
    while due < began + seconds:
        _sleep_until(due)
        term = storm.kill_the_leader(term)
        setting.say(f"{len(storm.faults)} leaders killed")
        due += KILL_EVERY


def _sleep_until(due: float) -> None:
    time.sleep(max(due - time.monotonic(), 0.0))


def _wait_sent(process: ManagedProcess, seconds: float) -> None:
    if process.wait_exit(seconds + TIMEOUT):
        raise ProcessError(process.tail())


def figures_of(kind: str, found: Verdict) -> list[Figure]:
    def count(name: str, number: int, what: str = "posts") -> Figure:
        return Figure(name, what, [number], kind)

    return [
        count("posted", found.posts),
        count("acknowledged", found.outcomes[ACKNOWLEDGED]),
        count("refused, and posted again", found.outcomes[REFUSED]),
        count("of these taken", len(found.refused_taken)),
        count("broken off, and posted again", found.outcomes[UNKNOWN]),
        count("of these taken as well", len(found.unknown_taken)),
        count("never acknowledged", found.given_up),
        count("acknowledged and lost", len(found.lost)),
        count("taken, not processed", len(found.not_processed), "events"),
        count("processed twice", len(found.processed_twice), "events"),
        count("ran twice", found.acted_twice, "actions"),
        count("the lead changed", found.takeovers, "times"),
        Figure("post to action, median", "s", [_at(found, 50)], kind),
        Figure("post to action, p99", "s", [_at(found, 99)], kind),
        Figure(
            "slowest post to action after a fault", "s", found.slowest, kind
        ),
    ]


def _at(found: Verdict, percent: float) -> float:
    return percentile(found.delays, percent)


def goals_of(kind: str, found: Verdict) -> list[Goal]:
    return [
        Goal(f"{name}; {kind}", number, 0, what)
        for name, number, what in (
            ("acknowledged and lost", len(found.lost), "posts"),
            ("taken, not processed", len(found.not_processed), "events"),
            ("processed twice", len(found.processed_twice), "events"),
            ("processed, and never posted", found.strange, "events"),
            ("ran twice in one term", found.acted_twice_in_a_term, "actions"),
        )
    ]


def measure(setting: Setting) -> Result:
    server = setting.stack.enter_context(EmbeddedRig(AS_A_SERVER))
    seconds = setting.pick(120, 25)
    figures: list[Figure] = []
    goals: list[Goal] = []
    for kind in KINDS:
        setting.say(kind)
        if kind == BEHIND and find_binary() is None:
            figures.append(
                Figure("posted", "", [], kind, missing="not installed")
            )
            continue
        found = run(setting, server, kind, seconds)
        figures += figures_of(kind, found)
        goals += goals_of(kind, found)
    return Result(
        PART,
        "posts to ha_webhook on three workers, and what becomes of them",
        figures,
        goals,
        [
            f"{RATE:g} posts a second for {seconds} s, over connections that "
            f"stay; lease {LEASE:g} s, poll interval {POLL:g} s",
            "the time to an action is from when the post was due, however "
            "often it was refused; of each of the two rules' actions",
            "a post is not processed twice if the sender was not answered "
            "and posts again: that is another post here",
        ],
    )
