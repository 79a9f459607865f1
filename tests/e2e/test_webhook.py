"""Built-in sources that know nothing of HA: webhook and generic."""

from __future__ import annotations

import http.client
import json
import socket
import threading

import pytest
from e2e_support import (
    FOLLOWING,
    PATIENCE,
    READY,
    STATELESS,
    Stage,
    needs_sources,
    settled,
    terminate,
    until,
)
from rig.server import Server
from rig.workers import WorkerProcess, wait_leader

from ansible_rulebook.ha.upstream.names import is_able_to_keep_state

pytestmark = needs_sources

KEPT = r"^(says caller|beat (first|second) ([2-9]|\d\d))"
HOOK = """
- name: Hook
  hosts: localhost
  sources:
    - eda.builtin.webhook:
        host: 127.0.0.1
        port: {port}
    - eda.builtin.generic:
        payload:
          - beat: first
          - beat: second
        create_index: index
        loop_count: -1
        loop_delay: 0.2
  rules:
    - name: Say
      condition: event.payload.do == "say"
      action:
        debug:
          msg: "says {{{{ event.payload.word }}}}"
    - name: Hold
      condition: event.payload.do == "hold"
      action:
        run_playbook:
          name: "{{{{ PLAYBOOK }}}}"
          copy_files: false
          extra_vars:
            word: "{{{{ event.payload.word }}}}"
    - name: Beat
      condition: event.beat is defined
      throttle:
        once_within: 1 hour
        group_by_attributes:
          - event.beat
      action:
        debug:
          msg: "beat {{{{ event.beat }}}} {{{{ event.index }}}}"
"""


@pytest.fixture
def ports() -> list[int]:
    """Two that are free."""
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in (one, other)]


class Call:
    """A request that is on its way to the webhook."""

    def __init__(self, port: int, do: str, word: str) -> None:
        self._client = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=PATIENCE
        )
        self._client.request("POST", "/", json.dumps({"do": do, "word": word}))

    def answer(self) -> int:
        """A status, or 0 if the line is closed instead."""
        try:
            return self._client.getresponse().status
        except (http.client.HTTPException, ConnectionError):
            return 0
        finally:
            self._client.close()


def call(port: int, do: str, word: str) -> int:
    return Call(port, do, word).answer()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def say(port: int, worker: WorkerProcess, word: str) -> None:
    until(lambda: listens(port), "a webhook")
    assert call(port, "say", word) == 200
    worker.wait_for(f"^says {word}$", PATIENCE)
    worker.wait_for("^beat second", PATIENCE)


class Caller(threading.Thread):
    """A client whose request is there, and that waits for its answer."""

    def __init__(self, port: int, word: str) -> None:
        super().__init__(daemon=True)
        self.answer: int | None = None
        self._call = Call(port, "say", word)
        self.start()

    def run(self) -> None:
        self.answer = self._call.answer()


def test_a_webhook_listens_on_the_leader_only(
    stage: Stage, server: Server, ports: list[int]
) -> None:
    workers = [
        stage.start(HOOK.format(port=port), args=STATELESS) for port in ports
    ]
    leader = wait_leader(workers, PATIENCE)
    if leader is workers[1]:
        workers.reverse()
        ports.reverse()
    leader, follower = workers
    port, other = ports
    follower.wait_for(READY, PATIENCE)
    follower.wait_for(FOLLOWING, PATIENCE)
    say(port, leader, "one")
    assert not listens(other)

    # Its rules are busy, so callers wait; one does not even finish to send.
    assert call(port, "hold", "busy") == 200
    stage.wait_journal(f"begin {leader.worker_id} busy")
    slow = socket.create_connection(("127.0.0.1", port), PATIENCE)
    slow.sendall(b"POST / HTTP/1.1\r\nHost: me\r\nContent-Length: 9\r\n\r\n{")
    callers = [Caller(port, f"caller {number}") for number in range(30)]
    answered = settled(
        lambda: {each for each in callers if each.answer is not None}
    )
    assert {each.answer for each in answered} == {200}
    waiting = [each for each in callers if each not in answered]
    assert len(waiting) >= 10

    cut_at = terminate(server, leader)
    for each in waiting:
        each.join(PATIENCE)
    # Their events are lost, and they know it.
    assert {each.answer for each in waiting} <= {0, 500}
    follower.wait_leads(PATIENCE, after=cut_at)
    say(other, follower, "two")
    leader.wait_for(FOLLOWING, PATIENCE, after=cut_at)
    assert not listens(port)
    slow.close()

    cut_at = terminate(server, follower)
    leader.wait_leads(PATIENCE, after=cut_at)
    say(port, leader, "three")
    # What was between source and engine then was kept for this term: a
    # caller's event, or a beat with another number than the first ones have.
    leader.wait_for(KEPT, PATIENCE, after=cut_at)
    # The generic source began anew each time, with all of its arguments.
    assert len(leader.find("^beat first 0$")) == 2, leader.tail()
    assert len(follower.find("^beat first 0$")) == 1
    assert leader.stop(PATIENCE) == 0
    assert not listens(port)
    say(other, follower, "four")


@pytest.mark.skipif(
    not is_able_to_keep_state(), reason="upstream before 1.3 digests it"
)
def test_a_post_that_upstream_cannot_digest_ends_nothing(
    stage: Stage, ports: list[int]
) -> None:
    leader = stage.start(HOOK.format(port=ports[0]), args=STATELESS)
    leader.wait_leads(PATIENCE)
    say(ports[0], leader, "one")
    client = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=30)
    client.request("POST", "/", json.dumps({"labels": {"": "x"}}))
    assert client.getresponse().status == 200
    client.close()
    say(ports[0], leader, "two")
    line = leader.wait_for("cannot be processed and is refused", PATIENCE)
    assert "webhook" in line.text
    assert leader.stop(PATIENCE) == 0
    leader.wait_for("Events could not be processed.*events=1", PATIENCE)
