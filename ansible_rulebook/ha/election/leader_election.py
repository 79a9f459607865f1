"""Leader election on a PostgreSQL advisory lock, in plain asyncio."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from types import TracebackType
from typing import Callable

from ..conninfo import Conninfo
from ..errors import HaError
from . import clock as lease_clock
from .beacon import Beacon
from .election_log import ElectionLog
from .elector import Elector
from .lease import POLL_INTERVAL, Timings
from .lock import AdvisoryLock, check_server
from .priority import DEFAULT
from .requests import Request
from .term import Term
from .transitions import OnDemotion, OnPromotion


class LeaderElection(Elector):
    """Elects one leader among all that use the same server and UUID.

    An asynchronous context manager::

        async with LeaderElection(dsn, ha_uuid, worker_id="one") as election:
            while not election.shutdown_event.is_set():
                await election.leader_event.wait()
                if election.is_leader():
                    await one_piece_of_work()

    Create and use it in one event loop. Only :meth:`is_leader` may be called
    from any thread. A callback that blocks the loop blocks the renewal of
    the lease, too.

    :param dsn: connection string, as libpq takes it.
    :param ha_uuid: names the cluster.
    :param worker_id: names this worker in logs and in ``pg_stat_activity``;
        default ``<hostname>-<pid>``.
    :param poll_interval: seconds.
    :param lease_duration: seconds until a silent leader is replaced; default
        three poll intervals.
    :param on_promotion: called, and awaited, with the :class:`Term` once the
        lock is held and before ``leader_event`` is set. If it raises, the
        lock is given up; after three failures in a row the election ends,
        unless they are :class:`ServerUnavailable`.
    :param on_demotion: called, and awaited, with the reason after
        ``leader_event`` was cleared and before the lock is given up, if the
        server has not taken it already. Whatever the term started has to
        have ended when it returns. If it raises, that is logged and the lock
        given up all the same. It must not wait for :meth:`step_down` or
        :meth:`stop`, which wait for it.
    :param on_renewal: called each time that the server confirmed the lock,
        at the begin of a term, too.
    :param on_overdue: called if the demotion takes so long that another
        worker may lead by now. Default: log it.
    :param on_request: called with a :class:`Request` to hand over, from a
        role that could end the leader's session, while another worker is
        there. Has to have the worker step down, at once or when what it does
        has come to its end. Default: at once.
    :param on_outranked: called on a follower that has been ready for two
        leases, with what the leader says of itself, if that one has a lower
        priority.
    :param priority: 0 for a worker that never leads.
    :param session_pooler: a connection pooler stands in between, and it
        keeps one server session for each client connection.
    :param clock: seconds that never step back, for tests.
    :raises OptionError: if the connection string does not parse.
    :raises ValueError: if UUID or timings cannot be used.
    """

    def __init__(
        self,
        dsn: str,
        ha_uuid: str | uuid.UUID,
        *,
        worker_id: str | None = None,
        poll_interval: float = POLL_INTERVAL,
        lease_duration: float | None = None,
        on_promotion: OnPromotion | None = None,
        on_demotion: OnDemotion | None = None,
        on_renewal: Callable[[Term], None] | None = None,
        on_overdue: Callable[[], None] | None = None,
        on_request: Callable[[Request], None] | None = None,
        on_outranked: Callable[[Beacon], None] | None = None,
        priority: int = DEFAULT,
        session_pooler: bool = False,
        clock: Callable[[], float] = lease_clock.now,
    ) -> None:
        lock = AdvisoryLock(
            Conninfo(dsn),
            uuid.UUID(str(ha_uuid)),
            worker_id or default_worker_id(),
            Timings.of(poll_interval, lease_duration),
            session_pooler,
        )
        super().__init__(
            lock,
            ElectionLog(lock.worker_id, lock.ha_uuid, clock),
            on_promotion=on_promotion,
            on_demotion=on_demotion,
            on_renewal=on_renewal,
            on_overdue=on_overdue,
            on_request=on_request,
            on_outranked=on_outranked,
            about=Beacon(worker=lock.worker_id, priority=priority),
            clock=clock,
        )

    async def check_server(self) -> bool:
        """Connect once, to find out early what no retry can mend.

        A server that cannot be reached is not an error.

        :returns: whether it was reached; if not, that has been logged.
        :raises ServerRefused: wrong password, unknown database or role,
            transaction pooler.
        """
        return await check_server(self._lock, self._log)

    async def start(self) -> None:
        """Check the server and begin to contend.

        :raises ServerRefused: see :meth:`check_server`.
        """
        await self.check_server()
        self.contend()

    async def __aenter__(self) -> LeaderElection:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            await self.stop()
            return
        with suppress(HaError):
            await self.stop()


def default_worker_id() -> str:
    """``<hostname>-<pid>``."""
    return f"{socket.gethostname()}-{os.getpid()}"
