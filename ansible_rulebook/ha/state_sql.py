"""The fence in the database, and every statement of the state's session.

Drools writes without asking who leads, so a write that an ex-leader has under
way could land after the next leader has read the state. One row for each
cluster says who may write; a trigger on Drools' tables holds that row while
it writes, and refuses everybody else. A new leader's claim of the row waits
for the writes under way, and every later one of its predecessor fails.
"""

from __future__ import annotations

from typing import Final

TERM_TABLE: Final = "eda_ha_term"
FIRED_TABLE: Final = "eda_ha_fired"
FENCE: Final = "eda_ha_fence"
FENCED: Final = "EDHA1"  # SQLSTATE of a write that the fence refused

# Drools' tables that belong to the leader. Its statistics do not: followers
# write those, too, when they connect.
FENCED_TABLES: Final = (
    "drools_ansible_session_state",
    "drools_ansible_event_record",
    "drools_ansible_matching_event",
    "drools_ansible_action_info",
)
DROOLS_TABLES: Final = (*FENCED_TABLES, "drools_ansible_ha_stats")

# All that a worker does to each of them. The records of actions go with
# their match, by a cascade that runs as the owner of the tables.
PRIVILEGES: Final = {
    "drools_ansible_session_state": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "drools_ansible_event_record": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "drools_ansible_matching_event": ("SELECT", "INSERT", "DELETE"),
    "drools_ansible_action_info": ("SELECT", "INSERT", "UPDATE"),
    "drools_ansible_ha_stats": ("SELECT", "INSERT", "UPDATE"),
    TERM_TABLE: ("SELECT", "INSERT", "UPDATE"),
    FIRED_TABLE: ("SELECT", "INSERT", "DELETE"),
}

# Where Drools' tables are, and so the fence.
SCHEMA: Final = """
SELECT nspname FROM pg_catalog.pg_class AS class
  JOIN pg_catalog.pg_namespace AS schema ON schema.oid = class.relnamespace
 WHERE class.oid =
       pg_catalog.to_regclass('drools_ansible_session_state')
"""

# A cluster without a row is not ours: upstream's own persistence goes on.
# Within a transaction one look is enough, since the row stays locked.
CREATE_FENCE: Final = f"""
CREATE TABLE IF NOT EXISTS {{schema}}.{TERM_TABLE} (
    ha_uuid text PRIMARY KEY,
    term bigint NOT NULL,
    writer text NOT NULL,
    worker_id text NOT NULL,
    since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    primed jsonb NOT NULL DEFAULT '{{{{}}}}'
);
COMMENT ON TABLE {{schema}}.{TERM_TABLE} IS
    'Who leads each ansible-rulebook cluster, and its fencing token (term)';
CREATE TABLE IF NOT EXISTS {{schema}}.{FIRED_TABLE} (
    ha_uuid text NOT NULL,
    signature text NOT NULL,
    fired_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (ha_uuid, signature)
);
COMMENT ON TABLE {{schema}}.{FIRED_TABLE} IS
    'Time windows whose actions have run, so that none fires twice';
CREATE OR REPLACE FUNCTION {{schema}}.{FENCE}() RETURNS trigger
LANGUAGE plpgsql AS $fence$
DECLARE
    touched text;
    allowed text;
    number bigint;
BEGIN
    IF TG_OP = 'DELETE' THEN
        touched := OLD.ha_uuid;
    ELSE
        touched := NEW.ha_uuid;
    END IF;
    IF pg_catalog.current_setting('eda_ha.passed', true) = touched THEN
        RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    SELECT writer, term INTO allowed, number
      FROM {{schema}}.{TERM_TABLE} WHERE ha_uuid = touched FOR SHARE;
    IF allowed <> pg_catalog.current_setting('application_name') THEN
        RAISE EXCEPTION
            'the state of % belongs to term % by now', touched, number
            USING ERRCODE = '{FENCED}';
    END IF;
    PERFORM pg_catalog.set_config('eda_ha.passed', touched, true);
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$fence$;
"""

CREATE_TRIGGER: Final = f"""
CREATE TRIGGER {FENCE} BEFORE INSERT OR UPDATE OR DELETE ON {{table}}
    FOR EACH ROW EXECUTE FUNCTION {{schema}}.{FENCE}()
"""

UNFENCED: Final = f"""
SELECT name FROM pg_catalog.unnest(%(fenced)s::text[]) AS wanted (name)
 WHERE NOT EXISTS (
       SELECT FROM pg_catalog.pg_trigger
        WHERE tgrelid = pg_catalog.to_regclass(name)
          AND tgname = '{FENCE}' AND tgenabled <> 'D')
"""

# What is there, seen from this session's search_path.
SURVEY: Final = f"""
SELECT pg_catalog.current_schema(),
       pg_catalog.has_database_privilege(
           pg_catalog.current_database(), 'TEMPORARY'),
       coalesce(pg_catalog.has_schema_privilege(
           pg_catalog.current_schema(), 'CREATE'), false),
       pg_catalog.current_setting('search_path'),
       pg_catalog.to_regclass('{TERM_TABLE}') IS NOT NULL
           AND pg_catalog.to_regclass('{FIRED_TABLE}') IS NOT NULL,
       (SELECT pg_catalog.array_agg(name)
          FROM pg_catalog.unnest(%(tables)s::text[]) AS wanted (name)
         WHERE pg_catalog.to_regclass(name) IS NULL),
       ARRAY({UNFENCED}),
       current_user,
       pg_catalog.current_database()
"""

# Rights on what is there, as "INSERT on drools_ansible_session_state".
LACKING: Final = """
SELECT pg_catalog.format('%%s on %%s', privilege, name)
  FROM ROWS FROM (
           pg_catalog.unnest(%(tables)s::text[]),
           pg_catalog.unnest(%(privileges)s::text[])
       ) AS wanted (name, privilege)
 WHERE NOT pg_catalog.has_table_privilege(
           pg_catalog.to_regclass(name), privilege)
 UNION ALL
SELECT pg_catalog.format('USAGE on sequence %%s', sequence)
  FROM (SELECT pg_catalog.pg_get_serial_sequence(name, 'id')::regclass
          FROM (VALUES ('drools_ansible_session_state'),
                       ('drools_ansible_ha_stats')) AS with_id (name)
       ) AS wanted (sequence)
 WHERE NOT pg_catalog.has_sequence_privilege(sequence, 'USAGE')
"""

# Serialises who creates: the key is that of Drools' own schema code.
LOCK_SCHEMA: Final = "SELECT pg_catalog.pg_advisory_xact_lock(7370292001)"

FIRST_TERM: Final = f"""
INSERT INTO {TERM_TABLE} (ha_uuid, term, writer, worker_id)
VALUES (%(ha_uuid)s, 0, '', '') ON CONFLICT DO NOTHING
"""

# Waits for the writes under way, which hold the row for share.
LOCK_TERM: Final = f"""
SELECT writer FROM {TERM_TABLE} WHERE ha_uuid = %(ha_uuid)s FOR UPDATE
"""

# Only for who holds the lock at this instant: a candidate that slept since
# it won would else fence off the leader that came after it.
CLAIM_TERM: Final = f"""
UPDATE {TERM_TABLE}
   SET term = term + 1, writer = %(writer)s, worker_id = %(worker_id)s,
       since = pg_catalog.clock_timestamp()
 WHERE ha_uuid = %(ha_uuid)s
   AND EXISTS (
       SELECT FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
          AND pid = %(holder)s
          AND classid = %(high)s::oid AND objid = %(low)s::oid)
RETURNING term, primed
"""

# Writers of an earlier term that still hold the row, paused maybe.
END_WRITERS: Final = f"""
SELECT pg_catalog.pg_terminate_backend(activity.pid)
  FROM {TERM_TABLE} AS held
  JOIN pg_catalog.pg_stat_activity AS activity
    ON activity.application_name = held.writer
 WHERE held.ha_uuid = %(ha_uuid)s AND held.writer <> ''
   AND activity.datname = pg_catalog.current_database()
   AND activity.pid <> pg_catalog.pg_backend_pid()
"""

# Which rulesets have had their gathered facts, and of which text.
SET_PRIMED: Final = f"""
UPDATE {TERM_TABLE} SET primed = primed || %(primed)s::jsonb
 WHERE ha_uuid = %(ha_uuid)s AND writer = %(writer)s
"""

# What upstream deletes one by one when the last action of a match has run.
DELETE_MATCHES: Final = """
DELETE FROM drools_ansible_matching_event
 WHERE ha_uuid = %(ha_uuid)s AND me_uuid = ANY(%(uuids)s::uuid[])
"""

# The same where time windows are among them, in one statement.
DELETE_FIRED: Final = f"""
WITH done AS ({DELETE_MATCHES})
INSERT INTO {FIRED_TABLE} (ha_uuid, signature)
SELECT %(ha_uuid)s, signature
  FROM pg_catalog.unnest(%(signatures)s::text[]) AS fired (signature)
ON CONFLICT DO NOTHING
"""

FIRED: Final = f"""
SELECT signature FROM {FIRED_TABLE} WHERE ha_uuid = %(ha_uuid)s
"""

FORGET_FIRED: Final = f"""
DELETE FROM {FIRED_TABLE}
 WHERE ha_uuid = %(ha_uuid)s
   AND fired_at < pg_catalog.clock_timestamp() - interval '2 days'
"""

PROGRESS: Final = """
SELECT me_uuid::text, index FROM drools_ansible_action_info
 WHERE ha_uuid = %(ha_uuid)s
"""

SESSION_SHAS: Final = """
SELECT rule_set_name, current_state_sha FROM drools_ansible_session_state
 WHERE ha_uuid = %(ha_uuid)s
"""

SET_SESSION_SHA: Final = """
UPDATE drools_ansible_session_state SET current_state_sha = %(sha)s
 WHERE ha_uuid = %(ha_uuid)s AND rule_set_name = %(name)s
"""
