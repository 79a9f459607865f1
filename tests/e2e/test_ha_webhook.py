"""Events that are posted to any worker, and processed by the leader."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import uuid
from typing import Any

from e2e_support import (
    PATIENCE,
    READY,
    STATELESS,
    Stage,
    needs_state,
    until,
)
from rig.ports import HOST, free_ports
from rig.process import Line
from rig.server import Server
from rig.workers import WorkerProcess

POSTS = 40
BEFORE_THE_KILL = 10
POST = "SELECT eda_ha_post(%s, 'ha_queue', %s)"
RULEBOOK = """
- name: Hook
  hosts: localhost
  match_multiple_rules: true
  sources:
    - eda.builtin.ha_webhook:
        host: 127.0.0.1
        port: {port}
        token: secret
    - ha_queue:
  rules:
    - name: Say
      condition: event.payload.do == "say"
      action:
        debug:
          msg: "says {{{{ event.payload.word }}}}"
    - name: Queued
      condition: event.do == "say"
      action:
        debug:
          msg: "says {{{{ event.word }}}}"
"""
# Upstream accumulates from 1.2 on.
THROTTLES = """
    - name: Counted
      condition: event.payload.number is defined
      throttle:
        accumulate_within: 2 hours
        threshold: {threshold}
        group_by_attributes:
          - event.payload.do
      action:
        debug:
          msg: "counted {threshold}"
    - name: Once
      condition: event.payload.do == "once"
      throttle:
        once_within: 2 hours
        group_by_attributes:
          - event.payload.word
      action:
        debug:
          msg: "once {{{{ event.payload.word }}}}"
"""
NEW_RULE = """
    - name: New
      condition: event.payload.do == "new"
      action:
        debug:
          msg: "new rule on {{ event.payload.word }}"
"""
# JSON that some rule engine or database could stumble over.
ODD = (
    {"do": "odd", "word": "\0\u2028\uffff", "": {"": [None]}},
    {"do": "odd", "number_of": 10**299, "of": [-(2**63) - 1, 1e308, -0.0]},
    json.loads("[" * 100 + "]" * 100),
    "text",
    {"meta": 5, "payload": "x"},
)


def start(
    stage: Stage, port: int, rules: str = RULEBOOK, **options: Any
) -> WorkerProcess:
    text = rules.format(port=port, threshold=POSTS + 1)
    return stage.start(text, **options)


def post(port: int, content: Any, key: str = "") -> tuple[int, str]:
    """Status and what it says; a status of 0 if there is no answer."""
    client = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    headers = {"Authorization": "Bearer secret", "Idempotency-Key": key}
    try:
        client.request("POST", "/hook", json.dumps(content), headers)
        response = client.getresponse()
        return response.status, json.loads(response.read())["status"]
    except (http.client.HTTPException, OSError):
        return 0, ""
    finally:
        client.close()


def say(port: int, word: str) -> None:
    answer = post(port, {"do": "say", "word": word})
    assert answer == (202, "accepted")


def waiting(server: Server, stage: Stage) -> int:
    ((count,),) = server.query(
        "SELECT count(*) FROM eda_ha_inbox", dsn=stage.dsn
    )
    return int(count)


class Sender(threading.Thread):
    """Posts numbers, each until it is accepted, to whoever answers."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__(daemon=True)
        self.accepted = 0
        self.refused = 0
        self._ports = ports
        self.start()

    def run(self) -> None:
        for number in range(POSTS):
            self._send({"do": "say", "word": f"n{number}", "number": number})

    def _send(self, content: Any) -> None:
        key = str(uuid.uuid4())
        while True:
            status, _ = post(self._ports[0], content, key)
            if status == 202:
                self.accepted += 1
                return
            self.refused += 1
            self._ports.append(self._ports.pop(0))


def test_a_webhook_of_ours_is_found_by_name_and_survives_a_reload(
    stage: Stage, server: Server
) -> None:
    (port,) = free_ports(1)
    leader = start(stage, port, args=[*STATELESS, "--hot-reload"])
    leader.wait_leads(PATIENCE)
    leader.wait_for("ha_webhook listens at", PATIENCE)
    for odd in ODD:
        assert post(port, odd)[0] == 202
    say(port, "one")
    leader.wait_for("^says one$", PATIENCE)
    event = json.dumps({"do": "say", "word": "queued"})
    server.query(POST, (stage.ha_uuid, event), dsn=stage.dsn)
    leader.wait_for("^says queued$", PATIENCE)
    until(lambda: not waiting(server, stage), "all to be processed")

    with leader.rulebook.open("a", encoding="utf-8") as file:
        file.write(NEW_RULE)
    leader.wait_for(READY, PATIENCE, count=2)
    leader.wait_for("ha_webhook listens at", PATIENCE, count=2)
    assert post(port, {"do": "new", "word": "one"}) == (202, "accepted")
    leader.wait_for("^new rule on one$", PATIENCE)
    leader.signal(signal.SIGTERM)
    assert leader.wait_exit(PATIENCE) == 0
    assert post(port, {})[0] == 0
    assert not leader.find("Traceback|secret"), leader.tail()


@needs_state
def test_what_any_worker_accepted_is_processed_once_by_whoever_leads(
    stage: Stage, server: Server
) -> None:
    ports = free_ports(2)
    workers = [start(stage, port, RULEBOOK + THROTTLES) for port in ports]
    of = {each.name: port for each, port in zip(workers, ports)}
    leader, follower = sorted(workers, key=lambda each: not leads(each))
    for each in workers:
        each.wait_for("ha_webhook listens at", PATIENCE)
    for odd in ODD:
        assert post(of[follower.name], odd) == (202, "accepted")
    say(of[follower.name], "to the follower")
    leader.wait_for("^says to the follower$", PATIENCE)
    assert not follower.find("^says ")

    assert post(of[follower.name], {"do": "once", "word": "x"})[0] == 202
    leader.wait_for("^once x$", PATIENCE)

    sender = Sender([of[leader.name], of[follower.name]])
    leader.wait_for(f"^says n{BEFORE_THE_KILL}$", PATIENCE)
    leader.signal(signal.SIGKILL)
    follower.wait_leads(PATIENCE)
    sender.join(PATIENCE)
    assert sender.accepted == POSTS
    assert sender.refused

    def missing() -> set[int]:
        shown = set(stage.shown(r"^says n\d+$"))
        return {n for n in range(POSTS) if f"says n{n}" not in shown}

    until(lambda: not missing(), f"all posts to be processed: {missing()}")
    until(lambda: not waiting(server, stage), "the inbox to be empty")
    # An action runs again if its leader died before that was recorded. But no
    # event has come to the rules twice, not even of those in the inbox then.
    by_leader, by_follower = (each.find(r"^says n\d+$") for each in workers)
    assert len(set(words(by_leader))) == len(by_leader)
    assert len(set(words(by_follower))) == len(by_follower)
    (recovering,) = follower.find(r"Recovering .* pending=\d+")
    pending = int(recovering.text.rpartition("pending=")[2].rstrip(")"))
    assert len({*words(by_leader)} & {*words(by_follower)}) <= pending
    # Throttles go on, though the workers' sources differ in their ports: one
    # event more makes the number full, no sooner.
    assert not stage.shown("^counted")
    for word in "xy":
        assert post(of[follower.name], {"do": "once", "word": word})[0] == 202
    last = {"do": "say", "word": "last", "number": POSTS}
    assert post(of[follower.name], last)[0] == 202
    follower.wait_for(f"^counted {POSTS + 1}$", PATIENCE)
    follower.wait_for("^once y$", PATIENCE)
    assert not follower.find("^once x$")
    follower.signal(signal.SIGTERM)
    assert follower.wait_exit(PATIENCE) == 0


def words(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


def leads(worker: WorkerProcess) -> bool:
    """Which one it is, when it has turned out."""
    found = worker.wait_for(
        r"Worker \S+: (Following|Successfully acquired leadership)", PATIENCE
    )
    return "Successfully" in found.text
