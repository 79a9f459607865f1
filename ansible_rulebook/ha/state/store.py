"""The rules' state, kept in PostgreSQL and handed on at failover.

::

    survey     once: rights, tables, and whether the journal would work
    recover    at promotion: claim the term, restore what the last leader left
    retire     at demotion: write no more
    close      at the end

Calls that block run in a thread, and the event loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import (
    Any,
    Callable,
    Iterable,
    Mapping,
    Optional,
    TypeVar,
)

from psycopg import Connection

from ..election.names import application_name, lock_key
from ..election.reasons import Reason
from ..election.term import Term
from ..engine.bridge import Answer, Bridge, Match, rule_name
from ..errors import HaError, ServerUnavailable
from ..log import WorkerLog
from ..options import HaOptions
from .changes import Found, Kept
from .history import Beginning, History
from .history_writer import HistoryWriter
from .housekeeping import Housekeeping
from .journal import Journal, Mark
from .names import stored
from .progress import Progress
from .readiness import Readiness
from .recovery import Recovery, RecoverySettings, Sessions, in_json
from .seen import WINDOW, Seen
from .session import StateSession
from .terms import Claim, Terms

logger = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION = "eda-state"  # of the session, as pg_stat_activity shows it

Deliver = Callable[[str, str], None]
"""Takes a ruleset and one of its matches, as JSON in upstream's format."""


class StateStore:
    """One worker's access to the cluster's state.

    Lives on upstream's event loop. After a :class:`StateRefused`, trying
    again does not help.

    :param options: what the operator asked for.
    :param worker_id: for people who look into the tables.
    :param claimant: names this process in the table of claims.
    :param log: for what operators have to see.
    :param failed: called with the error if the last write may be lost.
    :param committed: called with the seconds that each transaction took.
    :param engine_thread: for long calls that change engine sessions.
    """

    def __init__(
        self,
        options: HaOptions,
        worker_id: str,
        claimant: str,
        log: WorkerLog,
        failed: Callable[[HaError], None],
        engine_thread: ThreadPoolExecutor,
        committed: Callable[[float], None],
    ) -> None:
        self._ha_uuid = str(options.ha_uuid)
        self._log = log
        self._failed = failed
        self._committed = committed
        self._engine_thread = engine_thread
        self._timings = options.timings
        key = lock_key(options.ha_uuid)
        self._session = StateSession(
            options.conninfo,
            application_name(key, worker_id, claimant, APPLICATION),
            self._timings,
        )
        self._terms = Terms(
            self._session, self._ha_uuid, stored(worker_id), key, claimant
        )
        self._housekeeping = Housekeeping(self._session, self._ha_uuid)
        self._history = HistoryWriter(
            History(self._session.another(), self._ha_uuid)
        )
        self._beginning = Beginning()
        self._events = 0  # of this term, that were processed
        self._completed = 0  # matches of this term
        self._readiness = Readiness(self._session, log)
        self._bridge: Bridge | None = None
        self._settings = RecoverySettings()
        self._rulesets: dict[str, Kept] = {}
        self._term: Term | None = None
        self._journal: Journal | None = None
        self._recorded: Mark | None = None  # of the last action's progress
        self._records: set[tuple[str, int]] = set()  # that are stored
        self._unfinished: set[str] = set()  # matches, by their UUIDs
        self.seen = Seen()
        self.progress = Progress(self._store_progress)
        self._thread = ThreadPoolExecutor(1, "ha-state")

    # -- before the first term -------------------------------------------

    async def survey(self) -> bool:
        """Find out early whether this worker can keep state at all.

        :returns: whether the server was reached.
        :raises StateRefused: if it cannot.
        """
        try:
            await self._in_thread(self._readiness.survey)
        except ServerUnavailable as error:
            logger.debug("The survey for the state is made later: %s", error)
            return False
        return True

    async def may_have_state(self) -> bool:
        """Whether this cluster keeps state. True if that is not known now."""
        try:
            return await self._in_thread(self._terms.keeps_state)
        except HaError as error:
            logger.debug("It is not known whether there is state: %s", error)
            return True

    def attach(self, bridge: Bridge, config: Mapping[str, Any]) -> None:
        """Keep the state of this bridge's sessions.

        :param config: upstream's settings, such as encryption and grace
            period.
        :raises StateRefused: if a setting cannot be used.
        """
        self._bridge = bridge
        key = config.get("encryption_key_primary")
        if key:
            bridge.encrypt(key, config.get("encryption_key_secondary"))
        self._settings = RecoverySettings.of(config)
        self.seen.window = int(config.get("dedup_buffer_size", WINDOW))

    def look_again(self) -> None:
        """The server refuses what it took before: survey it again."""
        self._readiness.forget()

    async def stand_by(self) -> None:
        """Be ready for a promotion: connect, if there is no session."""
        self._history.retry()
        if self._journal is None:
            with suppress(HaError):
                await self._in_thread(self._session.keep_open)

    # -- terms -----------------------------------------------------------

    async def recover(
        self,
        term: Term,
        sessions: Sessions,
        deliver: Deliver,
        doubtful: Iterable[int],
        settle: Callable[[Mapping[int, int]], None],
    ) -> None:
        """Begin a term with the state that the last leader left.

        The term gets its number. Matches whose actions had not run have been
        delivered when this returns.

        :param sessions: for each ruleset its empty session and definition.
        :param doubtful: earlier terms of this process whose last
            transaction may or may not have been stored.
        :param settle: called with the last durable mark of each of these
            terms that is known.
        :raises LeadershipLost: if another session has the lock by now.
        :raises HaError: if the state cannot be recovered. Call
            :meth:`retire` then.
        """
        if self._journal is not None:  # of a rulebook that was loaded anew
            await self.retire()
        await self._in_thread(self._readiness.ensure)
        claim = await self._in_thread(
            self._terms.claim, term.session_pid, list(doubtful), term.lineage
        )
        term.number = claim.term
        self._term = term
        self._engine().times.begin(claim.began)
        self._log.info(
            "Recovering the rules' state",
            term=claim.term,
            last_leader=claim.last_worker or None,
            retained=sum(claim.retained.values()),
            pending=len(claim.matches),
        )
        loop = asyncio.get_running_loop()
        recovery = Recovery(
            claim, sessions, self._engine(), self._settings, self._log
        )
        await loop.run_in_executor(self._engine_thread, recovery.restore)
        self._begin(claim, await self._in_thread(self._session.take))
        self._records = recovery.records
        self._unfinished = {match.match for match in claim.matches}
        self._events = self._completed = 0
        term.cause = term.cause.recorded(claim.last_worker)
        self._beginning = Beginning(
            replaces=claim.last_worker,
            reason=term.cause.ended,
            evidence=term.cause.evidence if claim.last_worker else "",
            records=sum(claim.retained.values()),
            matches=len(claim.matches),
        )
        self.seen.restart(claim.events)
        self.progress.recovered(recovery.actions)
        # One transaction: a worker that dies before it leaves all as it was.
        journal = self._open_journal()
        self._rulesets = recovery.adopt(journal.changes)
        journal.wrote()
        late = [
            (ruleset, match)
            for ruleset, answer in recovery.caught_up
            for match in self.wrote(ruleset, answer)
        ]
        settle(claim.last_marks)
        for ruleset, match in (*recovery.pending, *late):
            deliver(ruleset, match)
            await asyncio.sleep(0)  # others have their turn
        if not await self._open_journal().last().is_durable():
            raise ServerUnavailable("the recovery could not be stored")

    def _begin(self, claim: Claim, connection: Connection[Any]) -> None:
        async def reconnect() -> Connection[Any]:
            return await self._in_thread(self._terms.reopen, claim.term)

        self._recorded = None
        self._journal = Journal(
            self._ha_uuid,
            claim.term,
            claim.mark,
            connection,
            reconnect,
            self._timings.demote_within / 2,
            self._failed,
            self._committed,
        )
        self._housekeeping.begin(claim.term)

    def is_primed(self, ruleset: str) -> bool:
        """Whether a ruleset has had its gathered facts, in any term."""
        return self._rulesets[ruleset].primed

    def set_primed(self, ruleset: str) -> None:
        """Store that a ruleset has had its gathered facts.

        Call it in the turn of the loop in which they were given. Then both
        are in one transaction.
        """
        kept = self._rulesets[ruleset]._replace(primed=True)
        self._rulesets[ruleset] = kept
        journal = self._open_journal()
        journal.changes.ruleset(ruleset, kept)
        journal.wrote()

    # -- while leading ---------------------------------------------------

    @property
    def is_recording(self) -> bool:
        """Whether changes are stored: in a term in which no write failed.

        A worker that was paused learns here that its lease is over, so it
        changes nothing in an engine that it is about to empty.
        """
        if self._term is None or not self._term.is_current():
            return False
        if self._journal is None:
            return False
        self._journal.look()
        return not self._journal.is_over

    @property
    def is_behind(self) -> bool:
        """See :attr:`.Journal.is_behind`."""
        return self._journal is not None and self._journal.is_behind

    def wrote(
        self,
        ruleset: str,
        answer: Answer,
        event: Optional[bytes] = None,
        consumed: Optional[tuple[str, int, int]] = None,
    ) -> list[str]:
        """Store what has changed in the engine.

        :param answer: the changes and the matches.
        :param event: the key of the event that caused them, if its source
            may send it again.
        :param consumed: of the event's row in an inbox; see
            :meth:`.Changes.consumed`.
        :returns: the matches, as JSON in upstream's format.
        """
        journal = self._open_journal()
        changes = journal.changes
        self._events += event is not None
        changes.answer(ruleset, answer)
        self._records.update((ruleset, each.number) for each in answer.kept)
        self._records.difference_update(
            (ruleset, number) for number in answer.gone
        )
        if event is not None:
            changes.event(event)
        if consumed is not None:
            changes.consumed(*consumed)
        found = [self._found(ruleset, match) for match in answer.matches]
        journal.wrote()
        return found

    def consumed(self, consumed: tuple[str, int, int]) -> None:
        """An event of an inbox changes nothing else."""
        journal = self._open_journal()
        journal.changes.consumed(*consumed)
        journal.wrote()

    def _found(self, ruleset: str, match: Match) -> str:
        identity = uuid.uuid4()
        self._unfinished.add(str(identity))
        self._open_journal().changes.found(
            Found(
                identity.bytes,
                ruleset,
                rule_name(match.rule),
                self._engine().encrypted(match.data),
            )
        )
        return in_json(match.rule, match.data, str(identity))

    @property
    def retained(self) -> int:
        """How many events and facts the rules keep in this term."""
        return len(self._records)

    @property
    def pending(self) -> int:
        """How many matches have actions that have not all run."""
        return len(self._unfinished)

    @property
    def behind(self) -> float:
        """See :attr:`Journal.behind`; 0 outside of a term. Any thread."""
        journal = self._journal
        return 0.0 if journal is None else journal.behind

    def last_write(self) -> Mark | None:
        """The mark of what was written last."""
        return None if self._journal is None else self._journal.last()

    def completed(self, match: str) -> None:
        """All actions of a match have run: do not recover it.

        If this worker dies before that is stored, the next leader runs them
        once more.
        """
        journal = self._journal
        if journal is None or journal.is_over:
            return  # the next leader runs it again
        self._unfinished.discard(match)
        self._completed += 1
        has_actions = self.progress.forget(match)
        journal.changes.done(uuid.UUID(match).bytes, has_actions)
        journal.wrote_in_passing()

    def _store_progress(
        self, match: str, place: int, known: dict[str, Any]
    ) -> None:
        journal = self._journal
        if journal is None or journal.is_over:
            return
        body = self._engine().encrypted(json.dumps(known))
        journal.changes.action(uuid.UUID(match).bytes, place, body)
        self._recorded = journal.wrote()

    async def record_is_durable(self) -> bool:
        """Wait until the progress of all actions is durable.

        The next action of a rule may only start then.

        :returns: false if it may be lost.
        """
        recorded = self._recorded
        return recorded is None or await recorded.is_durable()

    # -- the history of terms ----------------------------------------------

    def tell_begin(self, term: int, gap: float | None) -> None:
        """Write down how a term has begun, without waiting for that.

        :param gap: seconds that nobody led before, if that is known.
        """
        found = replace(self._beginning, gap=gap)
        self._history.tell_begin(term, found)

    def tell_end(self, term: int, reason: Reason) -> None:
        """Write down how it has ended, without waiting for that."""
        self._history.tell_end(term, reason, self._events, self._completed)

    def finish_history(self, within: float) -> None:
        """After :meth:`close`: see :meth:`HistoryWriter.finish`. Blocks."""
        self._history.finish(within)

    # -- the end of a term -----------------------------------------------

    async def retire(self) -> int:
        """Write no more. A transaction under way gets a part of the lease.

        :returns: the number of the term that ends, 0 if there was none.
        """
        journal, self._journal = self._journal, None
        self._records.clear()
        self._unfinished.clear()
        self._housekeeping.end()
        if journal is None:
            # A call in the thread may wait for a silent server: end it.
            self._session.abort()
            return 0
        limit = self._timings.demote_within / 3
        connection = None
        try:
            connection = await journal.finish(limit)
        finally:
            journal.end()  # if this task was cancelled
            self._session.give_back(connection)
            if connection is None:
                self._session.abort()  # the thread may be opening another
        return journal.term

    def close(self) -> None:
        """Disconnect, without waiting for it."""
        journal, self._journal = self._journal, None
        self._recorded = None  # actions that go on do not wait for it
        self._housekeeping.end()
        if journal is not None:
            self._session.give_back(journal.end())
        self._session.abort()
        self._thread.submit(self._session.close)
        self._history.close()
        self._thread.shutdown(wait=False)

    def _open_journal(self) -> Journal:
        if self._journal is None:
            raise HaError("this worker does not lead")
        return self._journal

    def _engine(self) -> Bridge:
        if self._bridge is None:
            raise HaError("no engine to keep the state of")
        return self._bridge

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, *args)
