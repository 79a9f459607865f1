import asyncio, sys, time, uuid, logging
sys.path[:0] = ["/tmp/wt/rev/tests/support", "/tmp/wt/rev/tools"]
logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(levelname)s %(message)s")
import psycopg
from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.requests import Request
from ansible_rulebook.ha.election.names import lock_key
from ansible_rulebook.ha.operations.switchover import Switchover
from rig.server import pick_server
from rig.proxy import Proxy
async def hang(dsn):
    e = LeaderElection(dsn, str(uuid.uuid4()), worker_id="w1", poll_interval=0.4, lease_duration=2.1)
    f = LeaderElection(dsn, str(e.ha_uuid), worker_id="w2", poll_interval=0.4, lease_duration=2.1)
    await e.start()
    while not e.is_leader(): await asyncio.sleep(0.01)
    await f.start(); await asyncio.sleep(.5)
    with Proxy.for_dsn(dsn) as proxy:
        sw = Switchover(Conninfo(proxy.dsn), e.ha_uuid, Request(to="w2"))
        await sw.__aenter__()
        proxy.deaf()
        t = time.monotonic()
        try:
            print("run:", await asyncio.wait_for(sw.run(2), 15))
        except BaseException as x: print("Switchover.run(2) on a deaf server:", repr(x), round(time.monotonic()-t,1), "s")
        proxy.cut()
    await f.stop(); await e.stop()
async def shared(dsn):
    u = uuid.uuid4()
    a = psycopg.connect(dsn, autocommit=True); b = psycopg.connect(dsn, autocommit=True)
    for c in (a, b): c.execute("SELECT pg_advisory_lock_shared(%s)", (lock_key(u),))
    e = LeaderElection(dsn, str(u), worker_id="w1", poll_interval=0.4, lease_duration=2.1)
    await e.start(); await asyncio.sleep(4); await e.stop()
    a.close(); b.close()
with pick_server() as server:
    dsn = server.create_database()
    print("-- shared"); asyncio.run(shared(dsn))
    print("-- hang"); asyncio.run(asyncio.wait_for(hang(dsn), 40))
