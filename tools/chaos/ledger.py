"""The server's own word on what is stored, and what is known to be done.

With state, an event that is stored must not be lost, and a completed action
must not run again once that was recorded. When either was committed the
worker cannot tell, since it may die while it is told. So triggers on the
journal's tables write it down in the same transaction:

========= ==========================================================
row        of what
========= ==========================================================
stored     an event that a match or a record names
arrived    an event in an inbox
taken out  an event that is in its inbox no more
processed  an event that a transaction came from
found      a match that is stored with its actions still to run
recorded   an action with an outcome, or a match with all of them
claimed    a term, and the worker that has begun it
committed  a transaction, the term that it is of, and its mark
========= ==========================================================

Several events make one transaction and several rows one statement, so
nothing but rows is counted on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

JOURNAL = "eda_ha_commit"  # every transaction has a row there

# A transaction of the journal locks the cluster's row first. With that table
# locked, none is under way that could wait for one of ours.
INSTALL = """
BEGIN;
LOCK TABLE eda_ha_cluster IN EXCLUSIVE MODE;
CREATE TABLE chaos_ledger (
    number bigserial PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    index bigint,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION chaos_stored(body text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    INSERT INTO chaos_ledger (kind, subject)
    SELECT 'stored', name[1] FROM regexp_matches(
        body, '"id" ?: ?"([a-z]+-[0-9]+)"', 'g'
    ) AS name
$$;
CREATE FUNCTION chaos_inbox() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO chaos_ledger (kind, subject)
        VALUES ('arrived', NEW.body::json->'payload'->>'id');
    ELSE
        INSERT INTO chaos_ledger (kind, subject, index)
        VALUES ('taken out', OLD.body::json->'payload'->>'id',
                pg_current_xact_id()::text::bigint);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION chaos_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    PERFORM chaos_stored(NEW.body);
    RETURN NULL;
END $$;
CREATE FUNCTION chaos_match() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO chaos_ledger (kind, subject)
        VALUES ('recorded', OLD.match);
    ELSE
        IF NEW.body ~ '"kind" ?: ?"poison"' THEN
            RAISE 'this cannot be stored' USING ERRCODE = 'data_exception';
        END IF;
        PERFORM chaos_stored(NEW.body);
        INSERT INTO chaos_ledger (kind, subject) VALUES ('found', NEW.match);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION chaos_action() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF NEW.body ~ '(successful|failed)' THEN
        INSERT INTO chaos_ledger (kind, subject, index)
        VALUES ('recorded', NEW.match, NEW.place);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION chaos_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO chaos_ledger (kind, subject)
    SELECT 'processed', event FROM unnest(NEW.events) AS event;
    INSERT INTO chaos_ledger (kind, subject, index)
    VALUES ('committed', NEW.term, NEW.mark);
    RETURN NULL;
END $$;
CREATE FUNCTION chaos_claim() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO chaos_ledger (kind, subject, index)
    VALUES ('claimed', NEW.worker_id, NEW.term);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT OR DELETE ON eda_ha_inbox
    FOR EACH ROW EXECUTE FUNCTION chaos_inbox();
CREATE TRIGGER chaos AFTER INSERT OR UPDATE ON eda_ha_record
    FOR EACH ROW EXECUTE FUNCTION chaos_record();
CREATE TRIGGER chaos AFTER INSERT OR UPDATE OR DELETE ON eda_ha_match
    FOR EACH ROW EXECUTE FUNCTION chaos_match();
CREATE TRIGGER chaos AFTER INSERT OR UPDATE ON eda_ha_action
    FOR EACH ROW EXECUTE FUNCTION chaos_action();
CREATE TRIGGER chaos AFTER INSERT OR UPDATE ON eda_ha_commit
    FOR EACH ROW EXECUTE FUNCTION chaos_commit();
CREATE TRIGGER chaos AFTER UPDATE OF term ON eda_ha_cluster
    FOR EACH ROW EXECUTE FUNCTION chaos_claim();
"""
# What was there before.
BEGIN = """
INSERT INTO chaos_ledger (kind, subject, index)
SELECT 'claimed', worker_id, term FROM eda_ha_cluster;
INSERT INTO chaos_ledger (kind, subject, index)
SELECT 'committed', term, mark FROM eda_ha_commit ORDER BY mark DESC LIMIT 1;
INSERT INTO chaos_ledger (kind, subject)
SELECT 'processed', event FROM eda_ha_commit, unnest(events) AS event;
INSERT INTO chaos_ledger (kind, subject)
SELECT 'arrived', body::json->'payload'->>'id' FROM eda_ha_inbox ORDER BY id;
INSERT INTO chaos_ledger (kind, subject)
SELECT 'found', match FROM eda_ha_match;
INSERT INTO chaos_ledger (kind, subject, index)
SELECT 'recorded', match, place FROM eda_ha_action
 WHERE body ~ '(successful|failed)';
SELECT chaos_stored(body) FROM eda_ha_record;
SELECT chaos_stored(body) FROM eda_ha_match;
COMMIT;
"""
READ = """
SELECT kind, subject, index, extract(epoch FROM at)
  FROM chaos_ledger ORDER BY number
"""
PENDING = "SELECT match::text FROM eda_ha_match"
UNFINISHED = """
SELECT (SELECT max(number) FROM chaos_ledger),
       (SELECT count(*) FROM eda_ha_match),
       (SELECT count(*) FROM eda_ha_record WHERE kind = 'C'),
       (SELECT count(*) FROM eda_ha_inbox)
"""
WAITING = "SELECT body::json->'payload'->>'id' FROM eda_ha_inbox"

LEFT = """
SELECT kind, ARRAY(
           SELECT name[1] FROM regexp_matches(
               body, '"id" ?: ?"([a-z]+-[0-9]+)"', 'g') AS name)
  FROM eda_ha_record
"""


def install(dsn: str) -> None:
    """Begin to write down; the journal's tables have to be there."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(INSTALL + BEGIN)


def pending(dsn: str) -> list[str]:
    """The matches that are stored and whose actions have not all run."""
    with psycopg.connect(dsn, autocommit=True) as session:
        return [match for (match,) in session.execute(PENDING).fetchall()]


def waiting(dsn: str) -> list[str]:
    """The events that are still in an inbox."""
    with psycopg.connect(dsn, autocommit=True) as session:
        return [name for (name,) in session.execute(WAITING).fetchall()]


def unfinished(dsn: str) -> tuple[int, int, int, int]:
    """What came last; how many matches, windows and posted events wait."""
    with psycopg.connect(dsn, autocommit=True) as session:
        row = session.execute(UNFINISHED).fetchone()
    assert row is not None
    return row[0] or 0, row[1], row[2], row[3]


def left(dsn: str) -> Iterator[dict[str, Any]]:
    """What is still in the memory of the rules: kind, names of events."""
    with psycopg.connect(dsn, autocommit=True) as session:
        for kind, names in session.execute(LEFT).fetchall():
            yield {"record": kind, "ids": names}


def entries(
    dsn: str, events: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was written down: the kind, and the values of a driver's row.

    The server has the wall clock, which nobody sets meanwhile.

    :param events: the names of events by what the journal calls them.
    """
    ahead = time.time() - time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as session:
        rows = session.execute(READ).fetchall()
    for kind, subject, index, at in rows:
        if kind == "processed" and subject not in events:
            continue  # one of an inbox, which has been taken out of it
        yield (
            "processed" if kind == "taken out" else kind,
            {
                **_values(kind, subject, index, events),
                "at": round((float(at) - ahead) * 1e9),
            },
        )


def _values(
    kind: str, subject: str, index: int | None, events: Mapping[str, str]
) -> dict[str, Any]:
    if kind in ("stored", "arrived"):
        return {"id": subject}
    if kind == "taken out":
        return {"id": subject, "of": index}
    if kind == "processed":
        return {"id": events[subject]}
    if kind == "found":
        return {"match": subject}
    if kind == "recorded":
        return {"match": subject, "index": index}
    if kind == "claimed":
        return {"worker": subject, "term": index}
    return {"term": int(subject), "mark": index}
