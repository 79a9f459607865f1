"""Only a follower (the lock is held by a plain session); flood; its memory."""
import asyncio, sys, uuid, resource, os
sys.path[:0] = ["/tmp/wt/rev/tests/support", "/tmp/wt/rev/tools"]
import psycopg
from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.election.names import lock_key
from ansible_rulebook.ha.election.requests import request_channel
from rig.server import pick_server
FL = r'''
import sys, time, psycopg
c = psycopg.connect(sys.argv[1], autocommit=True)
end = time.time() + 8; n = 0
while time.time() < end:
    n += 200
    c.execute("SELECT pg_notify(%s, g::text || 'r' || %s || repeat('x', 7000)) FROM generate_series(1,200) g", (sys.argv[2], n))
print(n)
'''
async def main(dsn, poll):
    u = uuid.uuid4()
    h = psycopg.connect(dsn, autocommit=True); h.execute("select pg_advisory_lock(%s)", (lock_key(u),))
    f = LeaderElection(dsn, str(u), worker_id="w2", poll_interval=poll, lease_duration=60)
    await f.start(); await asyncio.sleep(1)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    p = await asyncio.create_subprocess_exec(sys.executable, "-c", FL, dsn, request_channel(lock_key(u)), stdout=asyncio.subprocess.PIPE)
    out, _ = await p.communicate()
    await asyncio.sleep(1)
    print("poll", poll, "sent", out.decode().strip(), "x 7 kB; peak of a follower's memory +MB", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss)//1024, flush=True)
    h.close(); await f.stop()
with pick_server() as server:
    dsn = server.create_database()
    asyncio.run(main(dsn, 5.0))
    asyncio.run(main(dsn, 30.0))
    server.drop_database(dsn)
