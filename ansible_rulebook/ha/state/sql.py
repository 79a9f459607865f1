"""Every statement of the state, and the tables that they are about.

Tables are found by the session's search_path. Names of rulesets, rules and
workers are stored in ASCII (:func:`.names.stored`), and JSON is ASCII, too,
so no encoding of a database lacks a character of it.
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final = "eda_ha_schema"
CLUSTER: Final = "eda_ha_cluster"
HISTORY: Final = "eda_ha_history"
RULESET: Final = "eda_ha_ruleset"
RECORD: Final = "eda_ha_record"
MATCH: Final = "eda_ha_match"
ACTION: Final = "eda_ha_action"
COMMIT: Final = "eda_ha_commit"
INBOX: Final = "eda_ha_inbox"
INBOX_KEY: Final = "eda_ha_inbox_key"

# All that a worker does to each table.
PRIVILEGES: Final = {
    SCHEMA: ("SELECT",),
    CLUSTER: ("SELECT", "INSERT", "UPDATE"),
    HISTORY: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    RULESET: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    RECORD: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    MATCH: ("SELECT", "INSERT", "DELETE"),
    ACTION: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    COMMIT: ("SELECT", "INSERT", "DELETE"),
    INBOX: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    INBOX_KEY: ("SELECT", "INSERT", "UPDATE", "DELETE"),
}

# What belongs to one cluster, apart from its row in CLUSTER: that one stays,
# since its term is a fencing token and must never fall.
CONTENT: Final = (
    *(RECORD, MATCH, ACTION, COMMIT, HISTORY),
    *(INBOX, INBOX_KEY, RULESET),
)

POST: Final = "eda_ha_post"  # the function
INBOX_NAME: Final = "^[A-Za-z0-9][A-Za-z0-9_.:-]*$"
LONGEST_NAME: Final = 100  # characters
LARGEST: Final = 16_000_000  # characters of an event's JSON
REMEMBERED: Final = "24 hours"  # idempotency keys

# A default of the role or the database may be stricter. But a transaction that
# has waited for a row must see what was written meanwhile.
SETTINGS: Final = {"default_transaction_isolation": "read committed"}

# -- the schema ------------------------------------------------------------

_PLACE = f"""(
       SELECT nspname FROM pg_catalog.pg_class AS class
         JOIN pg_catalog.pg_namespace AS place
           ON place.oid = class.relnamespace
        WHERE class.oid = pg_catalog.to_regclass('{SCHEMA}'))"""

# What is there, seen from this session's search_path.
SURVEY: Final = f"""
SELECT pg_catalog.current_schema() AS schema,
       coalesce(pg_catalog.has_schema_privilege(
           pg_catalog.current_schema(), 'CREATE'), false) AS may_create,
       pg_catalog.current_setting('search_path') AS search_path,
       current_user::text AS role,
       {_PLACE} AS place,
       ARRAY(SELECT name
               FROM pg_catalog.unnest(%(tables)s::text[]) AS wanted (name)
              WHERE pg_catalog.to_regclass(name) IS NULL) AS missing,
       (SELECT pg_catalog.count(DISTINCT relowner)
          FROM pg_catalog.unnest(%(tables)s::text[]) AS wanted (name)
          JOIN pg_catalog.pg_class AS class
            ON class.oid = pg_catalog.to_regclass(name)) AS owners,
       ARRAY(SELECT pg_catalog.format('%%s on %%s', privilege, name)
               FROM ROWS FROM (
                        pg_catalog.unnest(%(granted)s::text[]),
                        pg_catalog.unnest(%(privileges)s::text[])
                    ) AS needed (name, privilege)
              WHERE pg_catalog.to_regclass(name) IS NOT NULL
                AND NOT pg_catalog.has_table_privilege(
                        pg_catalog.to_regclass(name), privilege)) AS lacking
"""

# Serialises who creates tables. ("eda-ha" in ASCII.)
LOCK_SCHEMA: Final = (
    "SELECT pg_catalog.pg_advisory_xact_lock(x'6564612d6861'::bigint)"
)

# Where the tables are, and where new ones would go. Reading a table makes the
# server take note of what was created while it waited for the lock: a name
# that it has looked up in vain before, to_regclass() alone would not find.
PLACE: Final = f"SELECT {_PLACE}, pg_catalog.current_schema()"

VERSION: Final = f"SELECT version, oldest FROM {SCHEMA}"
SET_VERSION: Final = (
    f"UPDATE {{schema}}.{SCHEMA} SET version = %s, oldest = %s"
)

# The schema's first version. Text and not jsonb: JSON may say "\u0000",
# which jsonb refuses.
CREATE: Final = f"""
CREATE TABLE {{schema}}.{SCHEMA} (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    version integer NOT NULL,
    oldest integer NOT NULL
);
COMMENT ON TABLE {{schema}}.{SCHEMA} IS
    'Version of the eda_ha_ tables, and the oldest one that may still write';
INSERT INTO {{schema}}.{SCHEMA} (version, oldest) VALUES (0, 0);
CREATE TABLE {{schema}}.{CLUSTER} (
    ha_uuid uuid PRIMARY KEY,
    term bigint NOT NULL,
    mark bigint NOT NULL,
    worker_id text NOT NULL,
    claimant text NOT NULL,
    lineage text NOT NULL,
    since timestamptz NOT NULL,
    led_at timestamptz NOT NULL,
    writer_pid integer,
    writer_start timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE {{schema}}.{CLUSTER} IS
    'Who leads each ansible-rulebook cluster, and its fencing token (term)';
CREATE TABLE {{schema}}.{HISTORY} (
    ha_uuid uuid NOT NULL,
    term bigint NOT NULL,
    worker_id text NOT NULL,
    since timestamptz NOT NULL,
    first_mark bigint NOT NULL,
    PRIMARY KEY (ha_uuid, term)
);
COMMENT ON TABLE {{schema}}.{HISTORY} IS 'The last terms of each cluster';
CREATE TABLE {{schema}}.{RULESET} (
    ha_uuid uuid NOT NULL,
    ruleset text NOT NULL,
    digest text NOT NULL,
    primed boolean NOT NULL,
    PRIMARY KEY (ha_uuid, ruleset)
);
COMMENT ON TABLE {{schema}}.{RULESET} IS
    'Rulesets that have state, and whether they had their gathered facts';
CREATE TABLE {{schema}}.{RECORD} (
    ha_uuid uuid NOT NULL,
    ruleset text NOT NULL,
    number bigint NOT NULL,
    kind text NOT NULL,
    inserted_at bigint NOT NULL,
    expires bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (ha_uuid, ruleset, number)
);
COMMENT ON TABLE {{schema}}.{RECORD} IS
    'Events and facts in the memory of the rules';
CREATE TABLE {{schema}}.{MATCH} (
    ha_uuid uuid NOT NULL,
    match uuid NOT NULL,
    mark bigint NOT NULL,
    place integer NOT NULL,
    ruleset text NOT NULL,
    rule text NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (ha_uuid, match)
);
COMMENT ON TABLE {{schema}}.{MATCH} IS
    'Matches whose actions have not all run';
CREATE TABLE {{schema}}.{ACTION} (
    ha_uuid uuid NOT NULL,
    match uuid NOT NULL,
    place integer NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (ha_uuid, match, place)
);
COMMENT ON TABLE {{schema}}.{ACTION} IS
    'How far the actions of a match have come';
CREATE TABLE {{schema}}.{COMMIT} (
    ha_uuid uuid NOT NULL,
    mark bigint NOT NULL,
    term bigint NOT NULL,
    events uuid[] NOT NULL,
    PRIMARY KEY (ha_uuid, mark)
);
COMMENT ON TABLE {{schema}}.{COMMIT} IS
    'The last transactions of each leader, and the events in them';
"""

# The second version: what people ask of a term. Null where nobody has told.
TELL_TERMS: Final = f"""
ALTER TABLE {{schema}}.{HISTORY}
    ADD until timestamptz,
    ADD ended text,
    ADD replaces text,
    ADD evidence text,
    ADD gap double precision,
    ADD records bigint,
    ADD matches bigint,
    ADD events bigint,
    ADD actions bigint;
"""

# The third version: events that were acknowledged before a worker took them.
# Rows come and go all the time, so the table is vacuumed often. The function
# is for programs that may do nothing else here.
ADD_INBOX: Final = f"""
CREATE TABLE {{schema}}.{INBOX} (
    ha_uuid uuid NOT NULL,
    inbox text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    arrived timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    parts bigint NOT NULL DEFAULT 0,
    body text NOT NULL,
    PRIMARY KEY (ha_uuid, inbox, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.0,
    autovacuum_vacuum_insert_threshold = 20000
);
COMMENT ON TABLE {{schema}}.{INBOX} IS
    'Events that were acknowledged, and that no leader has processed yet';
CREATE TABLE {{schema}}.{INBOX_KEY} (
    ha_uuid uuid NOT NULL,
    inbox text NOT NULL,
    key uuid NOT NULL,
    seen timestamptz NOT NULL,
    PRIMARY KEY (ha_uuid, inbox, key)
);
CREATE INDEX {INBOX_KEY}_seen ON {{schema}}.{INBOX_KEY} (seen);
COMMENT ON TABLE {{schema}}.{INBOX_KEY} IS
    'Idempotency keys of the last 24 hours';
CREATE FUNCTION {{schema}}.{POST} (
    ha_uuid uuid, inbox text, event json, key text DEFAULT NULL
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, {{schema}}, pg_temp AS $post$
DECLARE
    body text := event::text;
BEGIN
    IF ha_uuid IS NULL OR inbox IS NULL OR inbox !~ '{INBOX_NAME}'
       OR length(inbox) > {LONGEST_NAME} THEN
        RAISE 'eda_ha_post: not the name of an inbox: %', inbox
              USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF event IS NULL OR json_typeof(event) <> 'object' THEN
        RAISE 'eda_ha_post: the event is no JSON object'
              USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF json_typeof(event->'meta') <> 'object' THEN
        RAISE 'eda_ha_post: meta of the event is no JSON object'
              USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF octet_length(body) > {LARGEST} THEN
        RAISE 'eda_ha_post: the event has more than {LARGEST} bytes'
              USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF getdatabaseencoding() = 'SQL_ASCII' THEN  -- which takes any bytes
        PERFORM convert_from(convert_to(body, 'UTF8'), 'UTF8');
    END IF;
    IF key IS NOT NULL THEN
        INSERT INTO {INBOX_KEY} AS known (ha_uuid, inbox, key, seen)
        VALUES (eda_ha_post.ha_uuid, eda_ha_post.inbox,
                encode(substr(sha256(convert_to(eda_ha_post.key, 'UTF8')),
                              1, 16), 'hex')::uuid, clock_timestamp())
        ON CONFLICT ON CONSTRAINT {INBOX_KEY}_pkey DO UPDATE
           SET seen = excluded.seen
         WHERE known.seen < clock_timestamp() - interval '{REMEMBERED}';
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    INSERT INTO {INBOX} (ha_uuid, inbox, body)
    VALUES (eda_ha_post.ha_uuid, eda_ha_post.inbox, body);
    PERFORM pg_notify('{INBOX}_' || replace(ha_uuid::text, '-', ''), inbox);
    RETURN true;
END $post$;
COMMENT ON FUNCTION {{schema}}.{POST} (uuid, text, json, text) IS
    'Gives a cluster an event; false if the key was seen in 24 hours';
REVOKE ALL ON FUNCTION {{schema}}.{POST} (uuid, text, json, text)
  FROM PUBLIC;
"""

# Where everything is, quoted, for GRANT statements.
PLACES: Final = """
SELECT pg_catalog.quote_ident(pg_catalog.current_database()),
       pg_catalog.array_agg(DISTINCT pg_catalog.quote_ident(nspname)),
       pg_catalog.jsonb_object_agg(
           name, pg_catalog.format('%%I.%%I', nspname, relname)),
       pg_catalog.quote_ident(%(role)s)
  FROM pg_catalog.unnest(%(tables)s::text[]) AS wanted (name)
  JOIN pg_catalog.pg_class ON pg_class.oid = pg_catalog.to_regclass(name)
  JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
"""

# The same for the function, by its quoted name.
POST_PLACE: Final = f"""
SELECT pg_catalog.quote_ident(pg_catalog.current_database()),
       pg_catalog.quote_ident(nspname),
       proc.oid::pg_catalog.regprocedure::text,
       pg_catalog.quote_ident(%(role)s)
  FROM pg_catalog.pg_proc AS proc
  JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pronamespace
 WHERE proc.oid = pg_catalog.to_regprocedure('{POST}(uuid,text,json,text)')
"""

# -- terms -----------------------------------------------------------------

# A transaction that locks a row of CLUSTER and then does more takes this lock
# first. It is shared, so it never waits. If the worker is paused meanwhile,
# its session is found by this lock. ("eda-" in ASCII.)
_AT_ROW = "x'6564612d'::integer, pg_catalog.hashtext({}::text)"
_ARRIVE = f"pg_catalog.pg_advisory_xact_lock_shared({_AT_ROW})"
AT_ROW: Final = f"SELECT {_ARRIVE.format('%(ha_uuid)s::uuid')}"

# Whether the session of this process id holds the cluster's lock.
_HOLDS = """EXISTS (
       SELECT FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
          AND pid = %(holder)s
          AND classid = %(high)s::oid AND objid = %(low)s::oid)"""

# This session. The view pg_stat_activity takes several times as long to plan
# as all the rest of a claim, and a takeover waits for it.
_OWN = "pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS own"

FIRST_TERM: Final = f"""
INSERT INTO {CLUSTER} (
    ha_uuid, term, mark, worker_id, claimant, lineage, since, led_at)
VALUES (%(ha_uuid)s, 0, 0, '', '', '', pg_catalog.clock_timestamp(),
        pg_catalog.clock_timestamp())
ON CONFLICT DO NOTHING
"""

# Waits for the transaction under way, which holds the row for share.
LOCK_TERM: Final = f"""
SELECT term, worker_id FROM {CLUSTER} WHERE ha_uuid = %(ha_uuid)s FOR UPDATE
"""

# A claim is durable before anything is done, whatever the role's default is.
DURABLE: Final = """
SELECT pg_catalog.set_config('synchronous_commit', 'local', true)
 WHERE pg_catalog.current_setting('synchronous_commit') = 'off'
"""

# Only if the worker's session holds the lock now. A candidate that was paused
# since it won would otherwise fence off the leader that came after it.
CLAIM_TERM: Final = f"""
UPDATE {CLUSTER} AS cluster
   SET term = cluster.term + 1, worker_id = %(worker_id)s,
       claimant = %(claimant)s, lineage = %(lineage)s,
       mark = greatest(cluster.mark, (
           SELECT coalesce(pg_catalog.max(mark), 0) FROM {COMMIT}
            WHERE ha_uuid = %(ha_uuid)s)),
       since = pg_catalog.clock_timestamp(),
       led_at = pg_catalog.clock_timestamp(),
       writer_pid = own.pid, writer_start = own.backend_start
  FROM {_OWN}
 WHERE cluster.ha_uuid = %(ha_uuid)s
   AND {_HOLDS}
RETURNING cluster.term, cluster.mark,
          (pg_catalog.date_part('epoch', cluster.since) * 1000)::bigint
"""

WRITE_HISTORY: Final = f"""
INSERT INTO {HISTORY} (ha_uuid, term, worker_id, since, first_mark)
SELECT ha_uuid, term, worker_id, since, mark FROM {CLUSTER}
 WHERE ha_uuid = %(ha_uuid)s
ON CONFLICT DO NOTHING
"""

BEGIN_HISTORY: Final = f"""
UPDATE {HISTORY}
   SET replaces = %(replaces)s, evidence = %(evidence)s, gap = %(gap)s,
       records = %(records)s, matches = %(matches)s
 WHERE ha_uuid = %(ha_uuid)s AND term = %(term)s
"""

# A worker whose session was ended need not know why; the next one may.
_KNOWN_BETTER: Final = "('lease_expired', 'server_restarted')"

# Where the worker of that term has told more itself, that stays.
END_HISTORY_BEFORE: Final = f"""
UPDATE {HISTORY} AS before
   SET ended = CASE
           WHEN before.ended = 'session_lost'
            AND %(ended)s IN {_KNOWN_BETTER} THEN %(ended)s
           ELSE coalesce(before.ended, %(ended)s) END,
       until = coalesce(before.until, CASE
           WHEN %(gap)s::float8 IS NOT NULL THEN greatest(before.since,
               present.since - %(gap)s::float8 * interval '1 second') END)
  FROM {HISTORY} AS present
 WHERE present.ha_uuid = %(ha_uuid)s AND present.term = %(term)s
   AND before.ha_uuid = present.ha_uuid
   AND before.term = (SELECT pg_catalog.max(term) FROM {HISTORY}
                       WHERE ha_uuid = %(ha_uuid)s AND term < %(term)s)
"""

# It may come late, but its term was over when the next one began.
END_HISTORY: Final = f"""
UPDATE {HISTORY} AS own
   SET ended = CASE
           WHEN %(ended)s = 'session_lost'
            AND own.ended IN {_KNOWN_BETTER} THEN own.ended
           ELSE %(ended)s END,
       events = %(events)s, actions = %(actions)s,
       until = least(
           greatest(own.since, pg_catalog.clock_timestamp()
               - %(ago)s::float8 * interval '1 second'),
           (SELECT pg_catalog.min(since) FROM {HISTORY}
             WHERE ha_uuid = %(ha_uuid)s AND term > %(term)s))
 WHERE ha_uuid = %(ha_uuid)s AND term = %(term)s
"""

# The last mark of an earlier term: where the one after it began.
LAST_MARKS: Final = f"""
SELECT term, first_mark FROM {HISTORY}
 WHERE ha_uuid = %(ha_uuid)s AND term = ANY(%(after)s::bigint[])
"""

# Another session of the same term writes from here on.
REOPEN: Final = f"""
UPDATE {CLUSTER} SET writer_pid = own.pid, writer_start = own.backend_start
  FROM {_OWN}
 WHERE ha_uuid = %(ha_uuid)s AND term = %(term)s
RETURNING term
"""

# Ends the writer of an earlier term, which may be paused, and every other
# session that holds the row. Only if the worker's session holds the lock.
END_WRITER: Final = f"""
SELECT pg_catalog.pg_terminate_backend(pid)
  FROM (SELECT activity.pid
          FROM {CLUSTER} AS held
          JOIN pg_catalog.pg_stat_activity AS activity
            ON activity.pid = held.writer_pid
           AND activity.backend_start = held.writer_start
         WHERE held.ha_uuid = %(ha_uuid)s
         UNION
        SELECT pid
          FROM pg_catalog.pg_locks
          JOIN (VALUES ({_AT_ROW.format("%(ha_uuid)s::uuid")}))
            AS wanted (high, low)
            ON classid = high::bit(32)::bigint::oid
           AND objid = low::bit(32)::bigint::oid
         WHERE locktype = 'advisory' AND granted AND objsubid = 2
           AND database = (SELECT oid FROM pg_catalog.pg_database
                            WHERE datname = pg_catalog.current_database())
       ) AS late
 WHERE pid <> pg_catalog.pg_backend_pid()
   AND {_HOLDS}
"""

HAS_CLUSTERS: Final = f"""
SELECT pg_catalog.to_regclass('{CLUSTER}') IS NOT NULL
"""

KEEPS_STATE: Final = (
    f"SELECT EXISTS (SELECT FROM {CLUSTER} WHERE ha_uuid = %s AND term > 0)"
)

# -- recovery --------------------------------------------------------------

RULESETS: Final = f"""
SELECT ruleset, digest, primed FROM {RULESET} WHERE ha_uuid = %(ha_uuid)s
"""

# One text for each ruleset, as the bridge takes it.
RECORDS: Final = f"""
SELECT ruleset, pg_catalog.string_agg(
           pg_catalog.concat_ws(
               pg_catalog.chr(30), number, kind, inserted_at, expires, body,
               ''), '' ORDER BY number), pg_catalog.count(*)
  FROM {RECORD} WHERE ha_uuid = %(ha_uuid)s GROUP BY ruleset
"""

MATCHES: Final = f"""
SELECT match::text, ruleset, rule, body FROM {MATCH}
 WHERE ha_uuid = %(ha_uuid)s ORDER BY mark, place
"""

ACTIONS: Final = f"""
SELECT match::text, place, body FROM {ACTION} WHERE ha_uuid = %(ha_uuid)s
"""

EVENTS: Final = f"""
SELECT key FROM {COMMIT},
       pg_catalog.unnest(events) WITH ORDINALITY AS event (key, place)
 WHERE ha_uuid = %(ha_uuid)s ORDER BY mark DESC, place DESC LIMIT {{most}}
"""

# -- the journal; parameters as libpq numbers them ---------------------------

# The row stays locked until the commit, so a claim waits for it. If the term
# is over, a cast that must fail ends the transaction, and says why in the log.
FENCED: Final = "22P02"  # invalid_text_representation
FENCE: Final = f"""
SELECT coalesce(
    (SELECT term FROM {CLUSTER}
      WHERE ha_uuid = $1::uuid AND term = $2::bigint FOR SHARE)::text,
    'eda-ha: another term has begun')::bigint
"""

ADD_COMMIT: Final = f"""
INSERT INTO {COMMIT} (ha_uuid, term, mark, events)
VALUES ($1::uuid, $2::bigint, $3::bigint, $4::uuid[])
"""

KEEP_RECORDS: Final = f"""
INSERT INTO {RECORD} (
    ha_uuid, ruleset, number, kind, inserted_at, expires, body)
SELECT $1::uuid, ruleset, number, kind, inserted_at, expires, body
  FROM ROWS FROM (
           pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[]),
           pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::bigint[]),
           pg_catalog.unnest($6::bigint[]), pg_catalog.unnest($7::text[])
       ) AS kept (ruleset, number, kind, inserted_at, expires, body)
ON CONFLICT (ha_uuid, ruleset, number) DO UPDATE SET body = excluded.body
"""

DROP_RECORDS: Final = f"""
DELETE FROM {RECORD} USING ROWS FROM (
           pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[])
       ) AS gone (ruleset, number)
 WHERE {RECORD}.ha_uuid = $1::uuid AND {RECORD}.ruleset = gone.ruleset
   AND {RECORD}.number = gone.number
"""

FORGET_RECORDS: Final = f"""
DELETE FROM {RECORD}
 WHERE ha_uuid = $1::uuid AND ruleset = ANY($2::text[])
"""

KEEP_RULESETS: Final = f"""
INSERT INTO {RULESET} (ha_uuid, ruleset, digest, primed)
SELECT $1::uuid, ruleset, digest, primed = 1
  FROM ROWS FROM (
           pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]),
           pg_catalog.unnest($4::bigint[])
       ) AS kept (ruleset, digest, primed)
ON CONFLICT (ha_uuid, ruleset) DO UPDATE
   SET digest = excluded.digest, primed = excluded.primed
"""

ADD_MATCHES: Final = f"""
INSERT INTO {MATCH} (ha_uuid, match, mark, place, ruleset, rule, body)
SELECT $1::uuid, match, $2::bigint, place, ruleset, rule, body
  FROM ROWS FROM (
           pg_catalog.unnest($3::uuid[]), pg_catalog.unnest($4::text[]),
           pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[])
       ) WITH ORDINALITY AS found (match, ruleset, rule, body, place)
"""

DROP_MATCHES: Final = f"""
DELETE FROM {MATCH} WHERE ha_uuid = $1::uuid AND match = ANY($2::uuid[])
"""

KEEP_ACTIONS: Final = f"""
INSERT INTO {ACTION} (ha_uuid, match, place, body)
SELECT $1::uuid, match, place, body
  FROM ROWS FROM (
           pg_catalog.unnest($2::uuid[]), pg_catalog.unnest($3::bigint[]),
           pg_catalog.unnest($4::text[])
       ) AS kept (match, place, body)
ON CONFLICT (ha_uuid, match, place) DO UPDATE SET body = excluded.body
"""

DROP_ACTIONS: Final = f"""
DELETE FROM {ACTION} WHERE ha_uuid = $1::uuid AND match = ANY($2::uuid[])
"""

# What has been processed is out of the inbox in the same transaction.
EMPTY_INBOX: Final = f"""
DELETE FROM {INBOX} USING ROWS FROM (
           pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[])
       ) AS done (inbox, id)
 WHERE {INBOX}.ha_uuid = $1::uuid AND {INBOX}.inbox = done.inbox
   AND {INBOX}.id = done.id
"""

# How much of an event has been, if a filter has split it.
KEEP_PARTS: Final = f"""
UPDATE {INBOX} SET parts = done.parts FROM ROWS FROM (
           pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[]),
           pg_catalog.unnest($4::bigint[])
       ) AS done (inbox, id, parts)
 WHERE {INBOX}.ha_uuid = $1::uuid AND {INBOX}.inbox = done.inbox
   AND {INBOX}.id = done.id
"""

FORGET_COMMITS: Final = f"""
DELETE FROM {COMMIT} WHERE ha_uuid = $1::uuid AND mark <= $2::bigint
"""

# -- housekeeping ------------------------------------------------------------

STILL_LEADS: Final = f"""
UPDATE {CLUSTER} SET led_at = pg_catalog.clock_timestamp()
 WHERE ha_uuid = %(ha_uuid)s AND term = %(term)s
"""

# The leader of another cluster, which has not said so for long.
LEADS_AS_WELL: Final = f"""
UPDATE {CLUSTER} SET led_at = pg_catalog.clock_timestamp()
 WHERE ha_uuid = %(ha_uuid)s
"""

FORGET_HISTORY: Final = f"""
DELETE FROM {HISTORY}
 WHERE ha_uuid = %(ha_uuid)s AND term <= %(term)s - %(terms)s
"""

# Clusters that nobody has led for long and that still have something. Without
# state nobody says that a cluster is led, but its inbox may be in use.
ABANDONED: Final = f"""
SELECT ha_uuid, {_ARRIVE.format("ha_uuid")} FROM {CLUSTER}
 WHERE led_at < pg_catalog.clock_timestamp() - %(days)s * interval '1 day'
   AND EXISTS (SELECT FROM {RULESET} AS content
                WHERE content.ha_uuid = {CLUSTER}.ha_uuid)
   AND NOT EXISTS (
       SELECT FROM {INBOX} AS event
        WHERE event.ha_uuid = {CLUSTER}.ha_uuid
          AND arrived > pg_catalog.clock_timestamp()
                        - %(days)s * interval '1 day')
   FOR UPDATE SKIP LOCKED LIMIT 1
"""

# RULESET comes last: it says that there is something left.
FORGET_SOME: Final = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE ha_uuid = %(ha_uuid)s LIMIT %(most)s))
"""

WHO_HOLDS: Final = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_locks
     WHERE locktype = 'advisory' AND granted AND objsubid = 1
       AND database = (SELECT oid FROM pg_catalog.pg_database
                        WHERE datname = pg_catalog.current_database())
       AND classid = %(high)s::oid AND objid = %(low)s::oid)
"""
