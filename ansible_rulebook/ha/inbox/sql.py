"""Every statement of an inbox, but for the one of the journal.

The tables are those of the state (:mod:`..state.sql`).
"""

from __future__ import annotations

from typing import Final

from ..state.sql import INBOX, INBOX_KEY, REMEMBERED

# -- what the writer sends; parameters as libpq numbers them -----------------
# $1 is the cluster, $2 the inbox.

# A role may have it off. What is acknowledged must be durable.
DURABLE: Final = """
SELECT pg_catalog.set_config('synchronous_commit', 'local', false)
 WHERE pg_catalog.current_setting('synchronous_commit') = 'off'
"""

# The planner takes the table for as small as it was when it was last analysed,
# and would sort a long queue for each portion of it.
IN_ORDER: Final = """
SELECT pg_catalog.set_config('enable_bitmapscan', 'off', false),
       pg_catalog.set_config('enable_seqscan', 'off', false)
"""

# Nobody waits any longer for what takes more than that. The server would: and
# store it when the sender has long been told that it may not have been.
LIMITS: Final = """
SELECT pg_catalog.set_config('lock_timeout', %(lock)s, false),
       pg_catalog.set_config('statement_timeout', %(statement)s, false)
"""

NO_KEY: Final = bytes(16)
_NO_KEY = "'00000000-0000-0000-0000-000000000000'::uuid"

# Stores events in the order of the arrays, without those whose keys were seen.
# Keys are inserted in one order by all, so that no two writers wait for each
# other. Tells the keys that are new.
PUT: Final = f"""
WITH arrived AS (
    SELECT body, key, place
      FROM ROWS FROM (
               pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::uuid[])
           ) WITH ORDINALITY AS each (body, key, place)
), fresh AS (
    INSERT INTO {INBOX_KEY} AS known (ha_uuid, inbox, key, seen)
    SELECT $1::uuid, $2::text, key, pg_catalog.clock_timestamp()
      FROM arrived WHERE key <> {_NO_KEY} ORDER BY key
    ON CONFLICT (ha_uuid, inbox, key) DO UPDATE SET seen = excluded.seen
     WHERE known.seen
           < pg_catalog.clock_timestamp() - interval '{REMEMBERED}'
    RETURNING key
), stored AS (
    INSERT INTO {INBOX} (ha_uuid, inbox, body)
    SELECT $1::uuid, $2::text, body FROM arrived
     WHERE key = {_NO_KEY} OR key IN (SELECT key FROM fresh)
     ORDER BY place
)
SELECT key::text FROM fresh
"""

NOTIFY: Final = f"""
SELECT pg_catalog.pg_notify(
    '{INBOX}_' || pg_catalog.replace($1::uuid::text, '-', ''), $2::text)
"""

# For workers without a journal.
DELETE: Final = f"""
DELETE FROM {INBOX}
 WHERE ha_uuid = $1::uuid AND inbox = $2::text AND id = ANY($3::bigint[])
"""

# How many wait, up to a limit, and since when the oldest one does.
DEPTH: Final = f"""
SELECT pg_catalog.count(*),
       extract(epoch FROM pg_catalog.min(arrived))::float8
  FROM (SELECT arrived FROM {INBOX}
         WHERE ha_uuid = $1::uuid AND inbox = $2::text
         ORDER BY id LIMIT $3::bigint) AS waiting
"""

# -- what the leader asks ----------------------------------------------------

# Which of the events in hand are still there (without their bodies), and the
# next ones. An event with a lower number may become visible after one with a
# higher number, so the last number that was seen tells nothing. No more than
# some bytes come at once, or one event that has more. From a number on it is
# quick even if many rows before that are deleted and not vacuumed.
TAKE: Final = f"""
SELECT id, NULL, NULL, NULL FROM {INBOX}
 WHERE ha_uuid = %(ha_uuid)s AND inbox = %(inbox)s
   AND id = ANY(%(in_hand)s::bigint[])
 UNION ALL
SELECT id, body, extract(epoch FROM arrived)::float8, parts FROM (
    SELECT *, pg_catalog.sum(pg_catalog.octet_length(body)) OVER (ORDER BY id)
              - pg_catalog.octet_length(body) AS before
      FROM (
        SELECT id, body, arrived, parts FROM {INBOX}
         WHERE ha_uuid = %(ha_uuid)s AND inbox = %(inbox)s
           AND id >= %(first)s
           AND id <> ALL(%(in_hand)s::bigint[])
         ORDER BY id LIMIT %(most)s
      ) AS following
) AS measured
 WHERE before < %(bytes)s
"""

FORGET_KEYS: Final = f"""
WITH gone AS (
    DELETE FROM {INBOX_KEY} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {INBOX_KEY}
         WHERE seen < pg_catalog.clock_timestamp() - interval '{REMEMBERED}'
         LIMIT %(most)s))
    RETURNING 1
)
SELECT pg_catalog.count(*) FROM gone
"""
