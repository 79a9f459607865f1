"""Does a fault to the cluster, and puts it right again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Callable

from rig.history import NANO
from rig.process import ProcessError

from .broker import Write
from .checker import EXIT_FENCED
from .cluster import ChaosError, Cluster, Member
from .ledger import JOURNAL
from .patroni_servers import PatroniError, PatroniServers
from .schedule import Fault
from .servers import Servers

BLOCKED_BEFORE = 0.1  # seconds from a blocked loop to the end of its session
TERMINATION = 90.0  # seconds for a worker to end when asked to
CLOSE = 60.0  # seconds between two clocks that are meant to be the same
GUARDIAN = "guardian.py"
GUARDIAN_KILLED = "The guardian of the playbooks was killed"
OVER = "Lost leadership|Not promoted"
DROPPED = "could not be stored .* the event is dropped"
NOTICE = 60.0  # seconds for a worker to see that its term is over


class Faults:
    """Does faults, one at a time.

    :param cluster: whom to.
    :param write: writes a row to the driver's record.
    """

    def __init__(self, cluster: Cluster, write: Write) -> None:
        self._cluster = cluster
        self._access = cluster.servers
        self._write = write
        self._how: dict[str, Callable[[Fault], None]] = {
            "kill": self._kill,
            "kill-two": self._kill_two,
            "kill-guardian": self._kill_guardian,
            "terminate": self._terminate,
            "pause-short": self._pause,
            "pause-long": self._pause,
            "end-session": self._end_session,
            "end-writer": self._end_writer,
            "lock-journal": self._lock_journal,
            "restart-fast": self._restart,
            "restart-immediate": self._restart,
            "stop": self._stop,
            "full": self._full,
            "disk-full": self._disk_full,
            "slow-disk": self._slow_disk,
            "password": self._password,
            "read-only": self._read_only,
            "clock": self._clock,
            "promote": self._promote,
            "patroni-switchover": self._patroni_switchover,
            "patroni-crash": self._patroni_crash,
            "patroni-freeze": self._patroni_freeze,
            "cut-off": self._cut_off,
            "cut-off-and-crash": self._cut_off_and_crash,
            "one-way": self._one_way,
            "slow": self._slow,
            "unstorable": self._unstorable,
            "stubborn": self._stubborn,
            "block": self._block,
            "block-and-end": self._block_and_end,
        }

    def do(self, fault: Fault) -> None:
        """Do it, put it right, and wait until all is well again.

        :raises ChaosError: if that does not come.
        """
        self._cluster.wait_calm()
        self._cluster.rest(fault.calm)
        try:
            self._how[fault.kind](fault)
        except (ProcessError, PatroniError) as error:
            # It ended by itself meanwhile, which the record has.
            raise ChaosError(f"{fault.kind}: {error}") from error
        self._write("mended", number=fault.number, at=time.monotonic_ns())
        self._cluster.wait_calm()

    @property
    def _servers(self) -> Servers:
        servers = self._cluster.servers
        assert isinstance(servers, Servers)
        return servers

    @property
    def _patroni(self) -> PatroniServers:
        servers = self._cluster.servers
        assert isinstance(servers, PatroniServers)
        return servers

    def _wait_all(self) -> None:
        self._cluster.wait_calm(ready=len(self._cluster.members))

    def _victim(self, fault: Fault) -> Member:
        return self._cluster.pick(fault.target, fault.choice)

    def _begin(self, fault: Fault, victim: Member | None = None) -> None:
        self._write(
            "fault",
            number=fault.number,
            fault=fault.kind,
            target=fault.target,
            victim=None if victim is None else victim.life,
            seconds=fault.seconds,
            mode=fault.mode,
            at=time.monotonic_ns(),
        )

    # -- a worker ----------------------------------------------------------

    def _kill(self, fault: Fault) -> None:
        victim = self._victim(fault)
        self._cluster.expect(victim, -9)
        self._begin(fault, victim)
        process = victim.process
        process.kill()
        # It counts as ready for as long as nobody has noticed.
        self._cluster.until(lambda: not process.alive, "a killed worker ends")

    def _kill_two(self, fault: Fault) -> None:
        # Else it may be all of them, and nobody could take over.
        self._wait_all()
        leader = self._cluster.wait_leader()
        others = [each for each in self._cluster.members if each is not leader]
        pair = [leader, others[int(fault.choice * len(others))]]
        self._begin(fault, leader)
        if fault.mode == "kill":
            for each in pair:
                self._cluster.expect(each, -9)
                each.process.kill()
            processes = [each.process for each in pair]
            self._cluster.until(
                lambda: not any(each.alive for each in processes),
                "two killed workers end",
            )
            return
        with ExitStack() as stack:
            for each in pair:
                stack.enter_context(self._paused(each))
            self._cluster.rest(fault.seconds)

    def _kill_guardian(self, fault: Fault) -> None:
        victim = self._victim(fault)
        process = victim.process
        (guardian,) = process.started(GUARDIAN)
        self._begin(fault, victim)
        os.kill(guardian, signal.SIGKILL)
        self._cluster.until(
            lambda: process.find(GUARDIAN_KILLED) or not process.alive,
            f"{process.name} notices that its guardian was killed",
        )
        self._cluster.rest(fault.seconds)
        if fault.mode == "then its worker" and process.alive:
            self._cluster.expect(victim, -9)
            process.kill()
            self._cluster.until(
                lambda: not process.alive, "a killed worker ends"
            )

    def _terminate(self, fault: Fault) -> None:
        victim = self._victim(fault)
        process = victim.process
        self._cluster.expect(victim, 0)
        self._begin(fault, victim)
        process.signal(15)
        self._cluster.until(
            lambda: not process.alive,
            f"{process.name} ends when asked to",
            TERMINATION,
        )

    def _pause(self, fault: Fault) -> None:
        victim = self._victim(fault)
        led = self._cluster.leader() is victim
        self._begin(fault, victim)
        with self._paused(victim):
            self._cluster.rest(fault.seconds)
            until = time.monotonic()
        if led and fault.kind == "pause-long":
            process = victim.process
            self._cluster.until(
                lambda: not process.alive or process.find(OVER, after=until),
                f"{process.name} notices that its term is over",
                NOTICE,
            )

    @contextmanager
    def _paused(self, victim: Member) -> Iterator[None]:
        victim.paused = True
        victim.process.pause()
        still = time.monotonic_ns()
        try:
            yield
        finally:
            until = victim.process.resume()
        victim.paused = False
        self._write(
            "pause", life=victim.life, at=still, until=round(until / NANO)
        )

    def _clock(self, fault: Fault) -> None:
        victim = self._victim(fault)
        hours = float(fault.mode.rstrip("h"))
        self._begin(fault, victim)
        self._set_clock(victim, round(hours * 3600))
        self._cluster.rest(fault.seconds)
        self._set_clock(victim, 0)

    def _set_clock(self, victim: Member, offset: int) -> None:
        assert self._cluster.clocks is not None
        self._cluster.clocks.set(victim.name, offset)
        answer = self._cluster.ask(victim, status=True)
        if answer and abs(answer["clock"] - time.time() - offset) > CLOSE:
            raise ChaosError(f"{victim.life} has another clock: {answer}")

    def _unstorable(self, fault: Fault) -> None:
        before = self._cluster.said(DROPPED)
        self._begin(fault)
        self._cluster.poison(fault.mode)
        self._cluster.until(
            lambda: self._cluster.said(DROPPED) > before,
            "an event that cannot be stored is dropped",
        )

    def _stubborn(self, fault: Fault) -> None:
        victim = self._victim(fault)
        process = victim.process
        self._cluster.expect(victim, EXIT_FENCED)
        self._begin(fault, victim)
        if not self._cluster.ask(victim, stubborn=True).get("leads"):
            # It has lost the lead, or even ended, since it was picked. Who
            # has no source yet ends in good order.
            self._cluster.ask(victim, stubborn=False)
            return
        self._access.terminate(victim.name)
        self._cluster.until(
            lambda: not process.alive,
            f"{process.name}, whose source does not end, ends",
            NOTICE,
        )

    def _block(self, fault: Fault) -> None:
        victim = self._victim(fault)
        self._begin(fault, victim)
        self._cluster.ask(victim, block=fault.seconds)
        self._cluster.rest(fault.seconds)

    def _block_and_end(self, fault: Fault) -> None:
        victim = self._victim(fault)
        process = victim.process
        self._cluster.expect(victim, EXIT_FENCED)
        self._begin(fault, victim)
        if not self._cluster.ask(victim, block=fault.seconds):
            return  # it has ended by itself
        time.sleep(BLOCKED_BEFORE)
        self._access.terminate(victim.name)
        # It has a third of the lease to demote, and its loop has none.
        self._cluster.until(
            lambda: not process.alive,
            f"{process.name}, whose loop is blocked, ends",
            fault.seconds + NOTICE,
        )

    # -- the server --------------------------------------------------------

    @contextmanager
    def _outage(self) -> Iterator[None]:
        """Until the server that is the primary then can be reached."""
        at = time.monotonic_ns()
        yield
        self._write("outage", at=at, until=self._access.back_since())

    @contextmanager
    def _closed(self) -> Iterator[None]:
        """The server is up, and no use to the workers for as long."""
        at = time.monotonic_ns()
        yield
        self._write("outage", at=at, until=time.monotonic_ns())

    def _end_session(self, fault: Fault) -> None:
        victim = self._victim(fault)
        self._begin(fault, victim)
        if fault.mode == "all":
            self._access.terminate_all()
        else:
            self._access.terminate(victim.name)

    def _end_writer(self, fault: Fault) -> None:
        victim = self._victim(fault)
        self._begin(fault, victim)
        self._access.terminate_writer(victim.name)

    def _lock_journal(self, fault: Fault) -> None:
        self._begin(fault)
        # Nobody can lead for long who cannot write.
        with self._closed(), self._access.locked(JOURNAL):
            self._cluster.rest(fault.seconds)

    def _restart(self, fault: Fault) -> None:
        self._begin(fault)
        with self._outage():
            self._servers.stop(fault.kind.partition("-")[2])
            self._servers.start()

    def _stop(self, fault: Fault) -> None:
        self._begin(fault)
        with self._outage():
            self._servers.stop(fault.mode)
            self._cluster.rest(fault.seconds)
            self._servers.start()

    def _full(self, fault: Fault) -> None:
        victim = self._victim(fault)
        with self._access.take_connections() as filling:
            filling.wait_full()
            self._begin(fault, victim)
            self._access.terminate(victim.name)
            self._cluster.rest(fault.seconds)

    def _disk_full(self, fault: Fault) -> None:
        volume = self._servers.volume
        assert volume is not None
        self._begin(fault)
        with self._outage():
            volume.fill()
            if fault.mode == "log":
                self._servers.fill_log()
            self._cluster.rest(fault.seconds)
            volume.free()
            if self._servers.recover():
                self._write("hung", at=time.monotonic_ns())

    def _slow_disk(self, fault: Fault) -> None:
        with self._servers.slow_commits():
            self._begin(fault)
            self._cluster.rest(fault.seconds)

    def _password(self, fault: Fault) -> None:
        self._wait_all()  # one that starts takes it for a wrong setting
        self._begin(fault)
        with self._closed():
            self._access.change_password()
            if fault.mode == "file first":
                self._access.write_password()
            self._access.terminate_all()
            self._cluster.rest(fault.seconds)
            self._access.write_password()

    def _read_only(self, fault: Fault) -> None:
        self._wait_all()
        self._begin(fault)
        with self._closed(), self._access.read_only():
            if fault.mode == "all sessions":
                self._access.terminate_all()
            else:
                self._access.terminate(self._cluster.wait_leader().name)
            self._cluster.rest(fault.seconds)

    def _patroni_switchover(self, fault: Fault) -> None:
        self._begin(fault)
        with self._outage():
            self._patroni.switch_over()
        self._cluster.wait_leader()
        self._patroni.wait_whole()

    def _patroni_crash(self, fault: Fault) -> None:
        self._begin(fault)
        with self._outage():
            node = self._patroni.crash()
        self._cluster.wait_leader()
        self._patroni.restart(node)

    def _patroni_freeze(self, fault: Fault) -> None:
        # On the old server nothing is durable, and workers whose sessions
        # are there do not look for the new one. So nobody may lead.
        self._begin(fault)
        with self._closed():
            node = self._patroni.freeze()
            self._cluster.rest(fault.seconds)
            self._patroni.thaw(node)

    def _promote(self, fault: Fault) -> None:
        self._begin(fault)
        with self._outage():
            self._servers.promote(fault.mode)
        self._cluster.wait_leader()
        self._servers.rebuild()

    # -- the network -------------------------------------------------------

    def _cut_off(self, fault: Fault) -> None:
        victim = self._victim(fault)
        self._begin(fault, victim)
        for proxy in victim.proxies:
            proxy.deaf()
        self._cluster.rest(fault.seconds)
        for proxy in victim.proxies:
            proxy.hear()

    def _cut_off_and_crash(self, fault: Fault) -> None:
        # One that has just been started would not know that the server was
        # another one before, as the docs say.
        self._wait_all()
        victim = self._victim(fault)
        self._begin(fault, victim)
        for proxy in victim.proxies:
            proxy.deaf()
        with self._outage():
            self._servers.stop("immediate")
            self._servers.start()
        self._cluster.rest(fault.seconds)
        for proxy in victim.proxies:
            proxy.hear()

    def _one_way(self, fault: Fault) -> None:
        victim = self._victim(fault)
        self._begin(fault, victim)
        for proxy in victim.proxies:
            if fault.mode == "to server":
                proxy.hold_to_server()
            else:
                proxy.hold_from_server()
        self._cluster.rest(fault.seconds)
        for proxy in victim.proxies:
            proxy.hear()

    def _slow(self, fault: Fault) -> None:
        victim = self._victim(fault)
        self._begin(fault, victim)
        for proxy in victim.proxies:
            proxy.delay(float(fault.mode))
        self._cluster.rest(fault.seconds)
        for proxy in victim.proxies:
            proxy.delay(0)
