"""A worker without rules: it is elected, and tells its metrics over HTTP.

The election, the reporter, the metrics and the HTTP server are those of a
worker; a start takes a second, since there is no Java. It ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import time
import uuid
from pathlib import Path

from rig.process import ManagedProcess

from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.beacon import Beacon
from ansible_rulebook.ha.election.candidate import Phase
from ansible_rulebook.ha.election.election_log import ElectionLog
from ansible_rulebook.ha.election.elector import Elector
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.lock import AdvisoryLock
from ansible_rulebook.ha.operations.listen import Listen, bind
from ansible_rulebook.ha.operations.reporter import Reporter
from ansible_rulebook.ha.operations.snapshot import Snapshot
from ansible_rulebook.ha.options import HaOptions
from ansible_rulebook.ha.portrait import pause_seen

POLL = 0.5  # seconds
LEASE = 3.0  # seconds


class MeteredWorker:
    """Has to be made in a loop that runs."""

    def __init__(self, options: HaOptions, worker_id: str) -> None:
        self._options = options
        self._worker_id = worker_id
        self._started_at = time.time()
        log = ElectionLog(worker_id, options.ha_uuid)
        self.reporter = Reporter(
            options, worker_id, self.take, log, lambda *_: None,
            lambda *_: None,
        )  # fmt: skip
        lock = AdvisoryLock(
            options.conninfo, options.ha_uuid, worker_id, options.timings
        )
        self.election = Elector(
            lock,
            log,
            about=Beacon(worker=worker_id, pid=os.getpid()),
            observer=self.reporter,
        )

    def take(self) -> Snapshot:
        view = self.election.view()
        return Snapshot(
            str(self._options.ha_uuid),
            self._worker_id,
            "0",
            socket.gethostname(),
            os.getpid(),
            self._started_at,
            role="leader" if view.phase == Phase.LEADING.value else "follower",
            state=view.phase,
            term=view.term,
            since=view.since,
            leads=view.leads,
            can_take_over=view.phase == Phase.CONTENDING.value,
            rulesets_up=True,
            in_session=view.in_session,
            leader=view.leader,
            lease_duration=view.lease,
            last_renewal=view.last_renewal,
            pause=pause_seen(view),
        )

    async def run(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        self.reporter.start()
        self.election.contend()
        await stop.wait()
        await self.election.stop()
        self.reporter.close()


class MeteredProcess(ManagedProcess):
    """One, in a process."""

    def __init__(
        self, dsn: str, ha_uuid: str, worker_id: str, port: int, root: Path
    ) -> None:
        self.port = port
        super().__init__(
            [sys.executable, __file__, dsn, ha_uuid, worker_id, str(port)],
            name=worker_id,
            log=root / f"{worker_id}.log",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )


async def run(args: argparse.Namespace) -> None:
    sockets = bind(Listen("127.0.0.1", args.port), "port")
    options = HaOptions(
        Conninfo(args.dsn),
        uuid.UUID(args.ha_uuid),
        Timings(POLL, LEASE),
        args.worker_id,
        http_sockets=tuple(sockets),
    )
    await MeteredWorker(options, args.worker_id).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser()
    for name in ("dsn", "ha_uuid", "worker_id"):
        parser.add_argument(name)
    parser.add_argument("port", type=int)
    asyncio.run(run(parser.parse_args()))
