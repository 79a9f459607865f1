from __future__ import annotations
import time, uuid, collections, re
import psycopg, pytest
from e2e_support import FOLLOWING, PATIENCE, STATELESS, Stage, QUICK
from ansible_rulebook.ha.election.names import lock_key
from ansible_rulebook.ha.election.requests import Request, request_channel

@pytest.mark.parametrize("args", [[], STATELESS], ids=["state", "stateless"])
def test_handover(stage: Stage, args) -> None:
    leader, follower = stage.pair(args=args)
    channel = request_channel(lock_key(uuid.UUID(stage.ha_uuid)))
    total = 0
    with psycopg.connect(stage.dsn, autocommit=True) as asker:
        for turn in range(4):
            stage.hold(leader, f"h{turn}")
            for n in range(15):
                stage.post("say", f"w{total}"); total += 1
            asker.execute("SELECT pg_notify(%s, %s)", (channel, Request(to=follower.worker_id).payload()))
            for n in range(15):
                stage.post("say", f"w{total}"); total += 1
                time.sleep(0.02)
            time.sleep(0.5)
            lost_before = [l for l in leader.find("Lost leadership")]
            stage.let_go()
            stage.wait_journal(f"end {leader.worker_id} h{turn}")
            for n in range(15):
                stage.post("say", f"w{total}"); total += 1
                time.sleep(0.01)
            deadline = time.time() + 20
            while not follower.leads and time.time() < deadline: time.sleep(0.02)
            print("turn", turn, "follower leads", follower.leads)
            stage.hold_on()
            leader, follower = follower, leader
            time.sleep(1.2)
    deadline = time.time() + 10
    def said():
        return collections.Counter(m for l in stage.shown(r"says w\d+") for m in re.findall(r"says (w\d+)$", l.strip()))
    while len(said()) < total and time.time() < deadline: time.sleep(0.1)
    c = said()
    missing = [f"w{n}" for n in range(total) if f"w{n}" not in c]
    twice = {k: v for k, v in c.items() if v > 1}
    print("total", total, "missing", missing, "twice", twice)
    print(collections.Counter(stage.journal))
    print("\n".join(l[-170:] for l in stage.shown("Lost leadership|acquired|held|cancelled|dropped|refused|Handing")))
    assert not missing and not twice
    assert max(collections.Counter(stage.journal).values()) == 1
