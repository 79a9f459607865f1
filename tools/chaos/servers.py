"""The server that a cluster works with, and a standby that takes its place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psycopg
from rig.proxy import Proxy, server_address
from rig.server import EmbeddedRig

from .access import PROBE_EVERY, Access, Probe
from .volume import Volume

MAX_CONNECTIONS = 60
LONGEST_COMMIT = 100_000  # µs, the most that the server takes for a delay
LOG_SEGMENTS = 30  # more than a volume has room for
SETTINGS: dict[str, str | int | float | bool] = {
    "max_connections": MAX_CONNECTIONS,
    "fsync": True,  # else no commit waits for the disk, and none for long
    # A volume of ours has room for that.
    "min_wal_size": "32MB",
    "max_wal_size": "64MB",
    # A standby comes back at once when its primary does.
    "wal_retrieve_retry_interval": "100ms",
}


class Servers(Access):
    """A primary, and perhaps a standby of it, in two places.

    Places keep their ports when another server is put there.

    :param standby: whether there is one.
    :param proxied: whether a proxy stands before each place, one for each
        worker. What it hands on comes a moment late, and not equally late
        for all.
    :param synchronous: whether a commit waits for the standby, without which
        a promotion may lose it: that is PostgreSQL's promise, not ours.
    :param own_volume: whether the primary's data is on a volume of its own.
    """

    def __init__(
        self,
        standby: bool,
        proxied: bool,
        synchronous: bool,
        own_volume: bool = False,
    ) -> None:
        super().__init__()
        self.volume = Volume() if own_volume else None
        self._proxied = proxied
        self._synchronous = synchronous
        self._places: list[EmbeddedRig] = []
        self._proxies: list[Proxy] = []
        self._primary = 0
        try:
            self._places.append(
                EmbeddedRig(
                    dict(SETTINGS),
                    folder=self.volume.path / "server"
                    if self.volume
                    else None,
                )
            )
            self._create_database()
            if standby:
                self._places.append(self._make_standby())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        for server in self._places:
            server.close()
        if self.volume is not None:
            self.volume.close()
        super().close()

    @property
    def primary(self) -> EmbeddedRig:
        return self._places[self._primary]

    @property
    def ports(self) -> list[int]:
        return [each.embedded.port for each in self._places]

    def proxies(self) -> list[Proxy]:
        if not self._proxied:
            return []
        made = [Proxy(server_address(each.dsn)) for each in self._places]
        self._proxies += made
        return [proxy.start() for proxy in made]

    def stop(self, mode: str) -> None:
        """Stop the primary in this mode."""
        self.primary.stop(mode)

    def start(self) -> None:
        """Start it again; see :meth:`back_since`."""
        self._probe = Probe(self.primary.dsn)
        self.primary.start()

    def promote(self, mode: str) -> None:
        """Stop the primary in this mode, and let the standby take over.

        Returns once it has; see :meth:`rebuild` and :meth:`back_since`.
        """
        standby = self._places[1 - self._primary]
        self.primary.stop(mode)
        self._probe = Probe(standby.dsn)
        standby.promote()
        self._primary = 1 - self._primary

    def rebuild(self) -> None:
        """Put a new standby where the primary was that is gone."""
        place = 1 - self._primary
        port = self._places[place].embedded.port
        self._places[place].close()
        self._places[place] = self._make_standby(port)

    @contextlib.contextmanager
    def slow_commits(self) -> Iterator[None]:
        """Have each commit take its time, as on a disk that is slow."""
        self._set("commit_siblings", "0")
        self._set("commit_delay", str(LONGEST_COMMIT))
        yield
        self._set("commit_delay", "0")

    def fill_log(self) -> None:
        """Write transaction log until the server ends for want of room.

        The volume has to be full.
        """
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(LOG_SEGMENTS):
                self.primary.query(
                    "SELECT pg_logical_emit_message(false, 'chaos', ''),"
                    " pg_switch_wal()"
                )

    def recover(self, patience: float = 30.0) -> bool:
        """Start the primary if it has ended; see :meth:`back_since`.

        It may be about to end when it is looked at first. If it hangs, it is
        ended: PostgreSQL 18 was seen without a startup process, for ever.

        :param patience: seconds until a server is said to hang.
        :returns: whether it did.
        """
        self._probe = Probe(self.primary.dsn)
        hangs_at = time.monotonic() + patience
        hung = False
        while self._probe.is_alive():
            if not hung and time.monotonic() > hangs_at:
                hung = True
                self.primary.stop("immediate")
            if self.primary.pid is None:
                self.primary.start()
            time.sleep(PROBE_EVERY)
        return hung

    def _set(self, name: str, value: str) -> None:
        self.primary.query(f"ALTER SYSTEM SET {name} = {value}")
        self.primary.query("SELECT pg_reload_conf()")

    def _make_standby(self, port: int = 0) -> EmbeddedRig:
        standby = self.primary.make_standby(port=port)
        if self._synchronous:
            # Not on the copy, whose own standby comes only later.
            for server, change in (
                (standby, "RESET synchronous_standby_names"),
                (self.primary, "SET synchronous_standby_names = '*'"),
            ):
                server.query(f"ALTER SYSTEM {change}")
                server.query("SELECT pg_reload_conf()")
        return standby
