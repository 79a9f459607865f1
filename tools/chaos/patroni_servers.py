"""Three nodes under Patroni, with the configuration that we recommend."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Callable, TypeVar

from bench.peers.servers import Etcd, Missing
from psycopg.conninfo import make_conninfo
from rig.patroni import PatroniNode, obstacle
from rig.server import TEST_BIN, ExternalServer, Server

from ansible_rulebook.ha.embedded.binaries import wheel_binaries

from .access import HOST, Access, Probe

CONFIG = (
    Path(__file__).resolve().parents[2] / "deploy" / "patroni" / "patroni.yml"
)
NODES = 3
PATIENCE = 120.0  # seconds
LOOK_EVERY = 0.1  # seconds
READ_WRITE = "read-write"

T = TypeVar("T")


class PatroniError(RuntimeError):
    """Patroni does not do what a fault needs."""


class PatroniServers(Access):
    """A primary, a synchronous standby, and one more.

    :raises bench.peers.servers.Missing: if there is no Patroni or etcd.
    """

    def __init__(self) -> None:
        if obstacle():
            raise Missing(obstacle())
        super().__init__()
        self._root = tempfile.TemporaryDirectory(prefix="chaos-patroni-")
        root = Path(self._root.name)
        self._etcd = Etcd(root)
        self.nodes: list[PatroniNode] = []
        try:
            self._etcd.start()
            bin_dir = Path(os.environ.get(TEST_BIN) or wheel_binaries())
            for number in range(1, NODES + 1):
                node = PatroniNode(
                    f"p{number}",
                    root,
                    CONFIG,
                    self._etcd.at,
                    bin_dir,
                    self.passwords[0],
                )
                self.nodes.append(node)
                node.start()
                self.leader()  # the first one
            self.wait_whole()
            self._create_database()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self._etcd.close()
        self._root.cleanup()
        super().close()

    @property
    def primary(self) -> Server:
        return ExternalServer(self._admin_dsn)

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    @property
    def _admin_dsn(self) -> str:
        return make_conninfo(
            host=",".join([HOST] * NODES),
            port=",".join(map(str, self.ports)),
            user="postgres",
            password=self.passwords[0],
            dbname="postgres",
            target_session_attrs=READ_WRITE,
        )

    def leader(self) -> PatroniNode:
        """The node whose server is the primary, by its own word."""
        return self._until(self._find_leader, "a primary")

    def _find_leader(self) -> PatroniNode | None:
        for node in self.nodes:
            if node.alive and node.says("primary"):
                return node
        return None

    def wait_whole(self) -> None:
        """Wait until there is a primary, with a standby of each sort.

        :raises PatroniError: if that does not come.
        """
        self._until(
            lambda: (
                sum(node.says("primary") for node in self.nodes) == 1
                and sum(node.says("sync") for node in self.nodes) == 1
                and sum(node.says("replica") for node in self.nodes)
                == NODES - 1
            ),
            "a primary and its standbys",
        )

    def switch_over(self) -> None:
        """Another node's turn, as an operator would have it."""
        leader = self.leader()
        (sync,) = [node for node in self.nodes if node.says("sync")]
        leader.post("switchover", leader=leader.node, candidate=sync.node)
        self._probe = Probe(self._admin_dsn, stores=True)

    def crash(self) -> PatroniNode:
        """Kill the node of the primary; see :meth:`restart`."""
        leader = self.leader()
        leader.kill()
        self._probe = Probe(self._admin_dsn, stores=True)
        return leader

    def restart(self, node: PatroniNode) -> None:
        """A node that was killed comes back."""
        again = node.again()
        self.nodes[self.nodes.index(node)] = again
        again.start()
        self.wait_whole()

    def freeze(self) -> PatroniNode:
        """Stop the Patroni of the primary, whose server goes on.

        Returns when another server has been promoted beside it.
        """
        leader = self.leader()
        leader.pause()
        self._until(
            lambda: any(
                node.says("primary") for node in self.nodes if node != leader
            ),
            "a second primary",
        )
        return leader

    def thaw(self, node: PatroniNode) -> None:
        """Let it go on. It finds out that it is not the primary any more."""
        node.resume()
        self.wait_whole()

    def _until(self, what: Callable[[], T | None], why: str) -> T:
        deadline = time.monotonic() + PATIENCE
        while True:
            found = what()
            if found:
                return found
            if time.monotonic() > deadline:
                tails = "\n".join(node.tail(10) for node in self.nodes)
                raise PatroniError(
                    f"not within {PATIENCE:g} s: {why}\n{tails}"
                )
            time.sleep(LOOK_EVERY)
