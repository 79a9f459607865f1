"""A flood of notifications by a stranger for 8 s: renewals, CPU, memory, log lines."""
import asyncio, sys, time, uuid, logging, threading, resource
sys.path[:0] = ["/tmp/wt/rev/tests/support", "/tmp/wt/rev/tools"]
import psycopg
from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.election.names import lock_key
from ansible_rulebook.ha.election.requests import Request, request_channel
from rig.server import pick_server
count = [0]
class H(logging.Handler):
    def emit(self, r): count[0] += 1; 
logging.getLogger().addHandler(H()); logging.getLogger().setLevel(logging.INFO)
FL = r'''
import sys, time, psycopg
c = psycopg.connect(sys.argv[1], autocommit=True)
end = time.time() + 8; n = 0
while time.time() < end:
    n += 200
    c.execute("SELECT pg_notify(%s, json_build_object('ask', 'switchover', 'reason', g::text || 'r' || %s)::text || repeat(' ', 3000)) FROM generate_series(1,200) g", (sys.argv[2], n))
print(n)
'''
async def main(dsn, server):
    role = f"r{uuid.uuid4().hex[:8]}"
    server.query(f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'")
    strange = psycopg.conninfo.make_conninfo(dsn, user=role, password="sesame")
    lost = []
    gaps = []; last = [time.monotonic()]
    def renewed(term):
        now = time.monotonic(); gaps.append(now - last[0]); last[0] = now
    u = uuid.uuid4()
    e = LeaderElection(dsn, str(u), worker_id="w1", poll_interval=0.4, lease_duration=2.1, on_renewal=renewed, on_demotion=lambda why: lost.append(why))
    f = LeaderElection(dsn, str(u), worker_id="w2", poll_interval=0.4, lease_duration=2.1)
    await e.start()
    while not e.is_leader(): await asyncio.sleep(.01)
    await f.start(); await asyncio.sleep(1)
    gaps.clear(); count[0] = 0
    cpu = time.process_time(); rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    p = await asyncio.create_subprocess_exec(sys.executable, "-c", FL, strange, request_channel(lock_key(u)), stdout=asyncio.subprocess.PIPE)
    out, _ = await p.communicate()
    print("sent", out.decode().strip(), "longest gap of renewals", round(max(gaps), 2), "lost", lost, "log lines", count[0], "cpu", round(time.process_time() - cpu, 1), "s of 8; rss +kB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss)
    await e.stop(); await f.stop()
with pick_server() as server:
    dsn = server.create_database()
    asyncio.run(main(dsn, server))
    server.drop_database(dsn)
