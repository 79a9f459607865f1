"""``--worker``: the workload comes from a websocket."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator

import pytest
from e2e_support import FOLLOWING, PATIENCE, READY, Stage, until
from rig.workers import wait_leader
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server as WebsocketServer
from websockets.sync.server import ServerConnection, serve

RULEBOOK = """
- name: Workload
  hosts: all
  sources:
    - ticks:
        delay: 0.2
  rules:
    - name: Number
      condition: event.i >= 0
      action:
        debug:
          msg: "{{ greeting }} {{ event.i }}"
"""


class Controller:
    """Hands out a workload, and keeps what workers report."""

    def __init__(self) -> None:
        self.reports: list[dict[str, object]] = []
        self.workers: list[str] = []
        self._server: WebsocketServer = serve(self._serve, "127.0.0.1", 0)
        port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()

    def _serve(self, connection: ServerConnection) -> None:
        try:
            for text in connection:
                message = json.loads(text)
                if message["type"] == "Worker":
                    self.workers.append(message["activation_id"])
                    self._hand_out(connection)
                else:
                    self.reports.append(message)
        except ConnectionClosed:
            pass  # it was killed

    def _hand_out(self, connection: ServerConnection) -> None:
        def packed(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        for message in (
            {"type": "ProjectData", "data": packed("none"), "more": True},
            {"type": "ProjectData", "data": None, "more": False},
            {"type": "Rulebook", "data": packed(RULEBOOK)},
            {"type": "ExtraVars", "data": packed("greeting: workload")},
            {"type": "EnvVars", "data": packed("{}")},
            {"type": "EndOfResponse"},
        ):
            connection.send(json.dumps(message))


@pytest.fixture
def controller() -> Iterator[Controller]:
    made = Controller()
    yield made
    made.close()


def test_workers_of_a_websocket_elect_a_leader(
    stage: Stage, controller: Controller
) -> None:
    workers = [
        stage.start(
            args=["--worker", "--id", name, "--websocket-url", controller.url]
        )
        for name in ("1", "2")
    ]
    leader = wait_leader(workers, PATIENCE)
    (follower,) = (each for each in workers if each is not leader)
    follower.wait_for(FOLLOWING, PATIENCE)
    follower.wait_for(READY, PATIENCE)
    leader.wait_for("^workload 5$", PATIENCE)
    assert not follower.find("^workload")
    assert sorted(controller.workers) == ["1", "2"]
    until(lambda: controller.reports, "a report")

    killed_at = leader.kill()
    follower.wait_leads(PATIENCE, after=killed_at)
    follower.wait_for("^workload 5$", PATIENCE)
    assert follower.stop(PATIENCE) == 0
