"""Restores the state that the last leader left in empty engine sessions."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, List, Mapping, NamedTuple, Set, Tuple

from ..engine.bridge import Answer, Bridge, numbers_of, rule_name
from ..errors import HaError
from ..log import WorkerLog
from .changes import Changes, Kept
from .names import key_of_ruleset
from .progress import Info
from .terms import Claim, Pending

# A window that ended while nobody led fires late rather than never.
GRACE_PERIOD = 3600  # seconds, unless the variables say otherwise

Sessions = Mapping[str, Tuple[int, str]]
"""For each ruleset its engine session and its definition."""


class RecoverySettings(NamedTuple):
    """What operators choose by variables of upstream's."""

    grace: int = GRACE_PERIOD * 1000
    """Milliseconds after its end in which a time window may still fire."""
    overwrites: bool = True
    """Whether a ruleset that has changed begins without state."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> RecoverySettings:
        """Read upstream's settings."""
        grace = config.get("expired_window_grace_period", GRACE_PERIOD)
        return cls(
            max(int(grace), 0) * 1000,
            config.get("overwrite_if_rulebook_changes", True),
        )


class Recovery:
    """The recovery of one term: first :meth:`restore`, then :meth:`adopt`.

    :param claim: what is stored.
    :param sessions: to be filled.
    :param bridge: whose sessions they are.
    :param settings: what the operator chose.
    :param log: for what operators have to see.
    """

    def __init__(
        self,
        claim: Claim,
        sessions: Sessions,
        bridge: Bridge,
        settings: RecoverySettings,
        log: WorkerLog,
    ) -> None:
        self._claim = claim
        self._sessions = sessions
        self._bridge = bridge
        self._settings = settings
        self._log = log
        self.pending: List[Tuple[str, str]] = []
        """Rulesets and their matches that wait for their actions, as JSON
        in upstream's format."""
        self.actions: Dict[Tuple[str, int], Info] = {}
        """What is known of actions, by match and place."""
        self.caught_up: List[Tuple[str, Answer]] = []
        """Matches and changes of the time in which nobody led, by ruleset."""
        self.records: Set[Tuple[str, int]] = set()
        """Rulesets and the numbers of the records that were put back."""

    def restore(self) -> None:
        """Fill the sessions, and let the time pass in which nobody led.

        Blocks, maybe for long. :meth:`.SessionTimes.begin` comes before.

        :raises HaError: if the engine cannot restore it.
        """
        names = {key_of_ruleset(each): each for each in self._sessions}
        self.pending = [
            (names[match.ruleset], self._in_json(match))
            for match in self._claim.matches
            if match.ruleset in names
        ]
        self.actions = {
            place: json.loads(self._bridge.decrypted(body))
            for place, body in self._claim.actions.items()
        }
        for ruleset, (session, text) in self._sessions.items():
            answer = self._restore(ruleset, session, text)
            self.caught_up.append((ruleset, answer))

    def _restore(self, ruleset: str, session: int, text: str) -> Answer:
        key = key_of_ruleset(ruleset)
        is_known = key in self._claim.rulesets
        try:
            if is_known and not self._is_another(ruleset, text):
                # Without records, too: a condition that an empty memory meets
                # (not_all) has matched already.
                records = self._claim.records.get(key, "")
                self._bridge.restore(session, records)
                self.records.update(
                    (ruleset, number) for number in numbers_of(records)
                )
            at = self._bridge.times.restored(
                session, self._bridge.time(session)
            )
            answer = self._bridge.advance(session, at)
        except RuntimeError as error:
            raise HaError(
                f"ruleset {ruleset} cannot be recovered: {error}"
            ) from None
        return self._in_time(ruleset, answer, at)

    def _in_json(self, pending: Pending) -> str:
        rule = json.dumps(pending.rule)
        data = self._bridge.decrypted(pending.body)
        return in_json(rule, data, pending.match)

    def _is_another(self, ruleset: str, text: str) -> bool:
        kept = self._claim.rulesets.get(key_of_ruleset(ruleset))
        if kept is None or kept.digest == digest(text):
            return False
        return self._settings.overwrites

    def _in_time(self, ruleset: str, answer: Answer, at: int) -> Answer:
        """The answer without matches of windows that ended too long ago."""
        grace = self._settings.grace
        late = [m for m in answer.matches if at - m.found_at > grace]
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

    def adopt(self, changes: Changes) -> dict[str, Kept]:
        """Store what is new about the rulesets.

        :returns: what is kept of each ruleset now.
        """
        rulesets = {}
        for ruleset, (_, text) in self._sessions.items():
            kept = self._claim.rulesets.get(key_of_ruleset(ruleset))
            if self._is_another(ruleset, text):
                self._log.warning(
                    "The rules have changed since the state was stored, so "
                    "they begin without it",
                    ruleset=ruleset,
                )
                changes.forget_ruleset(ruleset)
                kept = None
            if kept is None:
                kept = Kept(digest(text), primed=False)
                changes.ruleset(ruleset, kept)
            rulesets[ruleset] = kept
        known = {key_of_ruleset(ruleset) for ruleset in self._sessions}
        unknown = {match.ruleset for match in self._claim.matches} - known
        if unknown:
            self._log.warning(
                "Matches stay stored for rulesets that the rulebook lacks now",
                rulesets=", ".join(sorted(unknown)),
            )
        return rulesets


def in_json(rule: str, data: str, match: str) -> str:
    """A match in the format in which upstream's engine gives it.

    :param rule: the rule's name, as JSON.
    :param data: JSON.
    """
    return f'{{"name":{rule},"events":{data},"matching_uuid":"{match}"}}'


def digest(text: str) -> str:
    """The digest of a ruleset's definition; it changes when the rules do.

    Where events come from is no part of it: a port or a token may be another
    one on each worker.
    """
    rules = json.loads(text)
    rules.pop("sources", None)
    told = json.dumps(rules, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
