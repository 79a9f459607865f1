"""The rule engine's state, kept in PostgreSQL and handed on at failover.

::

    prepare    once: rights, tables, the engine's connections
    recover    at promotion: claim the term, read what the last leader left
    retire     at demotion: write no more
    close      at the end

All that blocks runs in two threads, and the event loop goes on meanwhile.
What the engine does comes one after the other: a retirement that comes amid
a recovery waits for it. For the database it does not wait, since a server
that does not answer must not hold up a demotion.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Callable, Deque, Generator, Mapping, TypeVar

from .conninfo import Conninfo
from .drools_state import DroolsState, reason
from .errors import (
    HaError,
    ServerUnavailable,
    StateFenced,
    StateRefused,
    StateTampered,
)
from .flush import Flush, Mark
from .gate import MOST_UNSAFE
from .jdbc import application_name, ignored, jdbc_parameters
from .lease import Timings
from .lock import lock_key
from .log import WorkerLog
from .options import HaOptions
from .practice import practise
from .progress import Progress, Records
from .session_clock import without_clock
from .state_database import Claim, StateDatabase
from .term import Term

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A window that ended while nobody led fires late rather than never.
GRACE_PERIOD = 3600  # seconds, unless the variables say otherwise
OVERWRITE = "overwrite_if_rulebook_changes"  # true by default, in Drools
DEDUP_WINDOW = 5  # event ids that Drools remembers by default
RECOVERY_TRIES = 3
LINGER = 0.02  # seconds between two commits of completed matches
RETRY = 0.25  # seconds after a commit of completed matches that failed
LONGEST_JDBC_CONNECT = 5.0  # seconds


class StateStore:
    """What one worker keeps of the cluster's state.

    Lives on upstream's event loop. Whatever raises :class:`StateRefused`
    cannot be mended by trying again.

    :param options: what the operator asked for.
    :param worker_id: for people who look into the table of terms.
    :param records: upstream's own calls that store an action's progress.
    :param log: for what operators have to see.
    :param failed: told that what was written last may be lost.
    """

    def __init__(
        self,
        options: HaOptions,
        worker_id: str,
        records: Records,
        log: WorkerLog,
        failed: Callable[[Exception], None],
    ) -> None:
        self._ha_uuid = str(options.ha_uuid)
        self._key = lock_key(options.ha_uuid)
        self._worker_id = worker_id
        self._log = log
        self._conninfo = Conninfo(options.dsn)
        self._timings = Timings.of(
            options.poll_interval, options.lease_duration
        )
        self._writer = application_name(self._key, secrets.token_hex(8))
        self._database = StateDatabase(
            self._conninfo,
            options.ha_uuid,
            self._writer,
            worker_id,
            self._timings,
        )
        self._failed = failed
        self._safety: Flush | None = None
        self._recorded: Mark | None = None  # the progress of an action
        self._drools: DroolsState | None = None
        self._search_path = ""
        self._config: Mapping[str, Any] = {}
        self._primed: dict[str, str] = {}
        self._leading = False
        self.others_led = False
        """Whether another worker has led between this term and the last."""
        self._completed: Deque[tuple[str, str | None]] = deque()
        self._windows: dict[str, str] = {}
        self._fired: set[str] = set()
        self._flushing = threading.Lock()
        self._may_retry = False
        self._in_trouble = False
        self._flush_at = 0.0  # on time.monotonic(), not earlier
        self._database_thread = ThreadPoolExecutor(1, "ha-state-database")
        self._engine_thread = ThreadPoolExecutor(1, "ha-state-engine")
        self.progress = Progress(records)

    # -- before the first term -------------------------------------------

    async def survey(self) -> bool:
        """Find out early whether this worker can keep state at all.

        :returns: whether the server was reached.
        :raises StateRefused: if it cannot.
        """
        try:
            await self._in(self._database_thread, self._look)
        except ServerUnavailable as error:
            logger.debug("State is looked at later: %s", error)
            return False
        return True

    def _look(self) -> None:
        self._jdbc_parameters()  # refuses what JDBC cannot do
        names = ignored(self._conninfo)
        if names:
            self._log.info(
                "JDBC does not know these parameters of the connection string",
                ", ".join(names),
            )
        survey = self._database.survey()
        obstacle = survey.obstacle()
        if obstacle is not None:
            raise StateRefused(obstacle)
        self._search_path = survey.search_path

    def attach(self, drools: DroolsState, config: Mapping[str, Any]) -> None:
        """Keep the state of this engine. Sessions of it come after that.

        If the server cannot be reached now, that is made up for at the
        first promotion.

        :param drools: the state of the engine.
        :param config: Drools' settings: encryption, grace period and so on.
        :raises StateRefused: if this worker cannot keep state.
        """
        self._drools = drools
        self._config = {
            "expired_window_grace_period": GRACE_PERIOD,
            **config,
        }
        if not self._search_path:
            return  # not reached before: do not block the start on it
        try:
            self._engine_thread.submit(self._initialise).result()
        except ServerUnavailable as error:
            self._log.warning(
                "The state will be connected to at promotion", str(error)
            )

    def _initialise(self) -> None:
        drools = self._engine()
        survey = self._database.survey()
        obstacle = survey.obstacle()
        if obstacle is not None:
            raise StateRefused(obstacle)
        self._search_path = survey.search_path
        if not survey.is_complete:
            self._create_tables()
        drools.initialise(
            self._ha_uuid,
            self._worker_id,
            # Drools runs DDL each time that it connects. In the temporary
            # schema it locks nothing that the leader is writing to.
            self._jdbc_parameters(f"pg_temp, {self._search_path}"),
            self._config,
            self._patience(),
        )

    def _create_tables(self) -> None:
        self._log.info("Creating the tables for the state")
        self._database.create(
            lambda: DroolsState.create_tables(
                self._ha_uuid, self._jdbc_parameters()
            )
        )

    def _jdbc_parameters(self, search_path: str = "") -> dict[str, str]:
        options = (
            "-c idle_in_transaction_session_timeout=10s"
            " -c synchronous_commit=off"  # see the module flush
        )
        if search_path:
            options += f" -c search_path={_escaped(search_path)}"
        # A silent server blocks the rulebook's event loop for so long.
        limit = max(1, int(self._timings.demote_within / 2))
        return jdbc_parameters(
            self._conninfo,
            self._writer,
            options=options,
            extra={
                "socketTimeout": str(limit),
                "connectTimeout": str(limit),
                "tcpKeepAlive": "true",
            },
        )

    def _patience(self) -> float:
        return min(self._timings.demote_within / 3, LONGEST_JDBC_CONNECT)

    async def practise(
        self, rulesets: Mapping[str, str], is_standby: Callable[[], bool]
    ) -> bool:
        """Have Java do beforehand what a promotion will wait for.

        :param rulesets: their definitions by their names.
        :param is_standby: whether there is still a promotion to come; it
            waits for one step at most.
        :returns: whether that has ended, not to be tried again.
        """
        steps = practise([without_clock(text) for text in rulesets.values()])
        try:
            while is_standby():
                if not await self._in(self._engine_thread, _goes_on, steps):
                    return True
            return False
        except (HaError, RuntimeError, OSError) as error:
            logger.debug("No practice: %s", reason(error))
            return True
        finally:
            with suppress(RuntimeError):  # the thread has been ended
                await self._in(self._engine_thread, steps.close)

    # -- terms -----------------------------------------------------------

    async def recover(self, term: Term, reset: Callable[[], None]) -> None:
        """Begin a term with the state that the last leader left.

        The term gets its number. Matches whose actions had not run arrive
        before this returns.

        :param reset: makes new engine sessions, in the event loop.
        :raises LeadershipLost: if the lock is somebody else's by now.
        :raises HaError: if the state cannot be recovered; retire then.
        """
        engine = self._engine()
        if not engine.is_initialised:
            await self._in(self._engine_thread, self._initialise)
            # Sessions that were made before that keep no state.
            reset()
            if not engine.is_initialised:
                raise StateRefused("the rules cannot be built with state")
        if self._safety is not None:  # of a rulebook that was loaded anew
            await self._safety.finish(self._timings.demote_within / 3)
        claim, stored, fired = await self._in(
            self._database_thread, self._claim, term.session_pid
        )
        term.number, self._primed = claim.number, claim.primed
        self.others_led = claim.last_writer != self._writer
        self._fired = fired
        self._windows.clear()
        self.progress.recovered(stored)
        self._leading = True
        opening = asyncio.ensure_future(self._begin_flushes().open())
        opening.add_done_callback(_look_at_failure)
        for tries_left in reversed(range(RECOVERY_TRIES)):
            try:
                await self._in(self._engine_thread, engine.enable_leader)
                break
            except (StateTampered, ServerUnavailable) as error:
                if not tries_left:
                    raise
                # Mended, or with new connections, it may do at once.
                await self._in(self._engine_thread, self._mend, error)
                reset()
        await opening
        self.wrote()

    def _begin_flushes(self) -> Flush:
        async def connect() -> Any:
            return await self._in(
                self._database_thread, self._database.connect
            )

        self._recorded = None
        self._safety = Flush(
            connect, self._timings.demote_within / 2, self._failed
        )
        return self._safety

    def _claim(
        self, holder: int
    ) -> tuple[Claim, set[tuple[str, int]], set[str]]:
        claim = self._database.claim(self._key, holder)
        self._flush()  # what an earlier term of this worker has completed
        return claim, self._database.progress(), self._database.fired()

    def _mend(self, error: Exception) -> None:
        drools = self._engine()
        drools.disable_leader()
        if not isinstance(error, StateTampered):
            return
        # After a crash amid an outage the checksum can be ahead of what was
        # stored; what is stored is whole, since it was stored at once.
        for name, stored in self._database.session_shas().items():
            actual = drools.checksum(name)
            if actual is not None and actual != stored:
                self._log.warning(
                    "The state's checksum was wrong and has been mended",
                    str(error),
                    ruleset=name,
                )
                self._database.set_session_sha(name, actual)

    def is_primed(self, ruleset: str, text: str) -> bool:
        """Whether a ruleset has had its gathered facts, in any term."""
        if self._config.get(OVERWRITE, True):
            # Other rules under the same name begin without any state.
            return self._primed.get(ruleset) == _digest(text)
        return ruleset in self._primed

    async def set_primed(self, rulesets: Mapping[str, str]) -> None:
        """These rulesets, by name, have had their facts.

        :raises HaError: if that could not be stored.
        """
        primed = {name: _digest(text) for name, text in rulesets.items()}
        await self._in(
            self._database_thread, self._database.set_primed, primed
        )
        self._primed.update(primed)

    # -- what is safe -----------------------------------------------------

    @property
    def most_unsafe(self) -> int:
        """How many events may be unsafe, beside the last one.

        Drools knows an event that comes again by its id, as long as that is
        among the last ones.
        """
        remembered = int(self._config.get("dedup_buffer_size", DEDUP_WINDOW))
        return max(0, min(MOST_UNSAFE, remembered - 1))

    def about_to_write(self) -> None:
        """The engine is about to; nothing may follow a write that is lost."""
        if self._safety is not None:
            self._safety.look()

    def wrote(self) -> Mark | None:
        """The engine has committed something; its mark tells when for good."""
        return None if self._safety is None else self._safety.wrote()

    def last_write(self) -> Mark | None:
        """The mark of what was written last."""
        return None if self._safety is None else self._safety.last()

    def recorded(self) -> None:
        """The progress of an action was written: others follow from it."""
        self._recorded = self.last_write()

    async def record_is_safe(self) -> bool:
        """Wait until the progress that was recorded is; false if lost."""
        return self._recorded is None or await self._recorded.is_safe()

    def write_failed(self) -> bool:
        """A write has failed: none may follow, or the state is spoilt.

        :returns: whether that is news.
        """
        self._engine().disable_leader()
        news, self._leading = self._leading, False
        return news

    async def retire(self) -> None:
        """End a term: record what has run, write nothing from here on."""
        self._leading = self._may_retry = False
        flushing = asyncio.ensure_future(
            self._in(self._database_thread, self._flush)
        )
        limit = self._timings.demote_within / 3
        if self._safety is not None:
            await self._safety.finish(limit)
        _, late = await asyncio.wait({flushing}, timeout=limit)
        if late:
            self._database.abort()
        await self._in(self._engine_thread, self._disable)

    def _disable(self) -> None:
        if self._drools is not None and self._drools.is_initialised:
            self._drools.disable_leader()

    # -- completed matches -----------------------------------------------

    def completed(self, match: str) -> None:
        """All actions of a match have run: it is not to be recovered.

        Stored from the thread, since nobody waits for it, and at once,
        unless another commit was just now: then with those that come in
        the meantime. If this worker dies before, they run once more, as
        they would if it had died just before it could say so.
        """
        self.progress.forget(match)
        self._completed.append((match, self._windows.pop(match, None)))
        self._may_retry = True
        self._request_flush(asyncio.get_running_loop())

    def has_fired(self, match: str, window: str) -> bool:
        """A time window of the engine comes; whether it had its actions.

        drools_jpy 0.4 can fire one that it has recovered once more, at
        another failover for example. Each fires once for its events.

        :param match: the match's id, which is another each time.
        :param window: the same for the same rule and events.
        """
        if window in self._fired:
            return True
        self._fired.add(window)
        self._windows[match] = window
        return False

    def _request_flush(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._flushing.acquire(blocking=False):
            self._database_thread.submit(self._flush_soon, loop)

    def _flush_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        time.sleep(max(0.0, self._flush_at - time.monotonic()))
        self._flushing.release()  # what comes from here on asks anew
        if not self._flush():
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(
                    loop.call_later, RETRY, self._retry, loop
                )
        self._flush_at = time.monotonic() + LINGER

    def _retry(self, loop: asyncio.AbstractEventLoop) -> None:
        # Another match may never come; a quiet leader must not keep it.
        if self._may_retry and self._completed:
            with suppress(RuntimeError):  # the thread has been ended
                self._request_flush(loop)

    def _flush(self) -> bool:
        """Record what has completed.

        :returns: whether nothing is left to be tried again.
        """
        batch: list[tuple[str, str | None]] = []
        while self._completed:
            batch.append(self._completed.popleft())
        if not batch:
            return True
        try:
            self._database.delete_matches(
                [match for match, _ in batch],
                [window for _, window in batch if window is not None],
            )
        except StateFenced:
            # Another leads and has these matches; it decides.
            self._log.warning(
                "Completed matches were not recorded: another worker leads",
                matches=len(batch),
            )
        except Exception as error:
            self._completed.extendleft(reversed(batch))
            logger.log(
                logging.DEBUG if self._in_trouble else logging.WARNING,
                "%d completed matches could not be recorded yet: %s",
                len(batch),
                error,
            )
            self._in_trouble = True
            return False
        self._in_trouble = False
        return True

    @property
    def unrecorded(self) -> int:
        """How many completed matches are not stored yet."""
        return len(self._completed)

    # -- the end ---------------------------------------------------------

    def in_engine_thread(
        self, work: Callable[[], None]
    ) -> asyncio.Future[None]:
        """Have something done after all that the engine is at."""
        return asyncio.ensure_future(self._in(self._engine_thread, work))

    def close(self) -> None:
        """Disconnect when that is possible; wait for nothing."""
        if self._safety is not None:
            self._safety.end()
        self._safety = self._recorded = None  # who goes on does not wait
        self._database_thread.submit(self._database.close)
        for thread in (self._database_thread, self._engine_thread):
            thread.shutdown(wait=False)

    def _engine(self) -> DroolsState:
        if self._drools is None:
            raise HaError("no engine to keep the state of")
        return self._drools

    @staticmethod
    async def _in(
        thread: ThreadPoolExecutor, work: Callable[..., T], *args: Any
    ) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(thread, work, *args)


def _look_at_failure(opening: asyncio.Task[None]) -> None:
    if not opening.cancelled():
        opening.exception()  # or asyncio tells of it, which nobody needs


def _goes_on(steps: Generator[None, None, None]) -> bool:
    return next(steps, steps) is None


def _escaped(value: str) -> str:
    """A value among the ``options`` of a session."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _digest(text: str) -> str:
    """Of what Drools is given, so that both forget at the same time."""
    return hashlib.sha256(without_clock(text).encode()).hexdigest()
