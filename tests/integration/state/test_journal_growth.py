"""Days of leading: neither the worker nor its tables grow.

EDA_JOURNAL_EVENTS=10000000 is what 116 events a second make in a day.
"""

from __future__ import annotations

import json
import os
import resource
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import RULESET, Cluster, Leader

from ansible_rulebook.ha.engine.bridge import Answer, Record
from ansible_rulebook.ha.state import sql
from ansible_rulebook.ha.state.changes import Found
from ansible_rulebook.ha.state.journal import REMEMBERED, TIDY_EVERY
from ansible_rulebook.ha.state.names import key_of
from ansible_rulebook.ha.state.progress import Progress
from ansible_rulebook.ha.state.seen import MOST, Seen

EVENTS = int(os.environ.get("EDA_JOURNAL_EVENTS") or 300_000)
WARM = 20_000  # events until everything has its size
RETAINED = 100  # events, and as many matches whose actions run
BODY = '{"n": 1, "text": "' + 200 * "x" + '"}'
MOST_BYTES = 128 * 2**20
MOST_MEMORY = 16 * 2**20  # more than after the first events
PAGE = resource.getpagesize()


def memory() -> int:
    """What this process has in memory now, in bytes."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE


class Rules:
    """What a leader with a busy rulebook hands to its journal."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.seen = Seen()
        self.progress = Progress(self.store)
        self.retained: deque[int] = deque()
        self.pending: deque[uuid.UUID] = deque()
        self.number = 0

    def store(self, match: str, place: int, known: dict[str, Any]) -> None:
        self.leader.journal.changes.action(
            uuid.UUID(match).bytes, place, json.dumps(known)
        )

    def event(self) -> None:
        """One is retained and matches; an earlier one goes and is done."""
        self.number += 1
        changes = self.leader.journal.changes
        key = key_of(RULESET, {"meta": {"uuid": str(self.number)}})
        assert key is not None
        assert not self.seen.has(key, may_come_again=True)
        self.seen.add(key)
        changes.event(key)
        gone = []
        if len(self.retained) == RETAINED:
            gone = [self.retained.popleft()]
        self.retained.append(self.number)
        record = Record(self.number, "E", self.number, -1, BODY)
        changes.answer(RULESET, Answer((), [record], gone))
        match = uuid.uuid4()
        changes.found(Found(match.bytes, RULESET, "rule", BODY))
        self.progress.update(str(match), 0, {"status": "started"}, True)
        self.progress.update(str(match), 0, {"status": "successful"})
        self.pending.append(match)
        if len(self.pending) > RETAINED:
            done = self.pending.popleft()
            has_actions = self.progress.forget(str(done))
            changes.done(done.bytes, has_actions)
        self.leader.journal.wrote()

    async def events(self, count: int) -> None:
        journal = self.leader.journal
        for _ in range(count):
            self.event()
            if journal.is_behind:  # as the gate does
                assert await journal.last().is_durable()
        assert await journal.last().is_durable()


@pytest.fixture
def short_minutes(cluster: Cluster) -> Iterator[None]:
    """What is deleted stays until autovacuum looks, each minute.

    Fifty times as many events per second come as in a day: a minute of the
    server's is a second here.
    """
    cluster.query("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    cluster.query("SELECT pg_reload_conf()")
    yield
    cluster.query("ALTER SYSTEM RESET autovacuum_naptime")
    cluster.query("SELECT pg_reload_conf()")


@pytest.mark.usefixtures("short_minutes")
@pytest.mark.asyncio
@pytest.mark.timeout(60 + EVENTS / 500)
async def test_a_day_of_leading(cluster: Cluster) -> None:
    rules = Rules(Leader(cluster.worker("a")))
    await rules.events(WARM)
    before = memory()
    await rules.events(EVENTS)
    grown = memory() - before
    rows = {
        table: cluster.query(
            f"SELECT count(*), pg_total_relation_size('{table}') FROM {table}"
            " WHERE ha_uuid = %(ha_uuid)s"
        )[0]
        for table in (sql.RECORD, sql.MATCH, sql.ACTION, sql.COMMIT)
    }
    print(f"{EVENTS} events: {grown / 2**20:.1f} MiB more, {rows}")
    assert not rules.leader.failures
    assert grown < MOST_MEMORY
    assert len(rules.seen._places) <= MOST
    assert rows[sql.RECORD][0] == RETAINED
    assert rows[sql.MATCH][0] == RETAINED
    assert rows[sql.ACTION][0] == RETAINED
    assert rows[sql.COMMIT][0] <= REMEMBERED + TIDY_EVERY
    assert sum(size for _, size in rows.values()) < MOST_BYTES
