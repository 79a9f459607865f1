"""Every statement that the election sends."""

from __future__ import annotations

from typing import Final

# What a session begins with, and is asked again once it is set up. JSON comes
# whole whatever the client's encoding is.
_SETTINGS = """
SELECT pg_catalog.json_object_agg(
           pg_catalog.lower(name),
           pg_catalog.json_build_array(setting, source))
  FROM pg_catalog.pg_settings
 WHERE pg_catalog.lower(name) = ANY(%(names)s)
"""

READ_SETTINGS: Final = f"""
SELECT coalesce(({_SETTINGS}), '{{}}'::json)
"""

HELLO: Final = f"""
SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(),
       pg_catalog.inet_server_addr() IS NULL,
       coalesce(({_SETTINGS}), '{{}}'::json),
       (SELECT coalesce(pg_catalog.json_agg(application_name), '[]'::json)
          FROM pg_catalog.pg_stat_activity
         WHERE datname = pg_catalog.current_database()
           AND pid <> pg_catalog.pg_backend_pid()
           AND pg_catalog.left(application_name, %(length)s) = %(prefix)s)
"""

# The table of locks is emptied by a start, and by a crash of any process of
# the server; that resets its statistics, too.
LIFE: Final = """
SELECT pg_catalog.concat(
    pg_catalog.pg_postmaster_start_time(), '/',
    pg_catalog.pg_stat_get_bgwriter_stat_reset_time())
"""

# A promotion makes another timeline.
LINEAGE: Final = """
SELECT pg_catalog.concat(
    (SELECT system_identifier FROM pg_catalog.pg_control_system()), '/',
    pg_catalog.left(pg_catalog.pg_walfile_name(
        pg_catalog.pg_current_wal_lsn()), 8))
"""

# With state, each term is claimed in a table: see the package state.
HAS_CLAIMS: Final = """
SELECT pg_catalog.to_regclass('eda_ha_cluster') IS NOT NULL
"""

CLAIMED_LAST: Final = """
SELECT EXISTS (
    SELECT FROM eda_ha_cluster
     WHERE ha_uuid = %s AND claimant = %s AND lineage = %s)
"""

WRITE_SETTINGS: Final = """
SELECT pg_catalog.set_config(name, value, false)
  FROM ROWS FROM (
       pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])
  ) AS wanted (name, value)
"""

WRITE_SETTING: Final = "SELECT pg_catalog.set_config(%s, %s, false)"

TRY_LOCK: Final = "SELECT pg_catalog.pg_try_advisory_lock(%s)"

# A caught lock_not_available leaves nothing in the server's log, and the
# block ends its snapshot with each wait. What happened comes as a notice, with
# the name of the session that holds the lock and what that says of itself: a
# query for it would be a second statement in each interval.
ACQUIRED: Final = "eda-ha lock acquired"
NOT_ACQUIRED: Final = "eda-ha lock not acquired"
_BEACON: Final = """pg_catalog.substring(
           activity.query, '^/[*] eda-ha [{{][ -)+-~]*[}}] [*]/')"""
_HOLDER: Final = f"""activity.application_name, {_BEACON},
       extract(epoch FROM pg_catalog.clock_timestamp() - greatest(
           activity.query_start, activity.state_change))::float8"""

# What a takeover waits for asks the function below pg_stat_activity: to plan
# the joins of that view takes longer than all the rest. And a follower that
# looks at one session does not go through those of all others. (A prepared
# transaction has no process, and asked for none the function tells of all.)
_HERE: Final = """(
       SELECT oid FROM pg_catalog.pg_database
        WHERE datname = pg_catalog.current_database())"""
_HELD: Final = f"""
  FROM pg_catalog.pg_locks AS lock,
       pg_catalog.pg_stat_get_activity(lock.pid) AS activity
 WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
   AND lock.mode = 'ExclusiveLock' AND lock.database = {_HERE}
   AND lock.pid = activity.pid
"""
WAIT_LOCK: Final = f"""
DO $$ BEGIN
  PERFORM pg_catalog.pg_advisory_lock({{key}});
  RAISE NOTICE '{ACQUIRED}';
EXCEPTION WHEN lock_not_available THEN
  RAISE NOTICE '{NOT_ACQUIRED}%', (
SELECT pg_catalog.json_build_array({_HOLDER})
  {_HELD.strip()}
   AND lock.classid = {{high}}::oid AND lock.objid = {{low}}::oid
 LIMIT 1);
END $$
"""

# The server's own word on all that a leader relies on. An advisory lock with
# a 64-bit key shows its halves as classid and objid, and objsubid 1.
PROVE: Final = """
SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(),
       EXISTS (
         SELECT FROM pg_catalog.pg_locks
          WHERE locktype = 'advisory' AND granted AND objsubid = 1
            AND pid = pg_catalog.pg_backend_pid()
            AND classid = {high}::oid AND objid = {low}::oid)
"""

# Whether a role (of pg_roles, as theirs) could end a session of this role (as
# mine): the rules are those of pg_terminate_backend().
_COULD_END: Final = """
CASE WHEN mine.rolsuper THEN theirs.rolsuper
     ELSE pg_catalog.pg_has_role(theirs.oid, mine.oid, 'USAGE')
       OR pg_catalog.pg_has_role(theirs.oid, 'pg_signal_backend', 'USAGE')
END
"""

# The same for a worker that has just got the lock, and each session of the
# cluster: its name, and its last word if it has just given up the lead.
PROVE_WON: Final = f"""{PROVE.rstrip()},
       (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(
                   application_name,
                   CASE WHEN pid <> pg_catalog.pg_backend_pid()
                         AND beacon LIKE '%"ended":"%' THEN beacon END,
                   extract(epoch FROM at))), '[]'::json)
          FROM (SELECT pid, application_name, state_change AS at,
                       {_BEACON} AS beacon
                  FROM pg_catalog.pg_stat_get_activity(NULL) AS activity
                 WHERE datid = {_HERE}
                   AND pg_catalog.split_part(
                       application_name, ':', 2) = '{{hex}}') AS said)
"""

# Who is nominated to lead next, by a role that could end the session of this
# one. A nomination that is forgotten must not hold up everybody: a session
# that nominates looks at the lock all the time. Of another role it is not seen
# when it last did; see the module switchover.
NOMINATED: Final = f"""
SELECT application_name
  FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database()
   AND pg_catalog.left(application_name, %(length)s) = %(prefix)s
   AND coalesce(state_change > pg_catalog.clock_timestamp()
                               - interval '5 seconds', true)
   AND EXISTS (
       SELECT FROM pg_catalog.pg_roles AS theirs
         JOIN pg_catalog.pg_roles AS mine ON mine.rolname = current_user
        WHERE theirs.oid = usesysid AND {_COULD_END.strip()})
"""

LISTEN: Final = "LISTEN {channel}"

# Who could end this session may ask it to hand over.
ASKER: Final = f"""
SELECT asker.usename, {_COULD_END.strip()}
  FROM pg_catalog.pg_stat_activity AS asker
  JOIN pg_catalog.pg_roles AS theirs ON theirs.oid = asker.usesysid
  JOIN pg_catalog.pg_roles AS mine ON mine.rolname = current_user
 WHERE asker.pid = %s
"""

OTHERS: Final = """
SELECT query
  FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database()
   AND application_name <> %(own)s
   AND pg_catalog.left(application_name, %(length)s) = %(prefix)s
"""

NOTIFY: Final = "SELECT pg_catalog.pg_notify(%s, %s)"

UNLOCK: Final = "SELECT pg_catalog.pg_advisory_unlock(%s)"

# The leader's session.
HOLDER: Final = f"""
SELECT {_HOLDER.format()}
  {_HELD.strip()}
   AND lock.classid = %s::oid AND lock.objid = %s::oid
"""
