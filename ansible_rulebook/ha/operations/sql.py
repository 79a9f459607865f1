"""The statements that look at clusters. None of them changes anything.

They run in a transaction that may only read. What a role may not see is
null, and no error.
"""

from __future__ import annotations

from typing import Final

from ..state.sql import CLUSTER, HISTORY, INBOX, MATCH, RECORD, SCHEMA

SERVER: Final = f"""
SELECT pg_catalog.current_database()::text AS database,
       pg_catalog.current_setting('server_version') AS version,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       current_user::text AS role,
       extract(epoch FROM pg_catalog.clock_timestamp())::float8 AS now,
       pg_catalog.to_regclass('{SCHEMA}') IS NOT NULL AS has_tables,
       coalesce((SELECT pg_catalog.bool_and(
                            coalesce(pg_catalog.has_table_privilege(
                                pg_catalog.to_regclass(name), 'SELECT'),
                                false))
                   FROM pg_catalog.unnest(%(tables)s::text[]) AS wanted (name)
                ), false) AS may_read,
       coalesce(pg_catalog.has_table_privilege(
           pg_catalog.to_regclass('{INBOX}'), 'SELECT'), false) AS has_inboxes
"""
TABLES: Final = [CLUSTER, HISTORY, RECORD, MATCH]

# Of a session's statement only a beacon is read: one line of printable ASCII
# at its head, without a star in it. The rest of the statement is not fetched:
# it may be in any encoding. (A session has the locks of its own database.)
SESSIONS: Final = """
SELECT activity.pid, activity.application_name,
       activity.query = '<insufficient privilege>' AS is_hidden,
       pg_catalog.substring(
           activity.query, '^/[*] eda-ha [{][ -)+-~]*[}] [*]/') AS beacon,
       extract(epoch FROM activity.backend_start)::float8 AS connected,
       extract(epoch FROM pg_catalog.clock_timestamp() - greatest(
           activity.query_start, activity.state_change))::float8 AS silent,
       lock.granted, lock.key
  FROM pg_catalog.pg_stat_activity AS activity
  LEFT JOIN (
       SELECT pid, granted,
              (classid::bigint << 32) | objid::bigint AS key
         FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1
       ) AS lock ON lock.pid = activity.pid
 WHERE activity.datname = pg_catalog.current_database()
   AND (pg_catalog.starts_with(activity.application_name, %(prefix)s)
        OR lock.granted
       AND (lock.key = ANY(%(keys)s::bigint[])
            OR pg_catalog.starts_with(
                activity.application_name, %(pause)s)))
 ORDER BY activity.backend_start, activity.pid
"""

MOST_COUNTED: Final = 100_000

# One row for each cluster that keeps state.
CLUSTERS: Final = f"""
SELECT ha_uuid::text, term, worker_id,
       extract(epoch FROM since)::float8 AS since,
       (SELECT pg_catalog.count(*)
          FROM (SELECT FROM {RECORD} AS content
                 WHERE content.ha_uuid = cluster.ha_uuid
                 LIMIT {MOST_COUNTED}) AS counted) AS records,
       (SELECT pg_catalog.count(*)
          FROM (SELECT FROM {MATCH} AS content
                 WHERE content.ha_uuid = cluster.ha_uuid
                 LIMIT {MOST_COUNTED}) AS counted) AS matches
  FROM {CLUSTER} AS cluster
 WHERE term > 0 AND (%(ha_uuid)s::uuid IS NULL OR ha_uuid = %(ha_uuid)s::uuid)
 ORDER BY ha_uuid
"""

# Of every inbox in which something waits.
INBOXES: Final = f"""
SELECT ha_uuid::text, inbox, pg_catalog.count(*) AS events,
       extract(epoch FROM pg_catalog.clock_timestamp()
           - pg_catalog.min(arrived))::float8 AS age
  FROM {INBOX}
 WHERE %(ha_uuid)s::uuid IS NULL OR ha_uuid = %(ha_uuid)s::uuid
 GROUP BY 1, 2 ORDER BY 1, 2
"""

# Tables of an earlier version lack some of the columns.
TERMS: Final = f"""
SELECT term, worker_id, extract(epoch FROM since)::float8 AS since,
       extract(epoch FROM (told->>'until')::timestamptz)::float8 AS until,
       told->>'ended' AS ended, told->>'replaces' AS replaces,
       told->>'evidence' AS evidence, (told->>'gap')::float8 AS gap,
       (told->>'records')::bigint AS records,
       (told->>'matches')::bigint AS matches,
       (told->>'events')::bigint AS events,
       (told->>'actions')::bigint AS actions
  FROM (SELECT term, worker_id, since, pg_catalog.to_jsonb(history) AS told
          FROM {HISTORY} AS history
         WHERE ha_uuid = %(ha_uuid)s::uuid
         ORDER BY term DESC LIMIT %(most)s) AS last
 ORDER BY term DESC
"""

# What a host says of itself; see host.py.
HOST: Final = """
SELECT pg_catalog.pg_backend_pid() AS backend,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       pg_catalog.current_setting('transaction_read_only') = 'on'
           AS is_read_only,
       pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_setting('server_version_num')::integer AS number,
       pg_catalog.current_setting('server_encoding') AS encoding,
       pg_catalog.current_setting('track_activity_query_size')
           AS query_size,
       pg_catalog.pg_postmaster_start_time()::text AS started,
       pg_catalog.inet_server_addr() IS NULL AS is_local,
       current_user::text AS role
"""
