"""As much of a worker as upstream's classes need, with real parts."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

from ansible_rulebook.ha.election.leadership import Leadership
from ansible_rulebook.ha.election.term import Term
from ansible_rulebook.ha.log import WorkerLog
from ansible_rulebook.ha.rulebook.actions import Actions
from ansible_rulebook.ha.rulebook.gate import EventGate
from ansible_rulebook.ha.rulebook.gates import Gates
from ansible_rulebook.ha.rulebook.guardian import Guardian
from ansible_rulebook.ha.rulebook.rulesets import Rulesets

logger = logging.getLogger(__name__)


class SmallWorker:
    """A worker that leads in term 7, until the test ends that."""

    def __init__(self) -> None:
        self.asked = 0
        self.server_confirms = True
        self.leadership = Leadership(self._ask_server)
        self.outcomes: list[str] = []  # of actions
        self.actions = Actions(self.leadership, self.outcomes.append)
        self.guardian = Guardian()  # keeps its books, and has no process
        self.rulesets = Rulesets()
        self.gates = Gates(
            self._make_gate,
            lambda source, outcome: None,
            WorkerLog(logger, "w", uuid.uuid4()),
        )
        self.state: Any = None
        self.is_leaving = False
        self.begin_term(7)

    async def _ask_server(self) -> bool:
        self.asked += 1
        return self.server_confirms

    def _make_gate(self, queue: asyncio.Queue[Any]) -> EventGate:
        return EventGate(
            queue, self.leadership, lambda item: False, lambda item: False
        )

    def begin_term(self, number: int) -> None:
        self.leadership.begin(
            Term(number, 1.0, lambda: False, lambda: 0.0),
        )
        self.leadership.announce()

    def end_term(self) -> None:
        self.leadership.end()

    def install_signal_handlers(self) -> None:
        """A test wants its own."""

    def ruleset_started(self, ruleset: Any) -> None:
        self.rulesets.started(ruleset)
