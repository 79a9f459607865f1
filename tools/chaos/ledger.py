"""The server's own word on what is stored, and what is known to be done.

With state, an event that is stored must not be lost, and a completed action
must not run again once that was recorded. When either was committed the
worker cannot tell, since it may die while it is told. So triggers on Drools'
tables write it down in the same transaction: an event is stored with its
match, or by itself while others are missing to one; a match that is deleted
has run all of its actions, and an action with an outcome has run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg

INSTALL = """
CREATE TABLE chaos_ledger (
    kind text NOT NULL,
    subject text NOT NULL,
    index int,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION chaos_stored() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO chaos_ledger (kind, subject)
    SELECT 'stored', name[1] FROM regexp_matches(
        to_jsonb(NEW) ->> TG_ARGV[0], '"id" ?: ?"([a-z]+-[0-9]+)"', 'g'
    ) AS name;
    RETURN NULL;
END $$;
CREATE FUNCTION chaos_recorded() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO chaos_ledger (kind, subject)
        VALUES ('recorded', OLD.me_uuid);
    ELSIF NEW.action_data ~ '(successful|failed)' THEN
        INSERT INTO chaos_ledger (kind, subject, index)
        VALUES ('recorded', NEW.me_uuid, NEW.index);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_stored AFTER INSERT ON drools_ansible_matching_event
    FOR EACH ROW EXECUTE FUNCTION chaos_stored('event_data');
CREATE TRIGGER chaos_stored AFTER INSERT ON drools_ansible_event_record
    FOR EACH ROW EXECUTE FUNCTION chaos_stored('event_json');
CREATE TRIGGER chaos_recorded AFTER DELETE ON drools_ansible_matching_event
    FOR EACH ROW EXECUTE FUNCTION chaos_recorded();
CREATE TRIGGER chaos_recorded
    AFTER INSERT OR UPDATE ON drools_ansible_action_info
    FOR EACH ROW EXECUTE FUNCTION chaos_recorded();
"""
READ = """
SELECT kind, subject, index, extract(epoch FROM at)
  FROM chaos_ledger ORDER BY at
"""
PENDING = "SELECT me_uuid::text FROM drools_ansible_matching_event"
NAMES = {"stored": "id", "recorded": "match"}


def install(dsn: str) -> None:
    """Begin to write down; Drools' tables have to be there."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(INSTALL)


def pending(dsn: str) -> list[str]:
    """The matches that are stored and whose actions have not all run."""
    with psycopg.connect(dsn, autocommit=True) as session:
        return [match for (match,) in session.execute(PENDING).fetchall()]


def entries(dsn: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was written down: the kind, and the values of a driver's row.

    The server has the wall clock, which nobody sets meanwhile.
    """
    ahead = time.time() - time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as session:
        for kind, subject, index, at in session.execute(READ).fetchall():
            values = {NAMES[kind]: subject}
            if kind == "recorded":
                values["index"] = index
            yield kind, {**values, "at": round((float(at) - ahead) * 1e9)}
