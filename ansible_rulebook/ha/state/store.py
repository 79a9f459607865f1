"""The rules' state, kept in PostgreSQL and handed on at failover.

::

    survey     once: rights, tables, and whether the journal would work
    recover    at promotion: claim the term, put back what the last one left
    retire     at demotion: write no more
    close      at the end

What blocks runs in a thread, and the event loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import (
    Any,
    Callable,
    Iterable,
    Mapping,
    Optional,
    Tuple,
    TypeVar,
)

from psycopg import Connection

from ..conninfo import Conninfo
from ..engine.bridge import Answer, Bridge, Match, now, rule_name
from ..errors import HaError, ServerUnavailable, StateRefused
from ..lease import Timings
from ..lock import application_name, lock_key
from ..log import WorkerLog
from ..options import HaOptions
from ..term import Term
from . import schema
from .changes import Found, Kept
from .housekeeping import Housekeeping
from .journal import Journal, Mark
from .names import key_of_ruleset, stored
from .progress import Info, Progress
from .seen import WINDOW, Seen
from .session import StateSession
from .terms import Claim, Pending, Terms

logger = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION = "eda-state"  # of the session, as pg_stat_activity shows it

# A window that ended while nobody led fires late rather than never.
GRACE_PERIOD = 3600  # seconds, unless the variables say otherwise

Recovered = Tuple[
    "list[tuple[str, Answer]]",  # what came of the time that nobody led in
    "list[tuple[str, str]]",  # rulesets and their pending matches, as JSON
    "dict[tuple[str, int], Info]",  # what is known of actions
]
Deliver = Callable[[str, str], None]
"""Takes a ruleset and one of its matches, as JSON in upstream's format."""


class StateStore:
    """What one worker keeps of the cluster's state.

    Lives on upstream's event loop. Whatever raises :class:`StateRefused`
    cannot be mended by trying again.

    :param options: what the operator asked for.
    :param worker_id: for people who look into the tables.
    :param claimant: what this process is known by among the claims.
    :param log: for what operators have to see.
    :param failed: told that what was written last may be lost.
    :param engine_thread: for what takes long and changes sessions.
    """

    def __init__(
        self,
        options: HaOptions,
        worker_id: str,
        claimant: str,
        log: WorkerLog,
        failed: Callable[[HaError], None],
        engine_thread: ThreadPoolExecutor,
    ) -> None:
        self._ha_uuid = str(options.ha_uuid)
        self._log = log
        self._failed = failed
        self._engine_thread = engine_thread
        self._timings = Timings.of(
            options.poll_interval, options.lease_duration
        )
        key = lock_key(options.ha_uuid)
        self._session = StateSession(
            Conninfo(options.dsn),
            application_name(key, worker_id, claimant, APPLICATION),
            self._timings,
        )
        self._terms = Terms(
            self._session, self._ha_uuid, stored(worker_id), key, claimant
        )
        self._housekeeping = Housekeeping(self._session, self._ha_uuid)
        self._is_looked_at = False
        self._is_outdated = False
        self._bridge: Bridge | None = None
        self._grace = GRACE_PERIOD * 1000  # milliseconds
        self._overwrites = True
        self._rulesets: dict[str, Kept] = {}
        self._journal: Journal | None = None
        self._recorded: Mark | None = None  # the progress of an action
        self.seen = Seen()
        self.progress = Progress()
        self._thread = ThreadPoolExecutor(1, "ha-state")

    # -- before the first term -------------------------------------------

    async def survey(self) -> bool:
        """Find out early whether this worker can keep state at all.

        :returns: whether the server was reached.
        :raises StateRefused: if it cannot.
        """
        try:
            await self._in_thread(self._prepare)
        except ServerUnavailable as error:
            logger.debug("State is looked at later: %s", error)
            return False
        return True

    async def may_have_state(self) -> bool:
        """Whether this cluster keeps state, or that cannot be known now."""
        try:
            return await self._in_thread(self._terms.keeps_state)
        except HaError as error:
            logger.debug("It is not known whether there is state: %s", error)
            return True

    def _prepare(self) -> None:
        found = schema.survey(self._session)
        obstacle = found.obstacle()
        if obstacle is not None:
            raise StateRefused(obstacle)
        if not found.is_complete:
            self._log.info("Creating the tables for the state")
            schema.create(self._session)
        # Who leads brings them up to date: a leader may be at them now.
        self._is_outdated = found.is_complete and found.is_outdated
        if not self._is_outdated:
            schema.rehearse(self._session)
        self._is_looked_at = True

    def attach(self, bridge: Bridge, config: Mapping[str, Any]) -> None:
        """Keep the state of the sessions of this bridge.

        :param config: upstream's settings: encryption, grace period and so
            on.
        :raises StateRefused: if a setting cannot be used.
        """
        self._bridge = bridge
        key = config.get("encryption_key_primary")
        if key:
            bridge.encrypt(key, config.get("encryption_key_secondary"))
        grace = config.get("expired_window_grace_period", GRACE_PERIOD)
        self._grace = max(int(grace), 0) * 1000
        self._overwrites = config.get("overwrite_if_rulebook_changes", True)
        self.seen.window = int(config.get("dedup_buffer_size", WINDOW))

    def look_again(self) -> None:
        """Before the next term: the server refuses what it took before."""
        self._is_looked_at = False

    async def stand_by(self) -> None:
        """Be ready for a promotion: connected, for one thing."""
        if self._journal is None:
            with suppress(HaError):
                await self._in_thread(self._session.keep_open)

    # -- terms -----------------------------------------------------------

    async def recover(
        self,
        term: Term,
        sessions: Mapping[str, tuple[int, str]],
        deliver: Deliver,
        doubtful: Iterable[int],
        settle: Callable[[Mapping[int, int]], None],
    ) -> None:
        """Begin a term with the state that the last leader left.

        The term gets its number. Matches whose actions had not run have been
        delivered when this returns.

        :param sessions: for each ruleset its empty session and definition.
        :param doubtful: earlier terms of this process of which it is not
            known whether their last transaction was stored.
        :param settle: told the last mark of each of them that is known.
        :raises LeadershipLost: if the lock is somebody else's by now.
        :raises HaError: if the state cannot be recovered; retire then.
        """
        if not self._is_looked_at:
            await self._in_thread(self._prepare)
        if self._journal is not None:  # of a rulebook that was loaded anew
            await self.retire()
        if self._is_outdated:
            await self._in_thread(self._bring_up_to_date)
        claim = await self._in_thread(
            self._terms.claim, term.session_pid, list(doubtful), term.lineage
        )
        term.number = claim.term
        self._log.info(
            "Recovering the rules' state",
            term=claim.term,
            last_leader=claim.last_worker or None,
            retained=sum(claim.retained.values()),
            pending=len(claim.matches),
        )
        loop = asyncio.get_running_loop()
        caught_up, pending, actions = await loop.run_in_executor(
            self._engine_thread, self._restore, claim, sessions
        )
        self._begin(claim, await self._in_thread(self._session.take))
        # One transaction: who dies before it leaves all as it was.
        self._adopt(claim, sessions, actions)
        late = [
            (ruleset, match)
            for ruleset, answer in caught_up
            for match in self.wrote(ruleset, answer)
        ]
        settle(claim.last_marks)
        for ruleset, match in (*pending, *late):
            deliver(ruleset, match)
            await asyncio.sleep(0)  # others have their turn
        if not await self._open_journal().last().is_durable():
            raise ServerUnavailable("what is new could not be stored")

    def _bring_up_to_date(self) -> None:
        schema.create(self._session)
        schema.rehearse(self._session)
        self._is_outdated = False

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
        )
        self._housekeeping.begin(claim.term)

    def _restore(
        self, claim: Claim, sessions: Mapping[str, tuple[int, str]]
    ) -> Recovered:
        """Fill the sessions, and let the time pass that nobody led in."""
        bridge, caught_up = self._engine(), []
        names = {key_of_ruleset(ruleset): ruleset for ruleset in sessions}
        pending = [
            (names[match.ruleset], self._in_json(match))
            for match in claim.matches
            if match.ruleset in names
        ]
        actions = {
            place: json.loads(bridge.decrypted(body))
            for place, body in claim.actions.items()
        }
        for ruleset, (session, text) in sessions.items():
            key = key_of_ruleset(ruleset)
            is_known = key in claim.rulesets
            try:
                if is_known and not self._is_another(claim, ruleset, text):
                    # Without a record, too: what matches nothing has matched.
                    bridge.restore(session, claim.records.get(key, ""))
                at = now()
                answer = bridge.advance(session, at)
            except RuntimeError as error:
                raise HaError(
                    f"ruleset {ruleset} cannot be recovered: {error}"
                ) from None
            caught_up.append((ruleset, self._in_time(ruleset, answer, at)))
        return caught_up, pending, actions

    def _in_json(self, pending: Pending) -> str:
        rule = json.dumps(pending.rule)
        data = self._engine().decrypted(pending.body)
        return in_json(rule, data, pending.match)

    def _is_another(self, claim: Claim, ruleset: str, text: str) -> bool:
        kept = claim.rulesets.get(key_of_ruleset(ruleset))
        if kept is None or kept.digest == digest(text):
            return False
        return self._overwrites

    def _in_time(self, ruleset: str, answer: Answer, at: int) -> Answer:
        """Without the windows that ended too long ago."""
        late = [m for m in answer.matches if at - m.found_at > self._grace]
        for match in late:
            self._log.warning(
                "A time window ended too long ago and is dropped",
                ruleset=ruleset,
                rule=rule_name(match.rule),
                seconds_ago=(at - match.found_at) // 1000,
            )
        if not late:
            return answer
        rest = [m for m in answer.matches if m not in late]
        return answer._replace(matches=rest)

    def _adopt(
        self,
        claim: Claim,
        sessions: Mapping[str, tuple[int, str]],
        actions: Mapping[tuple[str, int], Info],
    ) -> None:
        """Take over what is known, and store what is new about it."""
        self.seen.restart(claim.events)
        self.progress.recovered(actions)
        self._rulesets = {}
        changes = self._open_journal().changes
        for ruleset, (_, text) in sessions.items():
            kept = claim.rulesets.get(key_of_ruleset(ruleset))
            if self._is_another(claim, ruleset, text):
                self._log.warning(
                    "The rules are others than those that the state is of, "
                    "so they begin without any",
                    ruleset=ruleset,
                )
                changes.forget_ruleset(ruleset)
                kept = None
            if kept is None:
                kept = Kept(digest(text), primed=False)
                changes.ruleset(ruleset, kept)
            self._rulesets[ruleset] = kept
        known = {key_of_ruleset(ruleset) for ruleset in sessions}
        unknown = {match.ruleset for match in claim.matches} - known
        if unknown:
            self._log.warning(
                "Matches of rulesets that are not there any more wait on",
                rulesets=", ".join(sorted(unknown)),
            )
        self._open_journal().wrote()

    def is_primed(self, ruleset: str) -> bool:
        """Whether a ruleset has had its gathered facts, in any term."""
        return self._rulesets[ruleset].primed

    def set_primed(self, ruleset: str) -> None:
        """It has them now.

        To be called in the turn of the loop in which they were given: then
        both are in one transaction.
        """
        kept = self._rulesets[ruleset]._replace(primed=True)
        self._rulesets[ruleset] = kept
        journal = self._open_journal()
        journal.changes.ruleset(ruleset, kept)
        journal.wrote()

    # -- while leading ---------------------------------------------------

    @property
    def is_recording(self) -> bool:
        """Whether changes are stored: there is a term, and no write failed."""
        if self._journal is None:
            return False
        self._journal.look()
        return not self._journal.is_over

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be durable that no more may come in."""
        return self._journal is not None and self._journal.is_behind

    def wrote(
        self, ruleset: str, answer: Answer, event: Optional[bytes] = None
    ) -> list[str]:
        """The engine has changed; store that.

        :param event: the key of the event that it was given, if its source
            may give it again.
        :returns: the matches, as JSON in upstream's format.
        """
        journal = self._open_journal()
        changes = journal.changes
        changes.answer(ruleset, answer)
        if event is not None:
            changes.event(event)
        found = [self._found(ruleset, match) for match in answer.matches]
        journal.wrote()
        return found

    def _found(self, ruleset: str, match: Match) -> str:
        identity = uuid.uuid4()
        self._open_journal().changes.found(
            Found(
                identity.bytes,
                ruleset,
                rule_name(match.rule),
                self._engine().encrypted(match.data),
            )
        )
        return in_json(match.rule, match.data, str(identity))

    def last_write(self) -> Mark | None:
        """The mark of what was written last."""
        return None if self._journal is None else self._journal.last()

    def completed(self, match: str) -> None:
        """All actions of a match have run: it is not to be recovered.

        If this worker dies before that is stored, they run once more, as
        they would if it had died just before it could say so.
        """
        journal = self._journal
        if journal is None or journal.is_over:
            return  # whoever leads next runs it again
        has_actions = self.progress.forget(match)
        journal.changes.done(uuid.UUID(match).bytes, has_actions)
        journal.wrote_in_passing()

    def look_up_action(self, match: str, place: int) -> dict[str, Any] | None:
        """What an earlier leader stored of an action, if anything."""
        return self.progress.look_up(match, place)

    def update_action(
        self, match: str, place: int, info: dict[str, Any], is_start: bool
    ) -> None:
        """Something is known about an action, in addition."""
        known = self.progress.update(match, place, info, is_start)
        journal = self._journal
        if known is None or journal is None or journal.is_over:
            return
        body = self._engine().encrypted(json.dumps(known))
        journal.changes.action(uuid.UUID(match).bytes, place, body)
        self._recorded = journal.wrote()

    async def record_is_durable(self) -> bool:
        """Wait until the progress of all actions is; false if it is lost.

        The next action of a rule follows from the record of the last one.
        """
        recorded = self._recorded
        return recorded is None or await recorded.is_durable()

    # -- the end of a term -----------------------------------------------

    async def retire(self) -> int:
        """Write no more. What is under way gets a part of the lease.

        :returns: the number of the term that this ends, 0 if there was none.
        """
        journal, self._journal = self._journal, None
        self._housekeeping.end()
        if journal is None:
            # What waits for a silent server in the thread has to give up.
            self._session.abort()
            return 0
        limit = self._timings.demote_within / 3
        connection = None
        try:
            connection = await journal.finish(limit)
        finally:
            journal.end()  # if this was cancelled
            self._session.give_back(connection)
            if connection is None:
                self._session.abort()  # the thread may be after another one
        return journal.term

    def close(self) -> None:
        """Disconnect when that is possible; wait for nothing."""
        journal, self._journal = self._journal, None
        self._recorded = None  # who goes on does not wait
        self._housekeeping.end()
        if journal is not None:
            self._session.give_back(journal.end())
        self._session.abort()
        self._thread.submit(self._session.close)
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


def in_json(rule: str, data: str, match: str) -> str:
    """A match as upstream takes it from an engine that keeps state.

    :param rule: the rule's name, as JSON.
    :param data: JSON.
    """
    return f'{{"name":{rule},"events":{data},"matching_uuid":"{match}"}}'


def digest(text: str) -> str:
    """Of a ruleset's definition: other rules have another one."""
    return hashlib.sha256(text.encode()).hexdigest()
