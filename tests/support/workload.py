"""A small websocket server that stands in for the EDA controller."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any, Mapping

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server as WebsocketServer
from websockets.sync.server import ServerConnection, serve


class WorkloadServer:
    """Hands out a workload, and keeps what workers report.

    :param rulebook: its text.
    :param variables: of the rulebook.
    """

    def __init__(self, rulebook: str, variables: Mapping[str, object]) -> None:
        self._rulebook = rulebook
        self._variables = variables
        self.reports: list[dict[str, Any]] = []
        self.workers: list[str] = []
        self._server: WebsocketServer = serve(self._serve, "127.0.0.1", 0)
        port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> WorkloadServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The reports of that type, in the order in which they came."""
        return [each for each in self.reports if each["type"] == kind]

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
        variables = json.dumps(self._variables)
        for message in (
            {"type": "ProjectData", "data": _packed("none"), "more": True},
            {"type": "ProjectData", "data": None, "more": False},
            {"type": "Rulebook", "data": _packed(self._rulebook)},
            {"type": "ExtraVars", "data": _packed(variables)},
            {"type": "EnvVars", "data": _packed("{}")},
            {"type": "EndOfResponse"},
        ):
            connection.send(json.dumps(message))


def _packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
