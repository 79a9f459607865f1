"""The history of terms: what leaders write into it, and what stays."""

from __future__ import annotations

import contextlib
from typing import Any, Callable

import pytest
from clusters import Cluster, create_tables, state_session
from rig.server import Server

from ansible_rulebook.ha.election.reasons import Reason
from ansible_rulebook.ha.state import history, schema, sql
from ansible_rulebook.ha.state.history import Beginning, History


def history_of(cluster: Cluster, dsn: str | None = None) -> History:
    session = state_session(dsn or cluster.dsn)
    cluster.stack.enter_context(contextlib.closing(session))
    return History(session, str(cluster.uuid))


def row(cluster: Cluster, term: int, *columns: str) -> tuple[Any, ...]:
    (found,) = cluster.query(
        f"SELECT {', '.join(columns)} FROM {sql.HISTORY}"
        " WHERE ha_uuid = %(ha_uuid)s AND term = %(term)s",
        term=term,
    )
    return tuple(found)


FOUND = Beginning(
    replaces="a",
    reason=Reason.KILLED,
    evidence="its session has ended",
    gap=0.25,
    records=12,
    matches=3,
)


def test_a_new_leader_writes_what_it_finds(
    cluster: Cluster, make_cluster: Callable[[str], Cluster]
) -> None:
    other = make_cluster(cluster.dsn)
    for each in (cluster, other):
        each.claim("a")
        each.query(
            f"UPDATE {sql.HISTORY} SET since = since - interval '1 hour'"
            " WHERE ha_uuid = %(ha_uuid)s"
        )
        each.claim("b")
    history_of(cluster).begin_term(2, FOUND)
    assert row(
        cluster,
        2,
        *("worker_id", "replaces", "evidence", "gap", "records", "matches"),
        *("until", "ended", "events", "actions"),
    ) == ("b", "a", "its session has ended", 0.25, 12, 3, *[None] * 4)
    assert row(cluster, 1, "ended") == ("killed",)
    ((gap,),) = cluster.query(
        "SELECT extract(epoch FROM new.since - old.until)::float8"
        f" FROM {sql.HISTORY} AS old JOIN {sql.HISTORY} AS new"
        " USING (ha_uuid) WHERE ha_uuid = %(ha_uuid)s"
        " AND old.term = 1 AND new.term = 2"
    )
    assert gap == pytest.approx(0.25)
    assert row(other, 1, "ended", "until") == (None, None)
    assert row(other, 2, "replaces") == (None,)


def test_the_first_term_replaces_nobody(cluster: Cluster) -> None:
    cluster.claim("a")
    history_of(cluster).begin_term(1, Beginning())
    assert row(cluster, 1, "replaces", "evidence", "gap", "ended") == (
        "",
        "",
        None,
        None,
    )


def test_an_end_is_never_before_its_beginning(cluster: Cluster) -> None:
    cluster.claim("a")
    cluster.claim("b")
    history_of(cluster).begin_term(2, Beginning(gap=3600.0))
    assert row(cluster, 1, "until = since") == (True,)
    history_of(cluster).end_term(2, Reason.STOPPED, ago=3600.0)
    assert row(cluster, 2, "until = since") == (True,)


def test_a_gap_that_nobody_knows_leaves_the_end_open(
    cluster: Cluster,
) -> None:
    cluster.claim("a")
    cluster.claim("b")
    history_of(cluster).begin_term(2, Beginning(reason=Reason.SESSION_LOST))
    assert row(cluster, 1, "ended", "until") == ("session_lost", None)


def test_a_leader_that_ends_in_good_order_tells_it_first(
    cluster: Cluster,
) -> None:
    cluster.claim("a")
    history_of(cluster).end_term(1, Reason.STOPPED, events=7, actions=5)
    before = row(cluster, 1, "ended", "events", "actions", "until")
    assert before[:3] == ("stopped", 7, 5)
    cluster.claim("b")
    history_of(cluster).begin_term(2, FOUND)
    assert row(cluster, 1, "ended", "events", "actions", "until") == before


def test_a_former_leader_that_is_alive_knows_better(cluster: Cluster) -> None:
    cluster.claim("a")
    cluster.claim("b")
    history_of(cluster).begin_term(2, FOUND)
    cluster.claim("c")
    history_of(cluster).end_term(1, Reason.STOPPED, events=7, actions=0)
    assert row(cluster, 1, "ended", "events", "actions") == ("stopped", 7, 0)
    # It tells it late: its term was over when the next one began.
    next_began = row(cluster, 2, "since")
    assert row(cluster, 1, "until") == next_began
    assert row(cluster, 2, "ended") == (None,)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    ("told", "found", "stays"),
    [
        ("session_lost", "lease_expired", "lease_expired"),
        ("session_lost", "server_restarted", "server_restarted"),
        ("session_lost", "killed", "session_lost"),
        ("stopped", "lease_expired", "stopped"),
    ],
)
def test_the_next_leader_may_know_why_a_session_was_lost(
    cluster: Cluster, told: str, found: str, stays: str, is_late: bool
) -> None:
    written = history_of(cluster)
    cluster.claim("a")
    if not is_late:
        written.end_term(1, Reason(told), events=7, actions=5)
    cluster.claim("b")
    written.begin_term(2, Beginning("a", Reason(found)))
    if is_late:
        written.end_term(1, Reason(told), events=7, actions=5)
    expected = (stays, 7, 5)
    assert row(cluster, 1, "ended", "events", "actions") == expected


def test_terms_that_were_pruned_in_between_do_no_harm(
    cluster: Cluster,
) -> None:
    for name in "abc":
        cluster.claim(name)
    cluster.query(
        f"DELETE FROM {sql.HISTORY} WHERE ha_uuid = %(ha_uuid)s AND term = 2"
    )
    history_of(cluster).begin_term(3, FOUND)
    history_of(cluster).end_term(2, Reason.STOPPED)
    assert row(cluster, 1, "ended") == ("killed",)


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE x; --", "\x1b[31m", "two\nlines\0", "é\U0001f600"]
)
def test_text_is_stored_in_ascii_and_cut(cluster: Cluster, text: str) -> None:
    cluster.claim("a")
    long = text * 500
    history_of(cluster).begin_term(1, Beginning(text, evidence=long))
    replaces, evidence = row(cluster, 1, "replaces", "evidence")
    assert replaces.isascii()
    assert replaces.encode().decode("unicode_escape") == text
    kept = evidence.encode().decode("unicode_escape")
    assert kept == long[: history.LONGEST_EVIDENCE]


def test_a_thousand_terms_stay(cluster: Cluster) -> None:
    cluster.query(
        f"INSERT INTO {sql.HISTORY}"
        " (ha_uuid, term, worker_id, since, first_mark)"
        " SELECT %(ha_uuid)s, term, 'a', now(), 0"
        " FROM generate_series(1, 1200) AS term"
    )
    written = history_of(cluster)
    assert written.prune(1200) == 200
    assert written.prune(1200) == 0
    assert cluster.query(
        f"SELECT min(term), count(*) FROM {sql.HISTORY}"
        " WHERE ha_uuid = %(ha_uuid)s"
    ) == [(201, 1000)]


def test_a_leader_of_the_first_version_writes_on(
    server: Server,
    dsn: str,
    make_cluster: Callable[[str], Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tables are brought up to date while an older worker leads."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        patch.setattr(schema, "VERSION", 1)
        create_tables(dsn)
        cluster = make_cluster(dsn)
        cluster.claim("old")
        create_tables(dsn)
    create_tables(dsn)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSION", 1)
        assert cluster.claim("old").term == 2
    assert cluster.claim("new").term == 3
    history_of(cluster).begin_term(3, FOUND)
    assert row(cluster, 2, "worker_id", "ended") == ("old", "killed")
    assert server.query(
        f"SELECT version, oldest FROM {sql.SCHEMA}", dsn=dsn
    ) == [(schema.VERSION, 1)]
